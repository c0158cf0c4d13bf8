"""Retries, waits and timeouts of tasks in this process."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from raflow.metrics import Status
from raflow.workflows.chain import Task, Workflow, action


def run(step: Any, **options: Any) -> Task:
    workflow = Workflow()
    workflow.task.add(step)
    workflow.start(**options)
    return workflow.result_task()[0]


def failing(times: int, error: BaseException) -> Any:
    calls = iter(range(times))

    def function() -> str:
        if next(calls, None) is not None:
            raise error
        return "good"

    return function


def test_a_failure_is_tried_again_and_all_errors_are_kept_with_their_attempts() -> None:
    task = run(action(retry=3, retry_delay=0)(failing(9, ValueError("no"))))
    assert (task.status, task.state, task.retry_count) == ("Failed", Status.FAILED, 2)
    assert [(one.attempt, one.exception, one.message) for one in task.errors] == [
        (1, "ValueError", "no"),
        (2, "ValueError", "no"),
        (3, "ValueError", "no"),
    ]
    assert task.error == task.errors[-1]
    assert "in function\n    raise error\n" in task.errors[0].traceback


def test_a_success_after_retries_is_a_success_that_remembers() -> None:
    task = run(action(retry=3, retry_delay=0)(failing(2, ValueError("no"))))
    assert (task.status, task.current_context.storage, task.retry_count, len(task.errors)) == (
        "Completed",
        "good",
        2,
        2,
    )


def test_no_retry_and_zero_retries_are_one_attempt() -> None:
    assert len(run(action(failing(9, ValueError()))).errors) == 1
    assert len(run(action(retry=0)(failing(9, ValueError()))).errors) == 1


def test_waits_double_with_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    run(action(retry=4, retry_delay=2, backoff=True)(failing(9, ValueError())))
    assert waits == [2, 4, 8]


def test_jitter_and_max_delay_bound_the_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    run(action(retry=5, retry_delay=2, backoff=True, max_delay=5, jitter=1)(failing(9, ValueError())))
    assert [int(wait) for wait in waits] == [2, 4, 5, 5]


def test_only_errors_of_retry_on_are_tried_again() -> None:
    assert len(run(action(retry=3, retry_delay=0, retry_on=OSError)(failing(9, ValueError()))).errors) == 1
    assert (
        len(run(action(retry=3, retry_delay=0, retry_on=(OSError, ValueError))(failing(9, ValueError()))).errors) == 3
    )


def test_timeouts_of_the_user_s_own_code_are_tried_again() -> None:
    assert run(action(retry=3, retry_delay=0)(failing(2, TimeoutError("socket")))).status == "Completed"


@pytest.mark.parametrize(
    "text", ["initial_context", "previous_context", "missing 1 required positional argument: 'self'"]
)
def test_the_text_of_an_error_decides_nothing(text: str) -> None:
    task = run(action(retry=2, retry_delay=0)(failing(9, KeyError(text))))
    assert [(one.attempt, one.exception) for one in task.errors] == [(1, "KeyError"), (2, "KeyError")]
    assert text.partition("'")[0] in task.errors[0].message


@pytest.mark.parametrize("error", [AssertionError("wrong"), GeneratorExit(), asyncio.CancelledError()])
def test_every_kind_of_error_fails_the_task_and_not_the_caller(error: BaseException) -> None:
    task = run(action(failing(9, error)))
    assert (task.status, task.errors[0].exception) == ("Failed", type(error).__name__)


def test_sys_exit_fails_the_task() -> None:
    task = run(action(retry=3)(lambda: sys.exit(3)))
    assert (task.status, [one.exception for one in task.errors]) == ("Failed", ["StepExited"])
    assert "<lambda>#0 called sys.exit(3)" in task.errors[0].message


def test_an_interrupt_interrupts_and_leaves_no_task_in_progress() -> None:
    workflow = Workflow()
    workflow.task.add([action(failing(9, KeyboardInterrupt())), action(lambda: 1)])
    with pytest.raises(KeyboardInterrupt):
        workflow.start()
    assert [task.status for task in workflow.result_task()] == ["Failed", "Not started"]
    assert workflow.result_task()[0].state is Status.CANCELLED


def test_a_timeout_ends_an_attempt_and_is_tried_again() -> None:
    never, attempts = threading.Event(), []

    @action(retry=2, retry_delay=0, timeout=0.05)
    def slow() -> None:
        attempts.append(threading.current_thread())
        never.wait()

    task = run(slow)
    never.set()
    assert (task.status, task.state, len(attempts)) == ("Failed", Status.TIMED_OUT, 2)
    assert [one.exception for one in task.errors] == ["StepTimedOut", "StepTimedOut"]
    assert "slow#0 took longer than its timeout of 0.05 s" in task.errors[0].message
    assert all(thread.daemon for thread in attempts)


def test_a_late_result_of_a_timed_out_attempt_is_dropped() -> None:
    late, firsts = threading.Event(), iter([True])

    @action(retry=2, retry_delay=0, timeout=0.1)
    def step() -> str:
        if next(firsts, False):
            late.wait()
            return "late"
        return "second"

    task = run(step)
    late.set()
    assert (task.status, task.current_context.storage) == ("Completed", "second")


def test_queue_empty_raised_by_a_step_with_a_timeout_is_no_timeout() -> None:
    task = run(action(timeout=5)(failing(9, queue.Empty())))
    assert (task.state, task.errors[0].exception) == (Status.FAILED, "Empty")


def test_async_functions_run_also_where_a_loop_is_running() -> None:
    @action(timeout=30)
    async def later() -> str:
        await asyncio.sleep(0)
        return "async"

    @action
    async def unbounded() -> str:
        await asyncio.sleep(0)
        return "async"

    async def main() -> list[Any]:
        return [run(later).current_context.storage, run(unbounded).current_context.storage]

    assert run(later).current_context.storage == run(unbounded).current_context.storage == "async"
    assert asyncio.run(main()) == ["async", "async"]


def test_a_coroutine_that_took_too_long_is_ended() -> None:
    ended = threading.Event()

    @action(timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert run(slow).state is Status.TIMED_OUT
    assert ended.wait(10)


def test_a_process_ends_at_once_although_a_timed_out_step_goes_on() -> None:
    program = """
import time
from raflow.workflows.chain import Workflow, action
@action(timeout=0.1)
def slow(): time.sleep(60)
workflow = Workflow()
workflow.task.add(slow)
print(workflow.start().status)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "Failed\n"
    assert time.monotonic() - began < 30
