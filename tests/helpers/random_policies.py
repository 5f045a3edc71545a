"""Random policies over a small table with everything in it, and hostile rows for them.

A policy has any mix of what dpbeam knows: metrics, bounds, noises, selections, public partitions, hierarchical keys,
automatic bounds, rules, derived columns, conditions, rows that are units or aggregated already.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("u", pa.string()),
        ("k", pa.string()),
        ("n", pa.int64()),
        ("b", pa.bool_()),
        ("d", pa.timestamp("us")),
        ("t", pa.string()),
        ("v", pa.float64()),
        ("w", pa.float64()),
        ("e", pa.list_(pa.float64())),
    ]
)
COLUMNS = {"u": "string", "k": "string", "n": "int64", "b": "bool", "d": "timestamp", "t": "string"} | dict.fromkeys(
    ("v", "w"), "float64"
)
LENGTH = 2
"""Of the lists in `e`; some have another."""
KEYS = ("k", "n", "b", "day", "low", "band")
NUMBERS = ("v", "w", "n")
TEXTS = ("", "a", "A", "ä", "\U0001f600", "other")
LISTED = {"k": list(TEXTS), "n": [0, 1, 2**63 - 1], "b": [True, False], "day": ["2024-01-01"], "low": ["a", "ä"]}
LISTED["band"] = ["< 0", "[0, 1)", "≥ 1"]
MOMENTS = tuple(datetime.datetime(2024, 1, day, hour) for day in (1, 2) for hour in (0, 23))
HOSTILE = (0.0, -0.0, 1.0, -1.0, 0.7, 1e308, -1e308, 5e-324, 2.0**-31, 1.5 * 2.0**-30, 0.7 - 2.0**-54, 1 / 3, 1e15)
WHOLE = (0, 1, 2, 5, -1, 2**53 + 1, 2**63 - 1, -(2**63))
ENDS = (-1e6, -1.0, -0.3, 0.0, 0.1, 0.7, 1.0, 3.0, 1e6)
EXOTIC = (*HOSTILE, math.nan, math.inf, -math.inf)
SEARCH = {"auto": {"least": 0.01, "most": 100.0}}


def some_rows(rng: Random, units: Sequence[str], most: int) -> list[dict[str, Any]]:
    """Many rows of few kinds, so that bounds bite; some with values that rules are for."""

    def number() -> float:
        return rng.uniform(-3, 3) if rng.random() < 0.4 else rng.choice(EXOTIC)

    def length() -> int:
        return LENGTH if rng.random() < 0.7 else rng.randint(0, 2 * LENGTH)

    def one() -> dict[str, Any]:
        made = {
            "u": rng.choice(units),
            "k": rng.choice(TEXTS),
            "n": rng.choice(WHOLE),
            "b": rng.random() < 0.5,
            "d": rng.choice(MOMENTS),
            "t": rng.choice(TEXTS),
            "v": number(),
            "w": number(),
            "e": [rng.choice((number(), None)) if rng.random() < 0.2 else number() for _ in range(length())],
        }
        if rng.random() < 0.15:
            made[rng.choice(list(made))] = None
        return made

    kinds = [one() for _ in range(rng.randint(1, 12))]
    return [rng.choice(kinds) for _ in range(rng.randint(0, most))]


def ends(rng: Random) -> tuple[float, float]:
    low, high = sorted(rng.sample(ENDS, 2))
    return low, high


def clipped(rng: Random) -> dict[str, Any]:
    low, high = ends(rng)
    made: dict[str, Any] = {"column": rng.choice(NUMBERS), "low": low, "high": high}
    match rng.randrange(8):
        case 0:
            made |= {"low": SEARCH, "high": SEARCH}
        case 1 if high >= -32:
            made["low"] = SEARCH
        case 2 if low <= 32:
            made["high"] = SEARCH
    return made


def metric(rng: Random, *, rows_bounded: bool, pre_aggregated: bool) -> dict[str, Any]:
    kinds = ["privacy_id_count", "total"]
    if pre_aggregated:
        kinds += ["count"]
    else:
        kinds += ["top_k", "candidates"]
        if rows_bounded:
            kinds += ["count", "sum", "mean", "variance", "stddev", "quantiles", "median", "min", "histogram"]
            kinds += ["vector_sum", "distinct_count"]
    kind = rng.choice(kinds)
    args: dict[str, Any] = {}
    match kind:
        case "total":
            low, high = ends(rng)
            args = {"column": rng.choice(NUMBERS), "low_total": low, "high_total": high}
        case "sum" | "mean" | "variance" | "stddev" | "median" | "min":
            args = clipped(rng)
        case "quantiles":
            args = clipped(rng) | {"ranks": [0.25, 0.75]}
        case "histogram":
            args = {"column": rng.choice(NUMBERS), "edges": rng.choice(([0, 1], [-1, 0.7, 1, 5]))}
        case "vector_sum":
            args = {
                "columns": rng.choice((["v"], ["v", "w", "n"], ["e"], ["e", "v"])),
                "norm": rng.choice(("l1", "l2", "linf")),
            }
            args["max_norm"] = rng.choice((0.3, 1.0, 1e6))
        case "distinct_count":
            args = {"column": rng.choice(("k", "t", "n", "b", "low", "day"))}
        case "top_k" | "candidates":
            args = {"column": rng.choice(("t", "k", "low")), "k": 1, "max_values": rng.randint(1, 3)}
            if kind == "candidates":
                args["candidates"] = ["a", "A", "ä"]
    name = {"total": "sum", "candidates": "top_k"}.get(kind, kind)
    return {name: args | {"weight": rng.choice((1.0, 0.5, 3.0))}}


def some_bounds(rng: Random, keys: Sequence[str], *, by_row: bool, pre_aggregated: bool) -> dict[str, Any]:
    def count(most: int) -> Any:
        return {"auto": {"max": most}} if rng.random() < 0.2 else rng.randint(1, most)

    if by_row:
        return {"l0": 1, "linf": 1}
    if pre_aggregated:
        return {"l0": count(4) if keys else 1, "linf": rng.randint(1, 3)}
    if rng.random() < 0.25:
        return {"l1": count(5)}
    return {"l0": count(4) if keys else 1} | ({"linf": count(3)} if rng.random() < 0.7 else {})


def stage(rng: Random, number: int, *, by_row: bool, pre_aggregated: bool) -> dict[str, Any]:
    keys = rng.sample(KEYS, rng.randint(0, 3))
    limits = some_bounds(rng, keys, by_row=by_row, pre_aggregated=pre_aggregated)
    rows_bounded = "l1" in limits or "linf" in limits
    metrics = [metric(rng, rows_bounded=rows_bounded, pre_aggregated=pre_aggregated) for _ in range(rng.randint(1, 4))]
    for place, choice in enumerate(metrics):
        for args in choice.values():
            args["name"] = f"m{place}"
    made: dict[str, Any] = {"name": f"s{number}", "group_by": keys, "bounds": limits, "metrics": metrics}
    made |= {"noise": rng.choice(("laplace", "gaussian")), "weight": rng.choice((1.0, 2.0))}
    if keys and rng.random() < 0.4:
        made["partitions"] = {"public": {"product": {key: LISTED[key] for key in keys}}}
    elif keys:
        strategies = ["truncated_geometric", "laplace_thresholding", "gaussian_thresholding"]
        strategies += [] if by_row else ["dp_sips", "mad", "mad2r"]
        private = {"strategy": rng.choice(strategies), "pre_threshold": rng.randint(1, 3)}
        if len(keys) > 1 and rng.random() < 0.5:
            private["hierarchical"] = True
        made["partitions"] = {"private": private}
    return made


def policy(rng: Random, stages: Sequence[int] = (1, 1, 2)) -> dict[str, Any]:
    by_row = rng.random() < 0.15
    pre_aggregated = not by_row and rng.random() < 0.15
    rules: dict[str, Any] = {name: {"type": kind} for name, kind in COLUMNS.items()}
    for name, value in (("k", "a"), ("n", 2**53 + 1), ("v", 1e300), ("w", -0.0), ("t", "")):
        for rule in ("on_null", *(("on_nan", "on_inf") if COLUMNS[name] == "float64" else ())):
            if rng.random() < 0.6:
                rules[name][rule] = {"replace": value}
    rules["e"] = {"type": "vector", "length": LENGTH}
    for rule in ("on_null", "on_nan", "on_inf", "on_invalid"):
        if rng.random() < 0.5:
            rules["e"][rule] = {"replace": 1e300}
    made: dict[str, Any] = {
        "version": 1,
        "dataset": "d",
        "source": {"format": "parquet", "path": "data"},
        "privacy_unit": "row" if by_row else "u",
        "columns": rules,
        "derive": {
            "day": {"truncate": "d", "to": "day"},
            "low": {"lower": "t"},
            "band": {"bin": "v", "edges": [0, 1]},
        },
        "run": {"epsilon": 1.0, "delta": 1e-6},
        "stages": [
            stage(rng, number, by_row=by_row, pre_aggregated=pre_aggregated) for number in range(rng.choice(stages))
        ],
    }
    if pre_aggregated:
        made["source"]["pre_aggregated"] = {"count": "n"}
    if rng.random() < 0.3:
        made["where"] = [{"column": "low", "op": "!=", "value": "ä"}]
    return made
