"""What to do about a key is said by where it stands: a column may have the name of any key of the policy."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dpbeam.policy.checks import fields

NAMES = sorted({*fields.REMEDIES, *fields._SEARCH_REMEDIES, "top_k", "word", "mapping", "row_", "sum"})


def base(name: str) -> dict[str, Any]:
    """A policy whose column, derived column, product key and parameter have this name."""
    product = {"public": {"product": {name: ["a"]}}}
    metric = {"custom": {"metric": "none", "columns": [name], "params": {name: 1}}}
    return {
        "version": 1,
        "dataset": "d",
        "source": {"format": "csv", "path": "d.csv"},
        "privacy_unit": "person",
        "columns": {"person": {"type": "string"}, name: {"type": "string", "on_null": "drop"}},
        "derive": {name: {"lower": "person"}},
        "run": {"epsilon": 1, "delta": 1e-8},
        "stages": [
            {
                "name": "one",
                "group_by": [name],
                "partitions": product,
                "bounds": {"l0": 1, "linf": 1},
                "metrics": ["count", metric],
                "noise": "laplace",
            }
        ],
    }


WRONG: dict[str, tuple[tuple[Any, ...], Any]] = {
    "a column of no mapping": (("columns", "NAME"), "string"),
    "a column of an unknown type": (("columns", "NAME", "type"), "text"),
    "a column with an unknown rule": (("columns", "NAME", "on_null"), "explode"),
    "a stand-in of no value": (("columns", "NAME", "on_null"), {"replace": float("nan")}),
    "an unknown key of a column": (("columns", "NAME"), {"type": "string", "wrong": 1}),
    "a key in place of a rule's word": (("columns", "NAME"), {"type": "string", "word": 1}),
    "a derived column of no mapping": (("derive", "NAME"), "x"),
    "a derived column of no kind": (("derive", "NAME"), {"wrong": 1}),
    "edges of no numbers": (("derive", "NAME"), {"bin": "person", "edges": ["x"]}),
    "a product of no list": (("stages", 0, "partitions", "public", "product", "NAME"), "a"),
    "a product of no value": (("stages", 0, "partitions", "public", "product", "NAME"), [None]),
    "an empty product": (("stages", 0, "partitions", "public", "product", "NAME"), []),
    "a parameter of no value": (("stages", 0, "metrics", 1, "custom", "params", "NAME"), None),
    "a parameter of a mapping": (("stages", 0, "metrics", 1, "custom", "params", "NAME"), {"auto": 1}),
    "a list of columns of numbers": (("stages", 0, "metrics", 1, "custom", "columns"), [5]),
}


def found(case: str, name: str) -> list[tuple[Any, ...]]:
    """All that is said of a policy that is wrong at one place, with the name taken out of the keys."""
    at, wrong = WRONG[case]
    policy = copy.deepcopy(base(name))
    here: Any = policy
    for part in at[:-1]:
        here = here[name if part == "NAME" else part]
    here[name if at[-1] == "NAME" else at[-1]] = wrong
    places = [i for i, part in enumerate(at) if part == "NAME"]
    return [
        (tuple("NAME" if i in places else part for i, part in enumerate(each.key)), each.rule, each.remedy)
        for each in fields.field_findings(policy)
    ]


@pytest.mark.parametrize("case", WRONG)
def test_a_name_that_is_a_key_of_the_policy_changes_no_remedy(case: str) -> None:
    usual = found(case, "zzz")
    assert usual
    assert {name: found(case, name) for name in NAMES} == dict.fromkeys(NAMES, usual)
