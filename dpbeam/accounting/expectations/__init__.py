"""What each metric needs noise for, derived a second time: a module for each family of metrics.

Guarantee: nothing here uses the quantities or sensitivities that a plan is made from. That these modules say again what
`dpbeam.queries` says is their purpose: a slip in one place shows in the other.
"""

from __future__ import annotations

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries import metrics

metrics.load(__name__)

__all__ = ["ExpectedQuantity", "expected_quantities"]
