"""The random bits that PyDP draws from: each process has its own, whatever it was forked from.

PyDP's one generator (`SecureURBG` of google/differential-privacy, cc/algorithms/rand.cc) takes 65,536 bytes at a time
from OpenSSL's RAND_bytes and hands them out in words of eight. A forked process inherits what is left of them, and
would draw the very noise that its parent and its siblings draw. Salts and the like come from `secrets`, which keeps
nothing.

Guarantee: no random word serves two processes. In a process that `discard_inherited` hasn't seen before, it draws as
many words as the generator's buffer holds and throws them away: that is all that can be inherited, for every draw of
PyDP takes its words from that buffer and keeps none back. What comes next was asked of RAND_bytes in this process,
which OpenSSL seeds anew from the system in a process whose number has changed (since 1.1.1d; the wheels hold 1.1.1k).
It happens

- when a process is forked by Python, before anything else runs in it, so that whoever draws draws words of its own:
  PipelineDP's engine too;
- when this module is imported after PyDP, since what was drawn before the import, and in which process, isn't known;
- before each batch of draws in a process whose number has changed without Python's doing.

Threads share the generator: a mutex hands out each word once, and it isn't held across a fork, since PyDP draws under
the interpreter's lock. What would break it: a buffer of more words (tests/system/test_forks.py finds its length out), a
second generator, or a copy of a running process that is no fork, such as a restored snapshot of a machine.
"""

from __future__ import annotations

import os
import sys

INHERITED_WORDS = 65_536 // 8
"""As many words as the generator's buffer holds: `kBufferSize` bytes, of which a uniform double takes eight or more."""

_owner: int | None = None


def discard_inherited() -> None:
    """Makes PyDP's random bits this process's own, once a process. To be called before each batch of draws."""
    global _owner
    process = os.getpid()
    if _owner != process:
        _throw_away()
        _owner = process


def _throw_away() -> None:
    from pydp.util import UniformDouble

    for _ in range(INHERITED_WORDS):
        UniformDouble()


def _forked() -> None:
    """In a new process, whose number may be its parent's where it has a namespace of its own."""
    global _owner
    _owner = None
    if "pydp" in sys.modules:  # else nothing can have been drawn
        discard_inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
if "pydp" in sys.modules:
    discard_inherited()
