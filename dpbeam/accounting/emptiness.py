"""Stages that will probably be empty, by the plan's own figures: told before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.plan import Plan

MANY_UNITS = 1_000
"""A partition that needs more privacy units than this to be kept as likely as not is one that most data hasn't got."""


def warnings(plan: Plan) -> Iterator[str]:
    """What is worth knowing of each stage whose partitions need very many privacy units; nothing of data."""
    for figure in plan.utility.selections:
        if figure.units_50 > MANY_UNITS and not figure.keeps_values:
            yield (
                f"{figure.stage} may well be empty: a partition of {figure.units_50:,} privacy units is kept with "
                "probability 50 %, a smaller one less often. Group by coarser keys, raise epsilon or delta, or lower "
                "l0, if the data has no partitions as large as that"
            )
