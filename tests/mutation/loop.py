"""A pytest plugin that tries one mutant after the other on the collected tests, each in a fork of this process.

So tests are imported and collected once. First all tests run without a mutant, to learn which functions each reaches
and what it costs; then a mutant gets the tests that reach its function, the cheapest first, until one fails.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from _pytest.tmpdir import tmppath_result_key
from hypothesis import HealthCheck, Phase, settings

MAX_EXAMPLES = 25
MEMORY_BYTES = 16 << 30
"""Of address space: what a mutant that asks for more would take is not given to it."""

KILLED, SURVIVED, TIMEOUT, UNTESTED = "killed", "survived", "timeout", "untested"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutants", help="JSON: the names of mutants, by the function that each is of")
    parser.addoption("--verdicts", help="JSON to write: what became of each mutant")
    parser.addoption("--reached", help="JSON to keep: which functions each test reaches, and its CPU seconds")
    parser.addoption("--jobs", type=int, help="how many mutants are tried at once")
    parser.addoption("--budget", type=float, help="CPU seconds of tests that a mutant gets at most")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Property tests with few examples, the same ones each time; a failure isn't made small."""
    for item in items:
        test = getattr(item, "obj", None)
        if getattr(test, "is_hypothesis_test", False):
            own = getattr(test, "_hypothesis_internal_use_settings", None) or settings.default
            test._hypothesis_internal_use_settings = settings(
                own,
                max_examples=min(own.max_examples, MAX_EXAMPLES),
                phases=(Phase.explicit, Phase.generate),
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    option = session.config.getoption
    if session.testsfailed:
        raise session.Interrupted("the tests can't be collected")
    reached = learn(session.items, Path(option("--reached")))
    tests = defaultdict(list)
    for item in sorted(session.items, key=lambda item: reached[item.nodeid]["cpu_s"]):
        for function in reached[item.nodeid]["functions"]:
            tests[function].append(item)
    mutants = json.loads(Path(option("--mutants")).read_text(encoding="utf-8"))
    waiting = [
        (name, within(tests[function], reached, option("--budget")))
        for function, names in mutants.items()
        for name in names
    ]
    verdicts: dict[str, str] = {}
    gc.collect()
    gc.freeze()  # or else each fork would copy what its collector looks at
    running: dict[int, str] = {}
    for done, (name, (items, cost)) in enumerate(waiting):
        if not items:
            verdicts[name] = UNTESTED
            continue
        while len(running) >= option("--jobs"):
            collect(running, verdicts)
        running[start(name, items, cost)] = name
        if done % 50 == 0:
            print(f"{done} of {len(waiting)} mutants", flush=True)
            Path(option("--verdicts")).write_text(json.dumps(verdicts), encoding="utf-8")
    while running:
        collect(running, verdicts)
    Path(option("--verdicts")).write_text(json.dumps(verdicts), encoding="utf-8")
    return True


def within(items: list[pytest.Item], reached: dict[str, Any], budget: float) -> tuple[list[pytest.Item], float]:
    """The cheapest of some tests, as many as fit, and one at least; and what they cost."""
    cost, found = 0.0, []
    for item in items:
        if found and cost + reached[item.nodeid]["cpu_s"] > budget:
            break
        cost += reached[item.nodeid]["cpu_s"]
        found.append(item)
    return found, cost


def learn(items: list[pytest.Item], kept: Path) -> dict[str, Any]:
    """Which functions each test reaches, and its CPU seconds; of tests that are unchanged, as it was found before."""
    common = digest(
        *Path("dpbeam").rglob("*.py"), *Path("tests").glob("*.py"), Path("tests/helpers/kernel_reference.py")
    )
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    marks = {item.nodeid: common + digest(item.path) for item in items}
    new = [item for item in items if known.get(item.nodeid, {}).get("mark") != marks[item.nodeid]]
    known = {item.nodeid: known.get(item.nodeid) for item in items}
    if new:
        print(f"running {len(new)} tests without a mutant", flush=True)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            json.dump(measured(new), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = json.loads(pipe.read() or "{}")
    os.waitpid(pid, 0)
    if not found:
        raise pytest.UsageError("the tests crash without a mutant")
    kept_modules = [*found["modules"], *known_modules(kept)]
    for name in kept_modules:  # what tests import on the way is imported here, once
        with suppress(Exception):  # or else it is imported where it is needed
            import_module(name)
    for item in new:
        known[item.nodeid] = found["tests"][item.nodeid] | {"mark": marks[item.nodeid]}
    sound = {name: test for name, test in known.items() if name not in found["failed"]}
    kept.write_text(json.dumps(sound), encoding="utf-8")
    if found["failed"]:
        raise pytest.UsageError(f"tests must pass without a mutant: {', '.join(found['failed'])}")
    kept.with_suffix(".modules").write_text("\n".join(dict.fromkeys(kept_modules)), encoding="utf-8")
    return known


def known_modules(kept: Path) -> list[str]:
    path = kept.with_suffix(".modules")
    return path.read_text(encoding="utf-8").split("\n") if path.is_file() else []


def measured(items: list[pytest.Item]) -> dict[str, Any]:
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state

    set_mutant_under_test("stats")
    before = set(sys.modules)
    found: dict[str, Any] = {"tests": {}, "failed": []}
    for item in items:
        state()._stats.clear()
        began = time.process_time()
        if not passes(item):
            found["failed"].append(item.nodeid)
        found["tests"][item.nodeid] = {
            "cpu_s": time.process_time() - began,
            "functions": sorted(state()._stats),
        }
    return found | {"modules": [name for name in sys.modules if name not in before and name != "__mp_main__"]}


def passes(item: Any) -> bool:
    """Whether a test passes; without pytest's reports, which would cost more than the test."""
    item._initrequest()
    item.stash[tmppath_result_key] = {}  # of reports, by which a folder is kept or not
    passed = True
    for step in (lambda: item.session._setupstate.setup(item), item.runtest):
        try:
            step()
        except pytest.skip.Exception:
            break
        except Exception:
            passed = False
            break
    with suppress(Exception):
        item.session._setupstate.teardown_exact(None)
    return passed


def start(name: str, items: list[pytest.Item], cost: float) -> int:
    """Tries one mutant in a process of its own, which ends with 0 if it survives; returns the process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        from mutmut.mutation.trampoline import set_mutant_under_test

        limit_s = int(3 + 5 * cost)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.setitimer(signal.ITIMER_REAL, 20 * limit_s)
        set_mutant_under_test(name)
        os._exit(0 if all(passes(item) for item in items) else 1)
    except BaseException:
        os._exit(1)


def collect(running: dict[int, str], verdicts: dict[str, str]) -> None:
    pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    late = (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL)
    verdicts[running.pop(pid)] = SURVIVED if code == 0 else TIMEOUT if code in late else KILLED


def digest(*paths: Path) -> str:
    found = sha256()
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
