"""The parts of dpbeam that are installed on demand, and what is said where one isn't there."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

from dpbeam.errors import UsageError

Extra = Literal["beam", "pipelinedp"]
_BRINGS: dict[Extra, tuple[str, str]] = {
    "beam": ("apache_beam", "Apache Beam, which runs a release's jobs"),
    "pipelinedp": ("pipeline_dp", "PipelineDP, whose jobs and engine these are"),
}
"""What tells that an extra is installed, and what it is for."""


class NotInstalled(UsageError, ImportError):
    """What was asked for comes with an extra of dpbeam's; also an `ImportError`, since it is imports that raise it."""


def require(extra: Extra) -> None:
    """For the first line of a package that needs an extra.

    Raises:
        NotInstalled: it isn't there; says how to install it.
    """
    package, purpose = _BRINGS[extra]
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is there, and broken
            raise
        raise NotInstalled(
            f"{purpose}, isn't installed here; `pip install 'dpbeam[{extra}]'` brings it (in a checkout: '.[{extra}]')"
        ) from None
