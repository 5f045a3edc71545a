"""What is worth knowing of a run though nothing is wrong with it, in words that are no more than a release tells."""

from __future__ import annotations

from dpbeam.pipelines.lifecycle import keys
from dpbeam.pipelines.lifecycle.plan_remarks import of_plan
from dpbeam.pipelines.lifecycle.values import Checked, Published
from dpbeam.policy.compile import warning


def of_run(checked: Checked) -> tuple[str, ...]:
    """What is to be said before the charge: of the plan, and that a release was made of the same files but for their
    times.

    Raises:
        LedgerError: the ledger can't be asked.
    """
    known = checked.planned.parameters
    if checked.request.engine == "dpbeam":
        of_query = of_plan(known.query, known.plan)
    else:  # by PipelineDP's plan other numbers of privacy units are needed
        of_query = tuple(filter(None, [warning(known.query)]))
    return (*of_query, *filter(None, [keys.remark(checked)]))


def of_page(done: Published) -> str | None:
    """That the page over the dataset's releases doesn't list one that is out, and why; None if it does."""
    if done.unlisted is None:
        return None
    return f"the page over all releases, {done.folder.parent / 'index.html'}, wasn't written: {done.unlisted}"
