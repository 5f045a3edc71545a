"""What `dpbeam check` says of the data is what a count by hand says."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.checking import examine as checking
from dpbeam.pipelines.checking.figures import Figures
from dpbeam.pipelines.checking.kept import kept_by
from dpbeam.pipelines.checking.merged import Merged, plain
from dpbeam.policy.load import policy_of

L0, LINF, LOW, HIGH = 3, 2, 2.0, 8.0


def policy(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "version": 1,
        "dataset": "visits",
        "source": {"format": "parquet", "path": "t.parquet"},
        "privacy_unit": "person",
        "columns": {
            "person": {"type": "string"},
            "place": {"type": "string"},
            "amount": {"type": "float64", "on_nan": "fail", "on_inf": {"replace": 5}},
            "note": {"type": "string", "on_null": "fail"},
        },
        "where": [{"column": "amount", "op": ">", "value": 1}, {"column": "place", "op": "!=", "value": "x1"}],
        "run": {"epsilon": 1, "delta": 1e-6},
        "stages": [
            {
                "name": "s",
                "group_by": ["place"],
                "partitions": {"private": {"strategy": "laplace_thresholding"}},
                "bounds": {"l0": L0, "linf": LINF},
                "metrics": ["count", {"sum": {"column": "amount", "low": LOW, "high": HIGH}}],
                "noise": "laplace",
            }
        ],
    }
    return made | changes


def rows_of(count: int) -> list[dict[str, Any]]:
    """Rows with every kind of trouble; a few people with very many."""
    dice = random.Random(5)
    amounts = [None, float("nan"), float("inf"), *map(float, range(12))]
    people = [None, *(f"p{i}" for i in range(40)), *["bot"] * 10, "P1", "p2 "]
    places = [None, *(f"x{i}" for i in range(9)), "X 2", "x_2", "x-2"]
    return [
        {"person": dice.choice(people), "place": dice.choice(places), "amount": dice.choice(amounts), "note": None}
        for _ in range(count)
    ]


def examined(folder: Path, rows: list[dict[str, Any]], asked: dict[str, Any], **how: Any) -> Figures:
    schema = pa.schema([("person", "string"), ("place", "string"), ("amount", "float64"), ("note", "string")])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "t.parquet", row_group_size=200)
    return checking.examine(policy_of(asked, folder=folder), **how)


ROWS = rows_of(2000)
WHOLE = [
    row | {"amount": 5.0 if row["amount"] == float("inf") else row["amount"]}
    for row in ROWS
    if None not in (row["person"], row["place"], row["amount"]) and row["amount"] == row["amount"]
]
LEFT = [row for row in WHOLE if row["amount"] > 1 and row["place"] != "x1"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return examined(tmp_path_factory.mktemp("check"), ROWS, policy())


def test_rows_are_counted_by_column_and_rule(found: Figures) -> None:
    nulls = Counter(name for row in ROWS for name in ("person", "place", "amount") if row[name] is None)
    odd = [row["amount"] for row in ROWS if row["amount"] is not None]
    assert {(b.column, b.rule, b.action): b.rows for b in found.broken} == {
        ("person", "on_null", "drop"): nulls["person"],
        ("place", "on_null", "drop"): nulls["place"],
        ("amount", "on_null", "drop"): nulls["amount"],
        ("amount", "on_nan", "fail"): sum(value != value for value in odd),
        ("amount", "on_inf", "replace"): sum(value == float("inf") for value in odd),
    }
    assert (found.rows, found.dropped) == (len(ROWS), len(ROWS) - len(WHOLE))


def test_rows_and_units_are_counted_on_both_sides_of_where(found: Figures) -> None:
    assert [each.rows for each in found.filtered] == [
        sum(row["amount"] <= 1 for row in WHOLE), sum(row["place"] == "x1" for row in WHOLE),
    ]  # fmt: skip
    assert (found.left, found.units) == (len(LEFT), len({row["person"] for row in WHOLE}))
    assert found.units_left == len({row["person"] for row in LEFT})


def test_a_unit_that_where_leaves_out_is_counted_before_and_not_after(tmp_path: Path) -> None:
    rows = [{"person": "a", "place": "x", "amount": 5.0}, {"person": "b", "place": "x", "amount": 0.0}]
    made = examined(tmp_path, rows, policy())
    assert (made.units, made.units_left) == (2, 1)


def pairs_of(rows: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    pairs: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        pairs[row["person"]][row["place"]] += 1
    return pairs


def test_what_each_bound_keeps_is_what_is_expected_by_hand(found: Figures) -> None:
    pairs, total = pairs_of(LEFT), len(LEFT)
    chance = {unit: min(1.0, L0 / len(own)) for unit, own in pairs.items()}
    (stage,) = found.stages
    l0, linf = stage.kept
    assert l0.rows == pytest.approx(sum(chance[unit] * sum(own.values()) for unit, own in pairs.items()) / total)
    assert linf.rows == pytest.approx(sum(min(n, LINF) for own in pairs.values() for n in own.values()) / total)
    assert stage.together == pytest.approx(
        sum(chance[unit] * min(n, LINF) for unit, own in pairs.items() for n in own.values()) / total
    )
    assert l0.units == pytest.approx(sum(len(own) <= L0 for own in pairs.values()) / len(pairs))
    assert linf.units == pytest.approx(sum(max(own.values()) <= LINF for own in pairs.values()) / len(pairs))
    assert (l0.quantiles[3], linf.quantiles[3]) == (
        max(map(len, pairs.values())), max(n for own in pairs.values() for n in own.values()),
    )  # fmt: skip


def test_l1_keeps_so_many_rows_of_each_unit() -> None:
    pairs = pl.DataFrame({"unit": [1, 1, 2], "partition": [1, 2, 1], "rows": [4, 2, 1]})
    (kept,), together = kept_by(pairs, None, None, 3, frozenset({"l1"}))
    assert (kept.rows, kept.units, kept.quantiles, kept.is_searched, together) == (
        4 / 7,
        1 / 2,
        (6, 6, 6, 6),
        True,
        None,
    )


def test_values_are_clipped_on_either_side(found: Figures) -> None:
    (clips,) = found.stages[0].clips
    assert (clips.below, clips.above, clips.of) == (
        sum(row["amount"] < LOW for row in LEFT), sum(row["amount"] > HIGH for row in LEFT), len(LEFT),
    )  # fmt: skip


def test_partitions_are_counted_and_the_smallest_named(found: Figures) -> None:
    people = defaultdict(set)
    for row in LEFT:
        people[row["place"]].add(row["person"])
    (stage,) = found.stages
    assert stage.partitions == len(people)
    assert [number for _, number in stage.smallest] == sorted(map(len, people.values()))[:5]
    assert all(len(people[place]) == number for (place,), number in stage.smallest)


def test_partitions_with_too_few_people_are_counted_by_the_plans_figures(found: Figures) -> None:
    people = defaultdict(set)
    for row in LEFT:
        people[row["place"]].add(row["person"])
    for words, number in found.stages[0].few:
        least = int(words.removeprefix("fewer than ").split()[0].rstrip(",").replace(",", ""))
        assert number == sum(len(own) < least for own in people.values())


def test_keys_that_look_alike_are_shown_together(found: Figures) -> None:
    counts = Counter(row["place"] for row in LEFT)
    (spelling,) = found.stages[0].spellings
    assert (spelling.column, spelling.groups) == ("place", 1)
    assert dict(spelling.shown[0]) == {name: counts[name] for name in ("X 2", "x_2", "x-2")}


def test_units_that_look_alike_are_counted(found: Figures) -> None:
    assert found.unit_spellings == 2  # p1 and P1, p2 and "p2 "


def test_what_is_never_used_is_named(found: Figures) -> None:
    assert found.unused == ("note",)


def test_of_public_partitions_rows_outside_are_counted(tmp_path: Path) -> None:
    stage = policy()["stages"][0] | {"partitions": {"public": {"values": ["x0", "x3", "nowhere"]}}}
    (made,) = examined(tmp_path, ROWS, policy(stages=[stage])).stages
    inside = sum(row["place"] in ("x0", "x3") for row in LEFT)
    assert (made.rows, made.outside, made.partitions, made.listed) == (inside, len(LEFT) - inside, 2, 3)


def test_where_rows_are_units_people_are_rows(tmp_path: Path) -> None:
    stage = policy()["stages"][0] | {"bounds": {"l0": 1, "linf": 1}}
    made = examined(tmp_path, ROWS, policy(privacy_unit="row", stages=[stage]))
    counts = Counter(row["place"] for row in ROWS if row["place"] not in (None, "x1") and (
        row["amount"] is not None and row["amount"] > 1))  # fmt: skip
    assert [number for _, number in made.stages[0].smallest] == sorted(counts.values())[:5]
    assert (made.unit, made.stages[0].kept) == (None, ())


def test_totals_are_clipped_by_unit_and_partition(tmp_path: Path) -> None:
    total = {"sum": {"column": "amount", "low_total": 5.0, "high_total": 20.0}}
    stage = policy()["stages"][0] | {"metrics": [total], "bounds": {"l0": L0}}
    (clips,) = examined(tmp_path, ROWS, policy(stages=[stage])).stages[0].clips
    totals: Counter[tuple[str, str]] = Counter()
    for row in LEFT:
        totals[row["person"], row["place"]] += row["amount"]
    assert (clips.below, clips.above, clips.of) == (
        sum(value < 5 for value in totals.values()), sum(value > 20 for value in totals.values()), len(totals),
    )  # fmt: skip


@pytest.mark.parametrize(("text", "malformed"), [("a,x,2\n", False), ("a,x\n", True)])
def test_a_line_that_is_no_row_is_told(text: str, malformed: bool, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("person,place,amount\nb,y,3\n" + text)
    asked = policy(source={"format": "csv", "path": "t.csv"})
    assert checking.examine(policy_of(asked, folder=tmp_path)).malformed == malformed


def test_a_source_without_rows_is_a_source(tmp_path: Path) -> None:
    made = examined(tmp_path, [], policy())
    assert (made.rows, made.left, made.units, made.stages[0].partitions) == (0, 0, 0, 0)


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = checking.examine(policy_of(policy(source={"format": "jsonl", "path": "t.jsonl"}), folder=tmp_path))
    assert (made.rows, made.left, made.malformed) == (len(ROWS), len(LEFT), False)


def test_too_many_pairs_are_sampled_by_whole_units_and_it_is_said(tmp_path: Path) -> None:
    rows = [{"person": f"p{i}", "place": f"y{j}", "amount": 5.0} for i in range(500) for j in range(4)]
    made = examined(tmp_path, rows, policy(), most=300)
    (stage,) = made.stages
    assert stage.units_in >= 4
    assert made.units_in >= 2
    assert stage.kept[0].quantiles == (4, 4, 4, 4)  # no unit is there in part
    assert stage.kept[0].rows == pytest.approx(L0 / 4)


def test_a_table_that_is_sampled_holds_all_or_nothing_of_a_hash_and_a_fair_part() -> None:
    table, dice = Merged(["by", "other"], "by", 1000), np.random.default_rng()
    for _ in range(20):
        by = dice.integers(0, 2**64, 400, dtype=np.uint64)
        table.add(pl.DataFrame({"by": np.repeat(by, 2), "other": [0, 1] * 400, "rows": [1] * 800}))
    made = table.table()
    assert made is not None
    assert 100 < len(made) <= 1000  # 16,000 rows; in a fair half-sample of 2000, at least 100
    assert made.group_by("by").len()["len"].to_list() == [2] * (len(made) // 2)
    assert table.one_in >= 16


@pytest.mark.parametrize("other", ["Saint John", " saint  john", "saint-john", "SAINT_JOHN", "ｓaint john"])
def test_spellings_of_one_name_are_alike(other: str) -> None:
    assert plain(pl.Series([other])).to_list() == ["saint john"]


@pytest.mark.parametrize(("one", "other"), [("C", "C++"), ("1", "-1"), ("Strasse", "Straße"), ("a1", "a 1")])
def test_names_that_differ_in_more_are_not_alike(one: str, other: str) -> None:
    first, second = plain(pl.Series([one, other])).to_list()
    assert first != second
