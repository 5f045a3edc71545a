"""Every format of files is read by one module, and is known wherever one has to be."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest

from dpbeam.pipelines.cli import init
from dpbeam.queries.source import FORMATS, Format, format_of
from dpbeam.reading.formats import READERS, FormatModule

ROOT = Path(__file__).parents[3]


def test_every_format_has_its_facts_and_its_module() -> None:
    assert list(FORMATS) == list(READERS) == list(get_args(Format))


@pytest.mark.parametrize("step", ["inspect", "read"])
@pytest.mark.parametrize("name", READERS)
def test_every_module_of_a_format_has_the_steps_of_all(name: Format, step: str) -> None:
    wanted = list(inspect.signature(getattr(FormatModule, step)).parameters.values())[1:]
    assert list(inspect.signature(getattr(READERS[name], step)).parameters.values()) == wanted


def test_init_reads_the_schema_of_every_format_that_states_one() -> None:
    assert set(init._STATED) == {name for name, format in FORMATS.items() if not format.packed_whole}


def test_no_two_formats_are_told_by_the_same_suffix_or_bytes() -> None:
    suffixes = [suffix for format in FORMATS.values() for suffix in format.suffixes]
    heads = [format.magic for format in FORMATS.values() if format.magic is not None]
    assert (len(set(suffixes)), len(set(heads))) == (len(suffixes), len(heads))


def test_the_page_on_input_has_a_column_for_every_format() -> None:
    (head,) = [
        line
        for line in (ROOT / "docs/input.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| | CSV ")
    ]
    assert head.count("|") - 2 == len(FORMATS)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("visits.csv.gz", "csv"),
        ("data/*.parquet", "parquet"),
        ("gs://bucket/v1.2/part.jsonl", "jsonl"),
        ("part-0.feather", "arrow"),
        ("old.csv/part-0", None),
        ("visits", None),
    ],
)
def test_a_name_tells_the_format_by_its_suffixes(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_the_recipe_for_contributors_names_a_format_s_files() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How to add a source format")[2]
    files = [
        path for path in (ROOT / "dpbeam").rglob("*.py") if "arrow.file_schema" in path.read_text(encoding="utf-8")
    ]
    files += [path for path in (ROOT / "dpbeam").rglob("*.py") if '"arrow": ' in path.read_text(encoding="utf-8")]
    named = {path.resolve().relative_to(ROOT).as_posix() for path in files} | {"dpbeam/reading/formats/arrow.py"}
    assert [name for name in named if name not in guide] == []
