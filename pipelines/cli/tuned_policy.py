"""The policy that tuning recommends, as a file beside the old one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.raw_figures import private_file

if TYPE_CHECKING:
    from dpbeam.pipelines.tuning.reasons import Change
    from dpbeam.queries.query import Query


def check_beside(write: Path, policy_path: Path) -> None:
    """Refuses to write a policy elsewhere than beside the old one.

    Raises:
        UsageError: it would be.
    """
    if write.parent.resolve() != policy_path.parent.resolve():
        raise UsageError(f"--write {write} must lie beside {policy_path}: paths in a policy start at its folder")


def write_policy(
    policy_path: Path, write: Path, asked: Sequence[Change], chosen: Query, *, source: Sequence[str] | None, head: str
) -> None:
    """Writes the recommended policy, and loads it: the file says what was recommended, or it isn't there.

    Raises:
        UsageError: it can't be written, or not in place of the old values.
    """
    from dpbeam.pipelines.tuning.rewriting import rewritten
    from dpbeam.policy.compile import query as compile_query
    from dpbeam.policy.load import load_policy

    with policy_path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    with private_file(write, flag="--write") as number, os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        file.write(rewritten(text, asked, head))
        file.flush()
        if compile_query(load_policy(write, source=source)).stages != chosen.stages:
            raise UsageError(f"{policy_path} is written in a way that can't be changed by itself; change it by hand")
