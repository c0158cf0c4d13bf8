"""What becomes of calls that fail: errors, causes, order, retries, timeouts, bad arguments."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raflow.errors import StepExited, StepTimedOut
from raflow.workflows.inferred import LocalWorkflow, TaskError, TaskTimedout, heartbeat, wait
from raflow.workflows.inferred.workflow import InferredWorkflow

Make = Callable[..., InferredWorkflow]


def fail(text: str) -> None:
    raise KeyError(text)


def double(value: Any) -> Any:
    return value * 2


def test_the_error_keeps_type_text_and_traceback(workflow: Make) -> None:
    with pytest.raises(TaskError) as caught:
        workflow(lambda fail: lambda: fail("bad"), fail=fail).run()
    assert str(caught.value) == "KeyError: 'bad' (task fail#1)"
    assert isinstance(caught.value.__cause__, KeyError)
    assert "raise KeyError(text)" in str(caught.value.__cause__.__cause__)


def test_an_error_of_the_workflows_own_code_is_a_task_error_too() -> None:
    def factory() -> Callable[[], Any]:
        return lambda: dict[str, int]()["nothing"]

    with pytest.raises(TaskError, match=r"KeyError: 'nothing' \(workflow factory\)") as caught:
        LocalWorkflow(factory).run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None


class Handling:
    def __init__(self, fail: Any, double: Any) -> None:
        self.fail, self.double = fail, double

    def __call__(self) -> Any:
        failed = self.fail("bad")
        blocked = self.double(failed)
        try:
            wait(blocked)
        except TaskError as error:
            return [str(error), self.double(2)]


def test_a_failure_blocks_what_depends_on_it_and_can_be_handled(
    workflow: Make, caplog: pytest.LogCaptureFixture
) -> None:
    assert workflow(Handling, fail=fail, double=double).run() == ["KeyError: 'bad' (task double#1)", 4]
    assert "without looking" not in caplog.text


def test_of_several_errors_the_earliest_is_told() -> None:
    gate = threading.Event()

    def late(text: str) -> None:
        gate.wait(10)
        raise ValueError(text)

    def early(text: str) -> None:
        raise ValueError(text)

    def factory(late: Any, early: Any, double: Any) -> Callable[[], Any]:
        def run() -> Any:
            a, b = late("late"), early("early")
            with pytest.raises(TaskError):
                wait(b)
            gate.set()
            with pytest.raises(TaskError):
                wait(a)
            try:
                wait(double([a, {"b": b}]))
            except TaskError as error:
                return str(error).partition(" (")[0], [a, b]

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("late", late)
    made.conf_activity("early", early)
    made.conf_activity("double", double)
    with pytest.raises(TaskError, match="ValueError: early"):
        made.run()


def test_an_error_deep_in_the_returned_value_fails_the_workflow(workflow: Make) -> None:
    with pytest.raises(TaskError, match="KeyError: 'bad'"):
        workflow(lambda fail: lambda: {"a": [1, ({2: fail("bad")},)]}, fail=fail).run()


def test_a_failure_that_nobody_looks_at_is_one_warning(workflow: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Careless:
        def __init__(self, fail: Any, double: Any) -> None:
            self.fail, self.double = fail, double

        def __call__(self) -> Any:
            for text in ("one", "two"):
                self.double(self.fail(text))
            return self.double(1)

    with caplog.at_level(logging.WARNING, logger="raflow"):
        made = workflow(Careless, fail=fail, double=double)
        assert made.run(_wait=True) == 2
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Careless has succeeded without looking at" in warnings[0]
    assert "KeyError: 'one' (task fail#1)" in warnings[0]
    assert "KeyError: 'two' (task fail#2)" in warnings[0]


def test_a_failure_ends_a_chain_of_two_thousand_waiting_calls() -> None:
    gate = threading.Event()

    def late() -> None:
        gate.wait(10)
        raise ValueError("first")

    def factory(late: Any, double: Any) -> Callable[[], Any]:
        def run() -> Any:
            result = late()
            for _ in range(2000):
                result = double(result)
            gate.set()
            return result

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("late", late)
    made.conf_activity("double", double)
    with pytest.raises(TaskError, match="ValueError: first"):
        made.run()


# -- retries and timeouts -------------------------------------------------------------------------------------------


def flaky(folder: str, fails: int) -> int:
    """Fail so many times, over all processes."""
    tries = len(list(Path(folder).iterdir()))
    (Path(folder) / str(tries)).touch()
    if tries < fails:
        raise ConnectionError(tries)
    return tries


@pytest.mark.parametrize("retry", [3, (0, 0.01, 0.01)])
def test_errors_are_retried(workflow: Make, tmp_path: Path, retry: Any) -> None:
    made = workflow(lambda flaky: lambda: flaky(str(tmp_path), 2))
    made.conf_activity("flaky", flaky, retry=retry, **({} if isinstance(retry, tuple) else {"retry_delay": 0.01}))
    assert made.run() == 2


@pytest.mark.parametrize("given", [0, "waited for"])
def test_a_tuple_gives_the_delay_before_the_first_attempt_too(given: Any) -> None:
    made = LocalWorkflow(lambda double: lambda: double(double(1) if given else 2))
    made.conf_activity("double", double, retry=(0.2,))
    began = time.monotonic()
    assert made.run() == 4
    assert time.monotonic() - began >= (0.4 if given else 0.2)


def test_a_tuple_gives_the_number_of_attempts(tmp_path: Path) -> None:
    made = LocalWorkflow(lambda flaky: lambda: flaky(str(tmp_path), 1))
    made.conf_activity("flaky", flaky, retry=(0.0,))
    with pytest.raises(TaskError, match="ConnectionError: 0"):
        made.run()
    assert made.trace is not None
    assert made.trace.steps[0].attempts == 1


def slow_at_first(folder: str) -> str:
    marks = Path(folder) / "mark"
    if not marks.exists():
        marks.touch()
        time.sleep(20)
    return "done"


def test_timeouts_are_retried(workflow: Make, tmp_path: Path) -> None:
    made = workflow(lambda slow: lambda: slow(str(tmp_path)))
    # A busy machine may take the time of an attempt before the function is even called.
    made.conf_activity("slow", slow_at_first, timeout=0.5, retry=(0,) * 5)
    assert made.run() == "done"


def test_a_timeout_that_is_used_up_is_an_error_of_its_own(workflow: Make, tmp_path: Path) -> None:
    made = workflow(lambda slow: lambda: slow(str(tmp_path)))
    made.conf_activity("slow", slow_at_first, timeout=0.5)
    with pytest.raises(TaskTimedout, match="slow#1 took longer than its timeout of 0.5 s") as caught:
        made.run()
    assert isinstance(caught.value.__cause__, StepTimedOut)
    assert isinstance(caught.value, TaskError)


# -- signs of life ---------------------------------------------------------------------------------------------------


def beating(times: int) -> str:
    """Take longer than the limit, but never silently."""
    for number in range(times):
        assert heartbeat(f"{number} of {times}")
        time.sleep(0.05)
    return "done"


def silent_at_first(folder: str) -> str:
    if not (Path(folder) / "tried").exists():
        (Path(folder) / "tried").touch()
        heartbeat("half way")
        threading.Event().wait(60)
    return "done"


def handed(heartbeat: Callable[..., bool], number: int) -> int:
    assert heartbeat()
    return number + 1


def test_an_activity_may_take_long_as_long_as_it_gives_signs_of_life(workflow: Make) -> None:
    made = workflow(lambda beating: lambda: beating(45))
    made.conf_activity("beating", beating, heartbeat=2)
    assert made.run() == "done"


def test_an_activity_that_falls_silent_is_tried_again(workflow: Make, tmp_path: Path) -> None:
    made = workflow(lambda silent: lambda: silent(str(tmp_path)))
    made.conf_activity("silent", silent_at_first, heartbeat=0.5, retry=(0, 0))
    assert made.run() == "done"


def test_silence_that_no_attempt_is_left_for_is_a_timeout_that_tells_the_last_sign_of_life(tmp_path: Path) -> None:
    made = LocalWorkflow(lambda silent: lambda: silent(str(tmp_path)))
    made.conf_activity("silent", silent_at_first, heartbeat=0.5)
    with pytest.raises(TaskTimedout, match="silent#1 gave no heartbeat for 0.5 s; it said last: half way"):
        made.run()


def test_an_activity_whose_first_parameter_is_heartbeat_gets_the_function_there(workflow: Make) -> None:
    assert workflow(lambda handed: handed, handed=handed).run(1) == 2


def test_an_abandoned_thread_learns_from_its_heartbeat_that_nobody_waits() -> None:
    told = threading.Event()

    def stay() -> None:
        while heartbeat():
            time.sleep(0.01)
        told.set()

    made = LocalWorkflow(lambda stay: lambda: stay())
    made.conf_activity("stay", stay, timeout=0.1)
    with pytest.raises(TaskTimedout):
        made.run()
    assert told.wait(30)


def test_outside_a_workflow_a_heartbeat_does_nothing() -> None:
    assert beating(1) == "done"


# -- bad input --------------------------------------------------------------------------------------------------------


def exits() -> None:
    sys.exit(3)


def test_sys_exit_in_an_activity_is_a_failure(workflow: Make) -> None:
    with pytest.raises(TaskError, match=r"exits#1 called sys.exit\(3\)") as caught:
        workflow(lambda exits: exits, exits=exits).run()
    assert isinstance(caught.value.__cause__, StepExited)


def lock() -> Any:
    return threading.Lock()


def test_a_result_that_cannot_travel_is_an_error_within_a_second(workflow: Make) -> None:
    made = workflow(lambda lock: lock, lock=lock)
    began = time.monotonic()
    with pytest.raises(TaskError, match="result of step lock#1 cannot travel: lock"):
        made.run()
    assert time.monotonic() - began < 1


def circle() -> Any:
    found: list[Any] = []
    found.append({"a": found})
    return found


BAD = {
    "a lock": (threading.Lock, "call double#1: .*cannot travel: lock"),
    "a generator": (lambda: (n for n in range(3)), "call double#1: .*a generator, which can be read only once"),
    "an iterator": (lambda: [iter([1])], "call double#1: .*a list_iterator, which can be read only once"),
    "a list in itself": (circle, "call double#1: .*a list that contains itself"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_argument_is_an_error_that_names_the_call(workflow: Make, what: str) -> None:
    make, text = BAD[what]
    began = time.monotonic()
    with pytest.raises(TaskError, match=text):
        workflow(lambda double: lambda: double(make()), double=double).run()
    assert time.monotonic() - began < 1


def test_a_dependency_is_no_argument() -> None:
    made = LocalWorkflow(lambda double: lambda: double(double))
    made.conf_activity("double", double)
    with pytest.raises(TaskError, match="'double' is a dependency of a workflow"):
        made.run()


@dataclass
class Power:
    """A callable that cannot be hashed."""

    exponent: int

    def __call__(self, n: int) -> int:
        return int(n**self.exponent)


def test_any_callable_is_an_activity(workflow: Make) -> None:
    assert workflow(lambda power, text: lambda: text(power(3)), power=Power(2), text=str).run() == "9"


async def later(value: Any) -> Any:
    return value


def test_an_async_activity_works(workflow: Make) -> None:
    assert workflow(lambda later: lambda: later(5), later=later).run() == 5
