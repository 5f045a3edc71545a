"""Processes that come from one another, by fork, forkserver or spawn, and threads of one, draw noise of their own.

Each test runs a program of its own, since pytest's process has threads. What is compared are 16 draws of Laplace or
Gaussian noise of scale 2**20 by each of several processes, as whole numbers; that two independent ones agree in all but
a few draws has a probability far below 1e-9.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import json, multiprocessing, os, sys, threading
import numpy as np

def draw(kind="gaussian"):
    from dpbeam.mechanisms import rare_partitions, selection
    from dpbeam.mechanisms.events import Gaussian, Laplace, TruncatedGeometric
    from dpbeam.mechanisms.noise import AdditiveNoise
    match kind:
        case "gaussian":
            noise = AdditiveNoise(mechanism=Gaussian(stage="s", metric="m", sigma=2.0**20, l2=1.0))
            return np.rint(noise.to_counts(np.zeros(16, dtype=np.int64))).tolist()
        case "laplace":
            noise = AdditiveNoise(mechanism=Laplace(stage="s", metric="m", scale=2.0**20, l1=1.0))
            return np.rint(noise.to_counts(np.zeros(16, dtype=np.int64))).tolist()
        case "selection":
            chosen = TruncatedGeometric(stage="s", epsilon=1e-6, delta=0.5, l0=1)
            return selection.Selector(mechanism=chosen).keep(np.ones(256, dtype=np.int64)).tolist()
        case "gaps":
            return rare_partitions.successes(2.0**-20, 1 << 24).tolist()

def forked(work):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        with os.fdopen(write, "w") as out:
            json.dump(work(), out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as given:
        text = given.read()
    os.waitpid(child, 0)
    return json.loads(text)
"""


def told(program: str) -> list[list[float]]:
    """What the program prints: the draws of each process."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout)
    return found


def assert_each_its_own(draws: list[list[float]]) -> None:
    assert all(draws)
    for place, one in enumerate(draws):
        for other in draws[:place]:
            assert one != other
            if not isinstance(one[0], bool):
                assert len(set(one) & set(other)) < 4


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "selection", "gaps"])
def test_forked_processes_draw_noise_of_their_own(kind):
    """Children, their children, and the parent after; PyDP's objects were built before the fork."""
    assert_each_its_own(
        told(f"""
        draw()
        found = [forked(lambda: draw("{kind}")), forked(lambda: draw("{kind}"))]
        found += forked(lambda: [draw("{kind}"), forked(lambda: draw("{kind}"))])
        print(json.dumps([*found, draw("{kind}")]))
        """)
    )


def test_an_object_that_was_built_before_a_fork_draws_anew_after_it():
    assert_each_its_own(
        told("""
        from dpbeam.mechanisms.events import Gaussian
        from dpbeam.mechanisms.noise import AdditiveNoise
        noise = AdditiveNoise(mechanism=Gaussian(stage="s", metric="m", sigma=2.0**20, l2=1.0))
        def again():
            return np.rint(noise.to_counts(np.zeros(16, dtype=np.int64))).tolist()
        again()
        print(json.dumps([forked(again), forked(again), again()]))
        """)
    )


def test_what_was_drawn_before_dpbeam_was_imported_is_not_drawn_again():
    """A process that used PyDP alone forks, and its children import dpbeam."""
    assert_each_its_own(
        told("""
        from pydp.util import UniformDouble
        UniformDouble()
        assert not any(name.startswith("dpbeam") for name in sys.modules)
        print(json.dumps([forked(draw), forked(draw), draw()]))
        """)
    )


def test_another_user_of_pydp_draws_its_own_in_a_process_forked_from_ours():
    """As PipelineDP's engine does, in steps that are none of ours."""
    assert_each_its_own(
        told("""
        from pydp.util import UniformDouble
        import dpbeam.mechanisms.randomness
        def others():
            return [UniformDouble() for _ in range(16)]
        others()
        print(json.dumps([forked(others), forked(others), others()]))
        """)
    )


def test_another_user_of_pydp_draws_its_own_once_dpbeam_is_imported():
    assert_each_its_own(
        told("""
        from pydp.util import UniformDouble
        UniformDouble()
        def others():
            import dpbeam.mechanisms.randomness
            return [UniformDouble() for _ in range(16)]
        print(json.dumps([forked(others), forked(others)]))
        """)
    )


def test_a_fork_that_python_does_not_see_is_seen_by_the_number_of_the_process():
    assert_each_its_own(
        told("""
        import ctypes
        libc = ctypes.PyDLL(None)
        os.fork = lambda: libc.fork()
        draw()
        print(json.dumps([forked(draw), forked(draw), draw()]))
        """)
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_a_pool_draw_noise_of_their_own_however_they_are_started(method, tmp_path):
    """The server of `forkserver` has drawn before it is asked for workers: it preloads a module that does."""
    (tmp_path / "drawn.py").write_text(
        textwrap.dedent("""
        import numpy as np
        from dpbeam.mechanisms.events import Gaussian
        from dpbeam.mechanisms.noise import AdditiveNoise
        noise = AdditiveNoise(mechanism=Gaussian(stage="s", metric="m", sigma=2.0**20, l2=1.0))
        def draw(out):
            out.put(np.rint(noise.to_counts(np.zeros(16, dtype=np.int64))).tolist())
        noise.to_counts(np.zeros(16, dtype=np.int64))
        """)
    )
    assert_each_its_own(
        told(f"""
        os.environ["PYTHONPATH"] = {str(tmp_path)!r}  # for the server, whose preloading fails in silence
        sys.path.insert(0, {str(tmp_path)!r})
        import drawn
        context = multiprocessing.get_context("{method}")
        if "{method}" == "forkserver":
            context.set_forkserver_preload(["drawn"])
        out = context.Queue()
        workers = [context.Process(target=drawn.draw, args=(out,)) for _ in range(3)]
        for worker in workers:
            worker.start()
        found = [out.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        drawn.draw(out)
        print(json.dumps([*found, out.get(timeout=60)]))
        """)
    )


def test_threads_draw_noise_of_their_own():
    assert_each_its_own(
        told("""
        found, start = [], threading.Barrier(8)
        def work():
            start.wait()
            found.append(draw())
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(found))
        """)
    )


def test_what_a_process_inherits_is_no_more_than_what_is_thrown_away():
    """The words that two forked processes share, counted: where this fails, PyDP's buffer has grown."""
    shared, inherited = told("""
        from pydp.util import UniformDouble
        UniformDouble()
        def words():
            return [UniformDouble() for _ in range(40_000)]
        one, other = forked(words), forked(words)
        same = [place for place, pair in enumerate(zip(one, other)) if pair[0] == pair[1]]
        from dpbeam.mechanisms.randomness import INHERITED_WORDS
        print(json.dumps([same, INHERITED_WORDS]))
        """)
    assert shared, "two forked processes no longer share words: is there another generator?"
    assert max(shared) < inherited
