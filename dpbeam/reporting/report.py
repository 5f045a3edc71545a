"""A release as one self-contained HTML page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)
from dpbeam.mechanisms.noise_width import half_width, std
from dpbeam.reporting.facts import Balance, ReleaseFacts, StageReport
from dpbeam.reporting.manifest import Charge, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.numbers import significant
from dpbeam.reporting.page import environment, text
from dpbeam.reporting.risk import odds_factor, risk, risk_of_all, tone_of
from dpbeam.reporting.stage_page import MAX_CHARTS, MAX_COLUMNS, stage_view, strategy_name

_ROUNDING = 1e-9
"""Of amounts that the ledger keeps as whole numbers and prints as doubles."""


def render_report(
    *,
    release: ReleaseFacts,
    guarantee: Guarantee,
    certificate: StatedCertificate,
    mechanisms: Sequence[Mechanism],
    charge: Charge,
    balance: Balance,
    stages: Sequence[StageReport],
    files: Sequence[FileEntry],
) -> str:
    """The page, as UTF-8 text: no network, no script but ours, all text escaped; the same facts give the same page.

    Guarantee: it shows released values and public facts of policy, plan and ledger only, so it costs nothing
    beyond the release itself. `files` are those already written; the page and the manifest can't list themselves.
    """
    template = environment().get_template("report.html.j2")
    earlier = balance.spent_epsilon > charge.epsilon * (1 + _ROUNDING)
    whom = "row" if guarantee.unit == "row" else text(guarantee.unit)
    return template.render(
        release=release,
        guarantee=guarantee,
        certificate=certificate,
        charge=charge,
        balance=balance,
        stages=[stage_view(stage, files) for stage in stages],
        mechanisms=[_mechanism_view(mechanism) for mechanism in mechanisms],
        any_private=any(stage.selection is not None for stage in stages),
        any_public=any(stage.selection is None for stage in stages),
        any_coverage=any(stage.coverage is not None for stage in stages),
        any_chosen=any(stage.chosen for stage in stages),
        by_row=guarantee.unit == "row",
        files=files,
        tone=tone_of(guarantee.epsilon),
        factor=odds_factor(guarantee.epsilon),
        risk=risk(guarantee.epsilon, whom),
        risk_of_all=risk_of_all(balance.spent_as_epsilon) if earlier else None,
        max_columns=MAX_COLUMNS,
        most_charts=MAX_CHARTS,
    )


def _mechanism_view(mechanism: Mechanism) -> dict[str, Any]:
    """Stage, metric, kind, what it does in words, and for additive noise its std and 95 % half-width."""
    match mechanism:
        case Laplace():
            kind = "Laplace noise"
            detail = (
                f"scale {significant(mechanism.scale)}, L1 sensitivity {significant(mechanism.l1)}{_other(mechanism)}"
            )
        case Gaussian():
            kind = "Gaussian noise"
            detail = f"σ {significant(mechanism.sigma)}, L2 sensitivity {significant(mechanism.l2)}"
            detail += _other(mechanism)
        case TruncatedGeometric():
            kind = "Truncated geometric selection"
            detail = f"ε {significant(mechanism.epsilon)}, δ {significant(mechanism.delta)}"
        case LaplaceThresholding():
            kind = "Laplace thresholding"
            detail = _threshold(f"scale {significant(mechanism.scale)}", mechanism)
        case GaussianThresholding():
            kind = "Gaussian thresholding"
            detail = _threshold(f"σ {significant(mechanism.sigma)}", mechanism)
        case WeightedThresholding():
            kind = f"{strategy_name(mechanism.strategy)}: Gaussian thresholding of weights"
            detail = _threshold(f"σ {significant(mechanism.sigma)}", mechanism)
        case _:
            raise ValueError(f"unknown mechanism {type(mechanism).__name__}")
    return {
        "stage": mechanism.stage,
        "metric": mechanism.metric,
        "kind": kind,
        "detail": detail,
        "std": significant(std(mechanism)) if isinstance(mechanism, Laplace | Gaussian) else "–",
        "half_width": "± " + significant(half_width(mechanism)) if isinstance(mechanism, Laplace | Gaussian) else "–",
    }


def _other(mechanism: Laplace | Gaussian) -> str:
    """What one unit may do to one `other` of hierarchical keys."""
    other = mechanism.other
    if other is None:
        return ""
    rows = "" if other.rows is None else f" of {other.rows:,} rows"
    noise = "" if other.noise == 1 else f", which has {significant(other.noise)} times the noise"
    return f"; at most {significant(other.most)}{rows} in one (other){noise}"


def _threshold(noise: str, mechanism: LaplaceThresholding | GaussianThresholding | WeightedThresholding) -> str:
    return f"{noise}, threshold {significant(mechanism.threshold)}, δ {significant(mechanism.delta)}"
