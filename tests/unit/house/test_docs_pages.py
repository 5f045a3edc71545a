"""The pages hold together: each is found from the index, and every link, path, section and term they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = next(folder for folder in Path(__file__).parents if (folder / "setup.py").is_file())
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *DOCS,
    ROOT / "tests/mutation/survivors.md",
]
GLOSSARY = ROOT / "docs" / "glossary.md"

TERMS = {
    "Privacy unit": "privacy units?",
    "Neighbouring tables": "neighbouring",
    "Sensitivity": "sensitivit(?:y|ies)",
    "Mechanism": "mechanisms?",
    "Composition": "compositions?|composed?",
    "Quantity": "quantit(?:y|ies)",
    "PLD": "PLDs?",
    "RDP": "RDP",
    "Law": "laws?",
    "Pre-threshold": "pre-thresholds?",
    "Post-processing": "post-processing",
    "Private selection": "selections?",
    "Public partitions": "public partitions",
    "Partition": "partitions?",
    "Fence": "fences?",
    "Staging": "staging",
    "Control totals": "control totals",
    "Salt": "salts?",
    "Ledger": "ledgers?",
    "Manifest": "manifests?",
    "Trust zone": "trust zone",
    "Fingerprint": "fingerprints?",
    "Digest": "digests?",
    "Keyed hash": "keyed hash(?:es)?",
    "Leaf": "leaf",
    "Shard": "shards?",
    "Shuffle": "shuffles?",
    "Calibration": "calibration",
    "Certifier": "certifier",
    "Coupling": "couplings?",
    "Dominating pair": "dominating pairs?",
    "Fixed point": "fixed[ -]point",
    "Meter": "meter",
    "Mutant": "mutants?|seeded bugs?",
    "Journal": "journals?",
    "Hierarchical keys": "hierarchical keys",
    "Automatic bounds": "automatic bounds",
}
"""Terms that a reader can't be expected to know, and how they read in a sentence."""


def blank(match: re.Match[str]) -> str:
    return re.sub(r"\S", " ", match[0])


def prose(page: Path) -> str:
    """A page's text, at the same places, without what stands in blocks of code."""
    text = re.sub(r"^(```+)[^`].*?^\1$", blank, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", blank, text, flags=re.MULTILINE)


def sentences(page: Path) -> str:
    """A page's prose, at the same places, without headings, names in code, and links but those to the glossary."""
    text = re.sub(r"^#.*$", blank, prose(page), flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", blank, text)
    return re.sub(r"\[[^\]]*\]\((?!glossary\.md)[^)]*\)", blank, text)


def slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """What a link to a section of the page may name, by GitHub's rule."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    slugs = [slug(title) for title in titles]
    return {slug if slug not in slugs[:at] else f"{slug}-{slugs[:at].count(slug)}" for at, slug in enumerate(slugs)}


def links(page: Path) -> list[tuple[Path, str]]:
    """The file and the section of each link that doesn't leave the repository."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", target)]
    parts = [target.partition("#") for target in targets]
    return [((page.parent / path).resolve() if path else page, section) for path, _, section in parts]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = [(str(to), section) for to, section in links(page) if not to.exists()]
    lost += [(str(to), section) for to, section in links(page) if section and section not in anchors(to)]
    assert lost == []


def test_the_index_leads_to_every_page() -> None:
    linked = {to for to, _ in links(ROOT / "docs" / "index.md")}
    expected = {*PAGES[:3], *DOCS} - {ROOT / "docs" / "index.md"}
    assert {name_of(page) for page in expected - linked} == set()
    assert ROOT / "docs" / "index.md" in {to for to, _ in links(ROOT / "README.md")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """But the changelog's, which tells of versions whose files had other names."""
    named = re.findall(
        r"(?<![\w/.-])(?:dpbeam|transforms|pipelines|tests|docs|examples|benchmarks)/[\w./*-]*",
        page.read_text(encoding="utf-8"),
    )
    paths = {path.rstrip(".,") for path in named}
    assert [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))] == []


def test_the_pages_name_enough_paths_to_be_looked_for() -> None:
    named = [
        path for page in PAGES for path in re.findall(r"tests/[\w/]+/test_\w+\.py", page.read_text(encoding="utf-8"))
    ]
    assert len(set(named)) > 40


def test_every_section_that_code_and_pages_quote_exists() -> None:
    files = [
        path for folder in ("dpbeam", "transforms", "pipelines", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    lost, quoted = [], 0
    for path in [*files, *PAGES]:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8").replace('"\n', " ").replace('"docs', "docs"))
        for page, section in re.findall(r"""docs/(\w+)\.md,? \(?["'](.+?)["']""", text):
            quoted += 1
            titles = re.findall(r"^#+ (.*)$|^\*\*(.*?)\.\*\*", prose(ROOT / "docs" / f"{page}.md"), re.MULTILINE)
            if section not in {"".join(title) for title in titles}:
                lost.append((name_of(path), page, section))
    assert lost == []
    assert quoted > 5


def test_every_target_of_make_that_the_pages_name_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "lint"} <= named <= set(targets)


def test_the_map_of_the_house_names_every_room() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE))
    rooms = {path.name for path in (ROOT / "dpbeam").iterdir() if (path / "__init__.py").is_file()}
    assert rooms - named == set()


def test_the_line_that_the_guide_changes_is_in_the_code() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    path, line = re.search(r"in\n`(\S+)`, replace\n\n```python-line\n(.*)\n```", guide).groups()
    assert (ROOT / path).read_text(encoding="utf-8").count(f"    {line}\n") == 1


def test_every_decision_has_its_date_and_the_newest_of_a_theme_come_first() -> None:
    themes = re.split(r"^## ", (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for theme in themes:
        entries = re.split(r"^### ", theme, flags=re.MULTILINE)[1:]
        dates = [re.findall(r"\*(\d{4}-\d\d-\d\d)\*\s*\Z", entry) for entry in entries]
        assert [entry.split("\n")[0] for entry, date in zip(entries, dates, strict=True) if len(date) != 1] == []
        assert dates == sorted(dates, reverse=True), theme.split("\n")[0]


def test_the_changelog_has_a_section_for_the_version_and_for_what_is_to_come() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    version = re.search(r'"(.*)"', (ROOT / "dpbeam" / "_version.py").read_text(encoding="utf-8").split("=")[1]).group(1)
    assert titles[0] == "Unreleased"
    assert [title for title in titles[1:] if not re.fullmatch(r"\d+\.\d+\.\d+ – \d{4}-\d\d-\d\d", title)] == []
    released = titles[1].split(" ")[0]
    assert version == released or (Version(version).is_devrelease and Version(version) > Version(released))


def test_the_glossary_has_every_term_once_in_order_and_in_few_sentences() -> None:
    entries = re.findall(
        r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    titles = [title for title, _ in entries]
    assert titles == sorted(set(titles), key=str.lower)
    assert set(TERMS) <= set(titles)
    assert [title for title, text in entries if not 1 <= len(re.findall(r"\.(?:\s|$)", text)) <= 3] == []


@pytest.mark.parametrize(
    "page",
    [page for page in DOCS if page.name not in ("index.md", "glossary.md", "benchmarks.md", "decisions.md")],
    ids=name_of,
)
def test_a_page_links_a_term_where_it_first_uses_it(page: Path) -> None:
    """But the index, the benchmarks' page, which a command makes, and decisions, which are looked up one by one."""
    text, whole, unlinked = sentences(page), prose(page), []
    for title, forms in TERMS.items():
        form = forms.replace(" ", r"\s+")
        used = re.search(rf"(?<![\w-])(?:{form})(?![\w-])", text, 0 if title.isupper() else re.IGNORECASE)
        target = whole.find(f"](glossary.md#{slug(title)})")
        if used and (target < 0 or whole.rfind("[", 0, target) > used.start()):
            unlinked.append((title, whole[used.start() - 30 : used.end() + 10]))
    assert unlinked == []
