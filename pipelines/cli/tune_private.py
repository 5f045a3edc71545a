"""`dpbeam tune --private`: a release of noisy histograms, charged to the ledger, and bounds that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.printing import line, quiet, say
from dpbeam.pipelines.cli.tuned_policy import check_beside, write_policy
from dpbeam.pipelines.cli.watching import watched

if TYPE_CHECKING:
    from dpbeam.pipelines.lifecycle.values import Published
    from dpbeam.pipelines.tuning.by_soundings import BoundFound, Recommended, StageFound

ABOUT = (
    "Tuned on noisy figures alone, which were released and paid for: what stands here, and the policy that is written, "
    "may be shown to whoever may see that release."
)
LEFT_OUT = (
    "Not looked at, for these figures don't tell: how large partitions are and so which would be shown, strategy, "
    "noise and weights. Errors are a range over how contributions may lie in partitions; 100 % is that of zeros."
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command was asked for, beside the release's name."""

    policy_path: Path
    epsilon: float
    delta: float | None
    ledger: str
    output: str | None
    write: Path | None


def tune_privately(asked: Asked, *, release: str, dry_run: bool) -> None:
    """Draws, recommends, shows and writes. Whatever can be refused is before the charge.

    Raises:
        DpbeamError: as a run; or the policy can't be tuned or written.
    """
    from dpbeam.policy.load import load_policy

    policy = load_policy(asked.policy_path, output=asked.output)
    from dpbeam.accounting.plan import mechanisms_for
    from dpbeam.accounting.requests import check_target
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.cli import foreseen
    from dpbeam.pipelines.cli.raw_figures import refuse_inside
    from dpbeam.pipelines.lifecycle.foreseeing import foresee
    from dpbeam.pipelines.lifecycle.naming import ReleaseName
    from dpbeam.pipelines.lifecycle.values import Request
    from dpbeam.pipelines.tuning.by_soundings import recommend
    from dpbeam.pipelines.tuning.knobs import check_stated, check_tunable
    from dpbeam.pipelines.tuning.soundings import seen, soundings
    from dpbeam.policy.compile import query as compile_query

    if "://" in policy.output.path:
        raise UsageError(f"output.path must be a folder of this machine for now, got {policy.output.path!r}")
    if asked.write is not None:
        refuse_inside(asked.write, policy, flag="--write", why="where no run reads it and no release lies")
        check_beside(asked.write, asked.policy_path)
        if asked.write.exists():
            raise UsageError(f"{asked.write} exists already; name another file with --write")
    delta = policy.run.delta if asked.delta is None else asked.delta
    check_target(asked.epsilon, delta)
    check_tunable(policy)
    query = compile_query(policy)
    check_stated(query)
    mechanisms_for(query)
    made = soundings(policy, epsilon=asked.epsilon, delta=delta)
    request = replace(
        Request.of(
            policy,
            release_name=ReleaseName.of(release, None).text,
            ledger=open_ledger(asked.ledger, reading=dry_run),
            options=None,
            output=Path(policy.output.path),
        ),
        query=made.query,
        min_coverage=None,
    )
    with watched(silent=quiet()) as watch:
        if dry_run:
            foreseen.show(foresee(request, watch.progress), as_json=False)
            return
        done = watch.release(request)
    from dpbeam.pipelines.library.releases import read_release

    opened = read_release(done.folder)
    tables = {name: opened.table(name) for name in opened.stages}
    found = recommend(query, made.searching, seen(made, tables, opened.manifest.mechanisms))
    say(*_lines(found), *_cost(done))
    if asked.write is not None:
        _write(found, asked)


def _write(found: Recommended, asked: Asked) -> None:
    from dpbeam.pipelines.tuning.rewriting import PRIVATE_HEAD

    if asked.write is None:
        return
    write_policy(asked.policy_path, asked.write, found.changes, found.chosen, source=None, head=PRIVATE_HEAD)
    say(f"Wrote {asked.write}. Read what changed, then `dpbeam plan {asked.write}`.")


def _lines(found: Recommended) -> Iterator[str]:
    from dpbeam.reporting.visible import visible

    for each in _figures(found):
        yield visible(each)


def _figures(found: Recommended) -> Iterator[str]:
    from dpbeam.pipelines.tuning.rewriting import written

    yield ABOUT
    for stage in found.stages:
        yield ""
        yield from _of_stage(stage)
    yield ""
    if not found.changes:
        yield "Recommended: nothing that would bring the error down by more than 1 %."
    else:
        yield "Recommended:"
        for stage in found.stages:
            changed = [bound for bound in stage.bounds if bound.stated != bound.chosen]
            for bound, change in zip(changed, stage.changes, strict=True):
                name, old, new = _name(bound), written(bound.stated), written(bound.chosen)
                yield f"  {stage.stage}, {name}: {old} → {new}; {change.why}"
    yield LEFT_OUT


def _of_stage(found: StageFound) -> Iterator[str]:
    from dpbeam.pipelines.cli.tune_text import table

    if found.stated_error is None or found.chosen_error is None:
        yield f"{found.stage}: too little stands out from the noise; its bounds stay. A larger --epsilon shows more"
        return
    yield (
        f"{found.stage}: expected error {_range(found.stated_error)} by the policy as it is, "
        f"{_range(found.chosen_error)} as recommended"
    )
    yield from table(("", "as it is", "keeps", "recommended", "keeps"), [_row(bound) for bound in found.bounds])


def _row(bound: BoundFound) -> Sequence[str]:
    from dpbeam.pipelines.tuning.rewriting import written

    return (
        _name(bound),
        written(bound.stated),
        _share(bound.stated_kept),
        written(bound.chosen),
        _share(bound.chosen_kept),
    )


def _name(bound: BoundFound) -> str:
    return bound.parameter if bound.metric is None else f"{bound.parameter} of {bound.metric}"


def _share(kept: float | None) -> str:
    return "not seen" if kept is None else f"{100 * min(1.0, max(0.0, kept)):.0f} %"


def _range(errors: tuple[float, float]) -> str:
    from dpbeam.reporting.numbers import significant

    least, most = (significant(100 * error, 2) for error in errors)
    return f"{least} %" if least == most else f"{least} to {most} %"


def _cost(done: Published) -> Iterator[str]:
    query = done.request.query
    balance = done.request.ledger.balance(query.dataset)
    if done.cached:
        yield "These figures were drawn before: the same again, at no cost."
    else:
        yield line(f"They cost {done.charge.amount} (one {query.unit or 'row'}, added or removed).").plain
    yield f"Left of the budget of {query.dataset}: {balance.left} of {balance.cap}."
    yield f"Release: {done.folder}"
