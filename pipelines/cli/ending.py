"""How a program of ours ends: by its exit code alone, whatever threads of libraries still do.

Arrow, gRPC and Beam have threads that nobody can wait for. Where one of them lets go of a Python object while the
interpreter is being taken down, the C library aborts the process (exit code 134), after all was said and done. So the
interpreter isn't taken down: what is registered to be done at exit is done, and then the process ends at once.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys


class Ending:
    """Registered before all else that is to be done at exit, it is called after all of that.

    Guarantee: once `code` is set and the program has come to its end, the process ends with that code, and by no
    signal that isn't sent to it. Threads that aren't daemons were waited for by then.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        """None: not known, so that an error which nobody caught is shown as Python shows it."""
        self._process = os.getpid()
        atexit.register(self._end)

    def by(self, code: int) -> int:
        """Has the program end by this code, which it returns: call it last."""
        self.code = code
        return code

    def _end(self) -> None:
        if self.code is None or os.getpid() != self._process:
            return
        logging.shutdown()  # was registered when `logging` was loaded, so it would come after this
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or none at all
                stream.flush()
        os._exit(self.code)
