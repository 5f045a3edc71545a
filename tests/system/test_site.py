"""The pages as a site: built without a warning, whole by itself, and asking nobody for anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

import dpbeam
from tests.helpers.browser import executable
from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[2]
LOADING = {"img": "src", "script": "src", "source": "src", "iframe": "src"}
"""What a browser fetches without being asked to, beside links to style sheets and the like."""


class Names(HTMLParser):
    """What a page leads to, what it loads, and the names in it that links may lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link":
            self.loaded.append(found["href"])
        if tag in LOADING and found.get(LOADING[tag]):
            self.loaded.append(found[LOADING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky", "--conf-dir", "docs/site"]
    places = ["--doctree-dir", folder / "doctrees", ".", folder / "html"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, *map(str, places)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Names]:
    return {path: Names(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_of_the_repository_is_in_the_site(site) -> None:
    sources = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    made = [site / source.relative_to(ROOT).with_suffix(".html") for source in sources]
    assert len(made) > 20
    assert [str(path) for path in made if not path.is_file()] == []


def test_every_link_within_the_site_leads_to_a_file_and_a_section_that_are_there(pages) -> None:
    lost, looked = [], 0
    for page, names in pages.items():
        for link in [*names.links, *names.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            looked += 1
            to = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            ids = pages[to].ids | {""} if to in pages else {"", parts.fragment}
            if not to.is_file() or unquote(parts.fragment) not in ids:
                lost.append((page.name, link))
    assert lost == []
    assert looked > 1000


def test_no_page_loads_anything_from_elsewhere(pages) -> None:
    assert [(page.name, each) for page, names in pages.items() for each in names.loaded if urlsplit(each).netloc] == []
    assert sum(len(names.loaded) for names in pages.values()) > 100


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_opens_it_from_the_disk_and_asks_for_nothing_else(site, browser, width) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((site / "docs" / "policy.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert page.locator("h1").inner_text().startswith("The policy file")
    assert [url for url in asked if not url.startswith(site.as_uri())] == []
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_reference_has_every_command_every_key_and_every_public_name(site) -> None:
    commands, keys, api = (
        (site / "docs" / f"{page}.html").read_text(encoding="utf-8") for page in ("commands", "keys", "api")
    )
    for path, command in COMMANDS.items():
        assert f'id="{"-".join(("dpbeam", *path))}"' in commands
        assert [
            name
            for option in command.params
            for name in option.opts
            if f">{name}</" not in commands and name.startswith("-")
        ] == []
    schema = json.loads((ROOT / "dpbeam" / "policy" / "policy.schema.json").read_text(encoding="utf-8"))
    stated = {key for each in [schema, *schema["$defs"].values()] for key in each.get("properties", ())}
    assert [key for key in sorted(stated) if f">{key}</" not in keys] == []
    assert [name for name in dpbeam.__all__ if f'id="dpbeam-{name.lower().replace("_", "-")}"' not in api] == [
        "__version__"
    ]


WIDER = """
() => [...document.querySelectorAll('text.question, text.advice')].filter(text => {
    const box = text.getBBox();
    return ![...document.querySelectorAll('rect')].some(each => {
        const frame = each.getBBox();
        return frame.x <= box.x && box.x + box.width <= frame.x + frame.width && frame.y <= box.y &&
            box.y + box.height <= frame.y + frame.height;
    });
}).map(text => text.textContent)
"""


def test_no_words_of_a_decision_tree_stick_out_of_their_box(site, browser) -> None:
    pictures = sorted((site / "_images").glob("choose_*.svg"))
    assert len(pictures) == 5
    for picture in pictures:
        page = browser.new_page()
        page.goto(picture.as_uri())
        assert page.locator("text").count() > 3
        assert page.evaluate(WIDER) == [], picture.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "policy", "operator", "choosing", "commands", "api"])
def test_readers_of_every_kind_can_read_it(site, browser, name, scheme) -> None:
    page = browser.new_context(color_scheme=scheme).new_page()
    page.goto((site / "docs" / f"{name}.html").as_uri())
    found = {each["id"]: each["nodes"][0]["html"] for each in Axe().run(page).response["violations"]}
    found.pop("landmark-unique", None)  # Furo's two sidebars have no names
    assert found == {}


def test_the_first_page_leads_to_the_index(site, browser) -> None:
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.wait_for_url("**/docs/index.html")
    assert page.locator("h1").inner_text().startswith("dpbeam: where to start")


def test_search_works_without_a_server(site, browser) -> None:
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=fence")
    page.locator("ul.search li a").first.wait_for()
    links = page.locator("ul.search li a").evaluate_all("found => found.map(each => each.getAttribute('href'))")
    assert any(link.startswith("docs/ledger.html") for link in links)
