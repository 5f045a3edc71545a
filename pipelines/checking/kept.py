"""How much of the rows the bounds of a stage keep, from how many rows each unit has in each partition."""

from __future__ import annotations

import polars as pl

from dpbeam.pipelines.checking.figures import Kept

_RANKS = (0.5, 0.9, 0.99, 1.0)


def kept_by(
    pairs: pl.DataFrame, l0: int | None, linf: int | None, l1: int | None, searched: frozenset[str]
) -> tuple[tuple[Kept, ...], float | None]:
    """What each bound keeps by itself, and `l0` and `linf` together. `pairs` has a row a (unit, partition), with its
    `rows`; which are kept is chosen uniformly, so shares of rows are expected ones.

    A unit with n partitions keeps each with probability min(1, l0/n), and r rows in one of them become min(r, linf).
    """
    by_unit = pairs.group_by("unit").agg(pl.len().alias("n"), pl.col("rows").sum())
    total = int(pairs["rows"].sum())
    kept: list[Kept] = []

    def one(bound: str, limit: int, had: pl.Series, rows: float, units: int) -> None:
        kept.append(
            Kept(
                bound=bound,
                limit=limit,
                is_searched=bound in searched,
                rows=rows / total if total else 1.0,
                units=units / len(by_unit) if len(by_unit) else 1.0,
                quantiles=_quantiles(had),
            )
        )

    of_pairs = pairs.join(by_unit.select("unit", "n"), on="unit")
    if l0 is not None:
        chance = (l0 / of_pairs["n"]).clip(upper_bound=1.0)
        one("l0", l0, by_unit["n"], float((of_pairs["rows"] * chance).sum()), int((by_unit["n"] <= l0).sum()))
    if linf is not None:
        within = pairs.group_by("unit").agg((pl.col("rows") <= linf).all())["rows"]
        one("linf", linf, pairs["rows"], float(pairs["rows"].clip(upper_bound=linf).sum()), int(within.sum()))
    if l1 is not None:
        within_l1 = int((by_unit["rows"] <= l1).sum())
        one("l1", l1, by_unit["rows"], float(by_unit["rows"].clip(upper_bound=l1).sum()), within_l1)
    if l0 is None or linf is None or not total:
        return tuple(kept), None
    chance = (l0 / of_pairs["n"]).clip(upper_bound=1.0)
    return tuple(kept), float((of_pairs["rows"].clip(upper_bound=linf) * chance).sum()) / total


def _quantiles(values: pl.Series) -> tuple[int, int, int, int]:
    found = [values.quantile(rank, interpolation="higher") for rank in _RANKS]
    low, high, far, most = (0 if value is None else int(value) for value in found)
    return low, high, far, most
