"""dpbeam: differentially private releases from Apache Beam, under a privacy budget that holds.

    import dpbeam

    asked = (
        dpbeam.query("visits", source=frame, unit="person", epsilon=1.0, delta=1e-8)
        .group_by("city").private(pre_threshold=10).bounds(l0=4, linf=2)
        .count().mean("cost", 0, 100)
    )
    dpbeam.plan(asked)                                                      # what it would be like, and cost
    dpbeam.release(asked, ledger="sqlite:///ledger.sqlite").table("by_city")

The names below are the public face (docs/python.md). Each is loaded when it is first used: `import dpbeam` by itself
loads none of Apache Beam, PipelineDP, Arrow, SciPy or pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpbeam._version import __version__

if TYPE_CHECKING:
    from dpbeam import events
    from dpbeam.accounting.certify import Certificate, certify_events
    from dpbeam.errors import DataError, DpbeamError, Interrupted, LedgerError, Refused, RunFailed, UsageError
    from dpbeam.extras import NotInstalled
    from dpbeam.ledger import Amount, Ledger, open_ledger
    from dpbeam.pipelines.library.plans import QueryPlan, plan
    from dpbeam.pipelines.library.releases import Release, read_release
    from dpbeam.pipelines.library.releasing import release
    from dpbeam.policy.builder import QueryBuilder, query
    from dpbeam.policy.load import load_policy
    from dpbeam.policy.schema.policy import Policy
    from dpbeam.policy.violations import PolicyError
    from dpbeam.reporting.certify import CertifyResult, Uncertified, certify

__all__ = [
    "Amount",
    "Certificate",
    "CertifyResult",
    "DataError",
    "DpbeamError",
    "Interrupted",
    "Ledger",
    "LedgerError",
    "NotInstalled",
    "Policy",
    "PolicyError",
    "QueryBuilder",
    "QueryPlan",
    "Refused",
    "Release",
    "RunFailed",
    "Uncertified",
    "UsageError",
    "__version__",
    "certify",
    "certify_events",
    "events",
    "load_policy",
    "open_ledger",
    "plan",
    "query",
    "read_release",
    "release",
]

_PLACES = {
    "dpbeam.accounting.certify": ("Certificate", "certify_events"),
    "dpbeam.errors": (
        "DataError",
        "DpbeamError",
        "Interrupted",
        "LedgerError",
        "Refused",
        "RunFailed",
        "UsageError",
    ),
    "dpbeam.extras": ("NotInstalled",),
    "dpbeam.ledger": ("Amount", "Ledger", "open_ledger"),
    "dpbeam.pipelines.library.plans": ("QueryPlan", "plan"),
    "dpbeam.pipelines.library.releases": ("Release", "read_release"),
    "dpbeam.pipelines.library.releasing": ("release",),
    "dpbeam.policy.builder": ("QueryBuilder", "query"),
    "dpbeam.policy.load": ("load_policy",),
    "dpbeam.policy.schema.policy": ("Policy",),
    "dpbeam.policy.violations": ("PolicyError",),
    "dpbeam.reporting.certify": ("CertifyResult", "Uncertified", "certify"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "events":
        return import_module("dpbeam.events")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
