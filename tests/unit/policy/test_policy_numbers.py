"""Every number that a policy may state for `where` and `replace` works on every number of the data, or is refused."""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.policy.compile import input_spec
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from dpbeam.reading.rows import prepare

TEXT = """\
version: 1
dataset: d
source: {format: csv, path: d.csv}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  n: {type: int64, on_null: {replace: WHOLE}}
  x: {type: float64, on_null: {replace: NUMBER}}
where:
  - {column: COLUMN, op: "OP", value: VALUE}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: one
    group_by: [place]
    partitions: {public: {values: [a]}}
    bounds: {l0: 1, linf: 1}
    metrics: [count]
    noise: laplace
"""
OPS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
LARGEST = sys.float_info.max
NUMBERS: dict[str, float | int] = {
    text: (int(text) if text.lstrip("-").isdigit() else float(text))
    for text in (
        "1e308", "-1e308", repr(LARGEST), repr(-LARGEST), "8.98846567431158e307", str(10**308), str(-(2**1023)),
        "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1e19", "2.5",
        "-0.0", "0", "5e-324", "9007199254740993", "9007199254740992.0",
    )
}  # fmt: skip
NEVER = ("1e309", "1" + "0" * 309, ".inf", "-.inf", ".nan")
WHOLE = [2**63 - 1, -(2**63), 0, 2, 3, 2**53 + 1]
FLOATS = [LARGEST, -LARGEST, 1e308, 2.0**63, 0.0, -0.0, 5e-324, 2.5, 2.0**53]


def loaded(folder: Path, *, column: str = "x", op: str = "==", value: str = "1", whole: str = "0", number: str = "0"):
    text = TEXT.replace("COLUMN", column).replace("OP", op).replace("VALUE", value)
    (folder / "policy.yaml").write_text(text.replace("WHOLE", whole).replace("NUMBER", number))
    return input_spec(load_policy(folder / "policy.yaml"))


def rows(n: list[Any], x: list[Any]) -> pa.RecordBatch:
    columns = {"person": ["p"] * len(n), "place": ["a"] * len(n), "n": pa.array(n, pa.int64())}
    return pa.record_batch(columns | {"x": pa.array(x, pa.float64())})


@pytest.mark.parametrize("text", [*NUMBERS, *NEVER])
@pytest.mark.parametrize("column", ["n", "x"])
def test_a_condition_compares_as_numbers_do_or_is_refused(column: str, text: str, tmp_path: Path) -> None:
    number = NUMBERS.get(text)
    data = WHOLE if column == "n" else FLOATS
    takes = number is not None and (column == "x" or isinstance(number, float) or -(2**63) <= number < 2**63)
    for op in (*OPS, "in", "not_in"):
        value = f"[{text}]" if "in" in op else text
        if not takes:
            with pytest.raises(PolicyError):
                loaded(tmp_path, column=column, op=op, value=value)
            continue
        spec = loaded(tmp_path, column=column, op=op, value=value)
        batch = rows(data, [0.0] * len(data)) if column == "n" else rows([0] * len(data), data)
        # A fraction compares with whole numbers exactly; with floats as the float that it is.
        stated = float(number) if column == "x" else number
        expected = [each for each in data if OPS.get(op, {"in": operator.eq}.get(op, operator.ne))(each, stated)]
        assert prepare(batch, spec).column(column).to_pylist() == expected, op


@pytest.mark.parametrize("text", [*NUMBERS, *NEVER])
def test_a_number_stands_in_for_a_missing_one_or_is_refused(text: str, tmp_path: Path) -> None:
    number = NUMBERS.get(text)
    if number is None:
        with pytest.raises(PolicyError):
            loaded(tmp_path, number=text)
    else:
        spec = loaded(tmp_path, op="!=", value="1", number=text)
        assert prepare(rows([0], [None]), spec).column("x").to_pylist() == [float(number)]
    if isinstance(number, int) and -(2**63) <= number < 2**63:
        spec = loaded(tmp_path, op="!=", value="1", whole=text)
        assert prepare(rows([None], [0.0]), spec).column("n").to_pylist() == [number]
    else:
        with pytest.raises(PolicyError):
            loaded(tmp_path, whole=text)
