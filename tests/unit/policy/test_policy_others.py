"""An `other` for keys that aren't listed, or aren't kept: what a policy may say of it, and what is wrong there."""

from __future__ import annotations

import pyarrow as pa
import pytest

import dpbeam
from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.queries.query import Public
from dpbeam.queries.selections import Hierarchy
from dpbeam.queries.source import Placed
from dpbeam.reading.rows import prepare
from tests.helpers import policy_text as shared

PRIVATE = "{private: {strategy: truncated_geometric, pre_threshold: 10}}"
SHARED = "    group_by: [place]\n    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}\n"


def policy(partitions: str, keys: str = "[place]") -> str:
    assert shared.BASE.count(SHARED) == 1
    return shared.BASE.replace(SHARED, f"    group_by: {keys}\n    partitions: {partitions}\n")


def stage_of(tmp_path, text: str):
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    return query(load_policy(tmp_path / "policy.yaml"))


def test_rows_that_are_not_listed_are_placed_in_the_partition_of_that_label(tmp_path):
    asked = stage_of(tmp_path, policy("{public: {values: [inn, zoo], other: rest}}"))
    (stage,) = asked.stages
    assert stage.public.column("place").to_pylist() == ["inn", "zoo", "rest"]
    rows = pa.RecordBatch.from_pydict(
        {
            "person": ["a"] * 4,
            "place": ["inn", "bar", "rest", ""],
            "hours": [1.0] * 4,
            "seen": pa.array([0] * 4, pa.date32()),
            "at": pa.array([0] * 4, pa.timestamp("us")),
        }
    )
    found = prepare(rows, asked.source)
    assert found.column(stage.placed).to_pylist() == ["inn", "rest", "rest", "rest"]
    assert found.column("place").to_pylist() == ["inn", "bar", "rest", ""]


def test_a_label_has_the_type_of_the_key(tmp_path):
    (stage,) = stage_of(tmp_path, policy("{public: {values: ['2024-05-01'], other: '0001-01-01'}}", "[seen]")).stages
    assert stage.public.schema.field("seen").type == pa.date32()


def test_a_stage_without_an_other_has_no_column_of_its_own(tmp_path):
    asked = stage_of(tmp_path, policy("{public: {values: [inn, zoo]}}"))
    assert asked.stages[0].placed is None
    assert asked.source.derived == ()
    assert "band" in asked.source.unused


def test_the_digest_tells_of_an_other(tmp_path):
    texts = ("{public: {values: [inn]}}", "{public: {values: [inn], other: a}}", "{public: {values: [inn], other: b}}")
    assert len({stage_of(tmp_path, policy(text)).digest for text in texts}) == 3


def test_a_single_private_key_has_an_other_as_hierarchical_keys_have(tmp_path):
    (stage,) = stage_of(tmp_path, policy(PRIVATE.replace("}}", ", other: true, other_l0: 2}}"))).stages
    assert stage.selection.hierarchy == Hierarchy(other_l0=2)


ERRORS = {
    "a label that is listed": (
        policy("{public: {values: [inn, zoo], other: zoo}}"),
        "19: stages[0].partitions.public.other must be no partition that is listed, got 'zoo'",
        "Remove it from the list, or give another label.",
    ),
    "a label of another type": (
        policy("{public: {values: [inn, zoo], other: 1}}"),
        "19: stages[0].partitions.public.other must be text, for its column is string, got 1",
        "Give a value of the column's type.",
    ),
    "several public keys": (
        policy("{public: {values: [[inn, '2024-05-01']], other: rest}}", "[place, seen]"),
        "19: stages[0].partitions.public.other must be left out where group_by has several columns, got 'rest'",
        "Derive a column that has the label where its value isn't listed, and list the label.",
    ),
    "several private keys": (
        policy(PRIVATE.replace("}}", ", other: true}}"), "[place, seen]"),
        "19: stages[0].partitions.private.other needs one column in group_by, and a metric",
        "Leave the key out; several columns may be hierarchical: true.",
    ),
    "a private label": (
        policy(PRIVATE.replace("}}", ", other: rest}}")),
        "19: stages[0].partitions.private.other must be true or false, got 'rest'",
        "Give a label for all that isn't listed, of the key's type; of private partitions write true.",
    ),
    "a public true": (
        policy("{public: {values: [inn, zoo], other: true}}"),
        "19: stages[0].partitions.public.other must be text, for its column is string, got true",
        "Give a value of the column's type.",
    ),
    "hierarchical keys of one column": (
        policy(PRIVATE.replace("}}", ", hierarchical: true}}")),
        "19: stages[0].partitions.private.hierarchical needs at least two columns in group_by, from coarse to fine, and"
        " a metric",
        "Leave the key out, or list them.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_with_an_other_is_said(case, tmp_path):
    text, said, remedy = ERRORS[case]
    assert (said, remedy) in shared.problems(tmp_path, text)


def test_rows_are_placed_by_one_key_alone(tmp_path):
    (stage,) = stage_of(tmp_path, policy("{public: {values: [[inn, '2024-05-01']]}}", "[place, seen]")).stages
    with pytest.raises(ValueError, match="rows that aren't listed can only be placed where there is one key"):
        type(stage)(**{**vars(stage), "partitions": Public(table=stage.public, placed="__partition.by_place")})


@pytest.mark.parametrize("label", [pa.scalar("a"), pa.scalar(1), pa.scalar(None, pa.string())], ids=str)
def test_a_label_is_none_of_what_is_listed(label):
    with pytest.raises(ValueError, match="needs a label that isn't listed"):
        Placed(name="p", column="c", type="string", listed=pa.array(["a", "b"]), label=label)


def test_a_query_in_python_takes_an_other():
    columns = {"who": "string", "k": "int64"}
    asked = dpbeam.query("visits", source="v.csv", unit="who", epsilon=1.0, delta=1e-6, columns=columns)
    made = asked.group_by("k").public([1, 2], other=-1).bounds(l0=1, linf=1).count()
    assert made.to_data()["stages"][0]["partitions"] == {"public": {"values": [1, 2], "other": -1}}
    assert query(made.policy()).stages[0].public.column("k").to_pylist() == [1, 2, -1]
