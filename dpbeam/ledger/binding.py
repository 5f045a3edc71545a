"""Binds a budget to what it is spent on: one privacy unit, and sources that somebody answers for.

Guarantee: all charges of a dataset protect the unit that its budget is bound to, under one neighbouring relation, so
their losses may be added up; and every source that is read under the dataset's name was the first one, or was accepted
by an explicit word that the journal keeps. What a budget was spent on before it was bound (by version 0.1.0), only its
owner knows: the same word says that it was this unit, and these sources. Assumes that a source's path says what is
read: a copy of a file under another path is another source.
"""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.errors import Refused
from dpbeam.ledger.accounts import Budget
from dpbeam.ledger.budget_facts import SourceAccepted, UnitBound
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.ledger.store import Transaction


def bindings(
    tx: Transaction, budget: Budget, scope: Scope, *, accept_source: bool
) -> Iterator[UnitBound | SourceAccepted]:
    """The facts that bind the budget to what `scope` says and it isn't bound to yet.

    Raises:
        Refused: the budget protects another unit; or a source is new to it, or another dataset's too, or it was spent
            before it was bound, and `accept_source` doesn't say that this is meant.
    """
    dataset, bound = budget.dataset, budget.protected
    if bound is None:
        if not accept_source and budget.balance.left != budget.balance.cap:
            raise _spent_unbound(dataset, scope)
        yield UnitBound(protected=scope.protected)
    elif bound != scope.protected:
        raise _other_unit(dataset, bound, scope.protected)
    sources = list(budget.sources)
    new = scope.unknown(sources)
    if not new:
        return
    also_of = [other for other in tx.datasets() if other != dataset and _shares(tx, other, scope)]
    if not accept_source and also_of:
        raise _of_another(dataset, new, also_of)
    if not accept_source and sources:
        raise _new_source(dataset, sources, new)
    yield SourceAccepted(sources=new, also_of=tuple(also_of), asked=accept_source)


def _shares(tx: Transaction, dataset: str, scope: Scope) -> bool:
    other = tx.budget(dataset)
    return other is not None and scope.shares(other.sources)


def _other_unit(dataset: str, bound: Protected, stated: Protected) -> Refused:
    return Refused(
        f"dataset {dataset}: its budget protects {bound}; the policy protects {stated}. What is lost of the one can't "
        "be added to what is lost of the other. Nothing was charged. What you can do: set privacy_unit to that of the "
        "budget; or give the policy another dataset, with a budget of its own, knowing that both budgets then count "
        "for whoever is in both."
    )


def _spent_unbound(dataset: str, scope: Scope) -> Refused:
    return Refused(
        f"dataset {dataset}: its budget was spent by a version of dpbeam that didn't note for whom; the policy "
        f"protects {scope.protected}, and reads {_named(scope.sources)}. Nothing was charged. What you can do: look "
        "into the manifests of its releases (guarantee.unit). If all of them protect the same unit of the same "
        "people, say so with --accept-source, which the journal keeps; if not, give the policy another dataset, with "
        "a budget of its own: what is lost of two units can't be added up."
    )


def _new_source(dataset: str, known: list[str], new: tuple[str, ...]) -> Refused:
    return Refused(
        f"dataset {dataset}: its budget was spent on {_named(known)}; this run reads {_named(new)}. Nothing was "
        "charged. What you can do: if that holds data of the same people (it was moved, or it goes on), say so with "
        "--accept-source, which the journal keeps: it is another input, so a new release is made and charged; if it is "
        "about other people, give the policy another dataset, with a budget of its own."
    )


def _of_another(dataset: str, new: tuple[str, ...], others: list[str]) -> Refused:
    return Refused(
        f"dataset {dataset}: this run reads {_named(new)}, which is read under the name of {_named(others)} too, so "
        "the same people would lose of two budgets. Nothing was charged. What you can do: set dataset to the name that "
        "the source has already; or say with --accept-source that both budgets are meant to count, which the journal "
        "keeps."
    )


def _named(names: list[str] | tuple[str, ...]) -> str:
    shown = [name if len(name) <= 200 else f"{name[:200]}…" for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
