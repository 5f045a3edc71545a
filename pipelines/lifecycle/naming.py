"""A release's name and the period that it is about: `visits-{period}` with the period 2026-W48 is `visits-2026-W48`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dpbeam.errors import UsageError

PLACE = "{period}"
_PERIOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class ReleaseName:
    """The name by which a release is known. A period stands in it: under one name there is one release of an input, so
    that another period's would come back in silence.

    Raises:
        UsageError: a name or period that no release can have, or a period that isn't in the name.
    """

    text: str
    period: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.text) <= 128 or not self.text.isprintable():
            raise UsageError(f"a release's name must be 1 to 128 printable characters, got {self.text!r}")
        if self.period is None:
            return
        if not _PERIOD.fullmatch(self.period):
            raise UsageError(
                "a release's period must be 1 to 32 letters, digits, dots, hyphens and underscores, such as 2026-W48, "
                f"got {self.period!r}"
            )
        if self.period not in self.text:
            raise UsageError(
                f"a release's period must stand in its name, got the period {self.period} and the name {self.text!r}; "
                f"name it {self.text}-{PLACE}"
            )

    @classmethod
    def of(cls, template: str, period: str | None) -> ReleaseName:
        """The name that a template with `{period}` makes of a period.

        Raises:
            UsageError: a period and no place for it, or a place and no period; or see the class.
        """
        if period is None and PLACE in template:
            raise UsageError(f"the release's name {template!r} has a place for a period; say which, as in 2026-W48")
        return cls(text=template if period is None else template.replace(PLACE, period), period=period)
