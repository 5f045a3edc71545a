"""docs/expressions.md says what there is: its tables are those of the code, and its policies load."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from dpbeam.policy.json_schema import json_schema
from dpbeam.policy.load import load_policy
from dpbeam.policy.yamlfile import read_yaml
from dpbeam.queries.functions import ALL_TYPES, FUNCTIONS, Function, Signature
from dpbeam.reading.expressions.parsing import DIRECTIVES
from tests.helpers import policy_text

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "expressions.md").read_text(encoding="utf-8")
NUMBERS = "number"


def types(signatures: tuple[Signature, ...]) -> tuple[str, str]:
    """What a function takes and gives, in few words: `any` for all types, `number` for whole numbers and floats."""
    takes = [list(dict.fromkeys(kinds)) for kinds in zip(*(each.takes for each in signatures), strict=False)]
    first = sorted({tuple(names) for names in takes}, key=len)[-1]
    alike = all(len(set(each.takes)) == 1 for each in signatures)
    stated = worded(first) if alike else "; ".join(", ".join(each.takes) for each in signatures)
    gives = list(dict.fromkeys(each.gives for each in signatures))
    same = [each.gives for each in signatures] == [each.takes[0] for each in signatures]
    return stated, "the same" if same and len(gives) > 1 else worded(tuple(gives))


def worded(names: tuple[str, ...]) -> str:
    if set(names) == set(ALL_TYPES):
        return "any"
    if names == ("int64", "float64"):
        return NUMBERS
    return "any but bool" if set(names) == set(ALL_TYPES) - {"bool"} else " or ".join(names)


def line(function: Function) -> str:
    takes, gives = types(function.signatures)
    return f"| `{function.written}` | {takes} | {gives} | {function.does} | {function.invalid or '–'} |"


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_the_table_has_every_function_as_the_code_does(function):
    assert line(function) in DOC.splitlines()


def test_the_tables_have_no_other_function():
    stated = [found for found in DOC.splitlines() if found.startswith("| `") and found.count("|") == 6]
    assert stated == [line(function) for function in FUNCTIONS.values()]


def test_the_table_of_formats_is_that_of_the_code():
    stated = [found for found in DOC.splitlines() if found.startswith("| `%")]
    assert stated == [f"| `{sign}` | {words} |" for sign, (_, _, words) in DIRECTIVES.items()]


BLOCKS = re.findall(r"```yaml-derive\n(.*?)```", DOC, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_derived_column_in_the_docs_loads(block, tmp_path):
    (tmp_path / "towns.csv").write_text("name,region\nPARIS,north\n", encoding="utf-8")
    columns = (
        "  city: {type: string}\n  cost: {type: float64}\n  guests: {type: int64}\n  born: {type: date}\n"
        "  visited: {type: timestamp}\n  paid: {type: string}\n  day: {type: string}\n"
    )
    text = policy_text.BASE.replace("derive: {band: {bin: hours, edges: [1, 2]}}\n", columns + block)
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").derive
    jsonschema.validate(read_yaml(tmp_path / "policy.yaml").data, json_schema())


def test_the_docs_have_derived_columns_to_load():
    assert len(BLOCKS) == 3
