"""What `dpbeam run --dry-run` prints: what a run would cost, or that it would cost nothing."""

from __future__ import annotations

from dpbeam.pipelines.cli.printing import note, say, say_json
from dpbeam.pipelines.lifecycle.foreseeing import Foreseen, IsCached, WouldCharge, WouldGoOn, foreseen_json


def show(foreseen: Foreseen, *, as_json: bool) -> None:
    """Prints it, for people or as JSON."""
    if as_json:
        say_json(foreseen_json(foreseen))
        return
    for remark in foreseen.remarks:
        note(remark)
    name, dataset = foreseen.request.release_name, foreseen.request.query.dataset
    match foreseen:
        case WouldCharge(amount=amount, after=after, reason=reason):
            say(
                f"Would charge {amount} to {dataset}, for a new release {name}: {reason}.",
                f"Left afterwards: {after.left} of {after.cap}. Nothing was charged or written now.",
            )
        case IsCached(folder=folder, reason=reason):
            say(
                f"Is cached: release {name} of {dataset} was made before, and comes back at no cost: {folder}",
                f"{reason.capitalize()}.",
            )
        case WouldGoOn(charge=charge):
            say(
                f"Would go on with release {name} of {dataset} under charge {charge.id}, which was paid for by a run "
                "that broke off: no further cost."
            )
