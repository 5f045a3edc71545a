"""What a failing step says holds nothing of what made it fail."""

from __future__ import annotations

import errno
import importlib
import inspect
import logging
import pickle
import pkgutil
import traceback

import apache_beam as beam
import pytest
from apache_beam.coders import StrUtf8Coder
from apache_beam.runners.worker import statesampler
from apache_beam.transforms.core import _DoFnParam
from apache_beam.transforms.userstate import SetStateSpec, get_dofn_specs
from apache_beam.utils.counters import CounterFactory

from dpbeam import transforms
from dpbeam.errors import DataError, RunFailed
from dpbeam.transforms.wire.containment import (
    ContainedDoFn,
    StepError,
    contained,
    from_runner,
    leave_time_uncounted,
)

CANARY = "CANARY-7f3a"


def failing(error: Exception) -> StepError:
    def work() -> None:
        raise error

    with pytest.raises(StepError) as caught:
        contained("Bound", work)
    return caught.value


def test_a_foreign_error_is_named_by_step_and_type_alone() -> None:
    assert str(failing(ValueError(CANARY))) == (
        "<dpbeam:RunFailed>step Bound failed with ValueError; nothing was published</dpbeam>"
    )


def test_nothing_of_a_foreign_error_hangs_on_the_new_one() -> None:
    error = failing(ValueError(CANARY))
    assert error.__context__ is None
    assert error.__cause__ is None
    assert CANARY not in "".join(traceback.format_exception(error))


def test_a_system_error_keeps_the_systems_own_text() -> None:
    error = failing(OSError(errno.ENOSPC, CANARY, CANARY))
    assert "(No space left on device)" in str(error)
    assert CANARY not in str(error)


def test_an_error_of_ours_comes_back_from_the_runner_as_itself() -> None:
    error = from_runner(RuntimeError(f"wrapped: {failing(DataError('column a breaks on_nan: fail'))} [while running]"))
    assert type(error) is DataError
    assert str(error) == "column a breaks on_nan: fail"


def test_a_runners_own_error_is_named_by_its_type_alone() -> None:
    error = from_runner(RuntimeError(CANARY))
    assert type(error) is RunFailed
    assert CANARY not in str(error)


class Half(ContainedDoFn):
    step = "Half"

    def work(self, element):
        yield element
        raise ValueError(CANARY)


def test_a_step_that_fails_between_two_outputs_is_contained() -> None:
    outputs = Half().process(1)
    assert next(outputs) == 1
    with pytest.raises(StepError) as caught:
        next(outputs)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_what_a_later_step_raises_is_not_renamed() -> None:
    outputs = Half().process(1)
    next(outputs)
    with pytest.raises(KeyError):
        outputs.throw(KeyError("later"))


@pytest.mark.parametrize("comes", [Half, lambda: pickle.loads(pickled)], ids=["made", "unpickled"])  # noqa: S301
def test_where_a_step_comes_to_be_beams_workers_print_no_elements(monkeypatch, comes) -> None:
    logger = logging.getLogger("apache_beam.runners.worker.operations")
    monkeypatch.setattr(logger, "filters", [])
    assert logger.filter(record(logging.DEBUG))
    comes()
    assert not logger.filter(record(logging.DEBUG))
    assert logger.filter(record(logging.INFO))


pickled = pickle.dumps(Half())


def record(level: int) -> logging.LogRecord:
    return logging.LogRecord("any", level, "any", 1, CANARY, (), None)


@pytest.mark.parametrize("kind", [SystemExit, type("PanicException", (BaseException,), {})])
def test_what_is_no_exception_is_contained_too(kind) -> None:
    def work() -> None:
        raise kind("SECRET")

    with pytest.raises(StepError) as failed:
        contained("Step", work)
    assert "SECRET" not in str(failed.value)
    assert failed.value.__context__ is None


def test_an_interrupt_stays_one_without_its_text() -> None:
    def work() -> None:
        raise KeyboardInterrupt(CANARY)

    with pytest.raises(KeyboardInterrupt) as stopped:
        contained("Step", work)
    assert stopped.value.args == ()
    assert stopped.value.__context__ is None


def all_steps(parent: type = ContainedDoFn) -> list[type]:
    found = [step for child in parent.__subclasses__() for step in (child, *all_steps(child))]
    return [step for step in found if step.__module__.startswith("dpbeam.")]


def test_no_step_has_state_or_timers_which_beam_is_not_let_look_for() -> None:
    for module in pkgutil.walk_packages(transforms.__path__, "dpbeam.transforms."):
        importlib.import_module(module.name)
    methods = [getattr(step, name) for step in all_steps() for name in object.__dir__(step.__new__(step))]
    defaults = [
        parameter.default
        for method in methods
        if inspect.isfunction(method)
        for parameter in inspect.signature(method).parameters.values()
    ]
    assert len(all_steps()) > 10
    assert not [default for default in defaults if isinstance(default, _DoFnParam)]


class Stateful(ContainedDoFn):
    step = "Stateful"

    def process(
        self, element: object, seen: object = beam.DoFn.StateParam(SetStateSpec("seen", StrUtf8Coder()))
    ) -> None: ...


def test_state_of_a_step_would_still_be_found_where_beam_calls_it() -> None:
    assert {state.name for state in get_dofn_specs(Stateful())[0]} == {"seen"}


def test_a_bundle_does_not_wait_for_a_sampler_that_was_ended_when_it_began() -> None:
    sampler = statesampler.StateSampler("bundle", CounterFactory())
    sampler.start()
    leave_time_uncounted()
    assert sampler.finished
    assert statesampler.get_current_tracker() is None
    sampler.stop_if_still_running()  # what a bundle calls as it ends: a second `stop` would fail


def test_without_a_sampler_there_is_nothing_to_end() -> None:
    statesampler.set_current_tracker(None)
    leave_time_uncounted()
    assert statesampler.get_current_tracker() is None
