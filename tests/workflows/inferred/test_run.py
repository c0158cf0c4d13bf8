"""One run: who computes when, what happens at its end, what it costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from raflow.workflows.inferred import LocalWorkflow, TaskError, wait


def increased(n: int) -> int:
    return n + 1


def chain(touch: bool) -> LocalWorkflow:
    def factory(increase: Any) -> Callable[[int], Any]:
        def run(steps: int) -> Any:
            n: Any = 0
            for _ in range(steps):
                n = increase(wait(n) if touch else n)
            return n

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("increase", increased)
    return made


@pytest.mark.parametrize("touch", [False, True])
def test_each_of_thousands_of_steps_runs_once(touch: bool) -> None:
    made = chain(touch)
    assert made.run(2000) == 2000
    assert made.trace is not None
    assert len(made.trace.steps) == 2000
    assert all(step.attempts == 1 for step in made.trace.steps)


def test_workflow_workers_bounds_those_that_compute_and_not_those_that_wait() -> None:
    lock, computing, most = threading.Lock(), [0], [0]

    def compute() -> None:
        with lock:
            computing[0] += 1
            most[0] = max(most[0], computing[0])
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:
            pass
        with lock:
            computing[0] -= 1

    def sub(increase: Any) -> Callable[[int], Any]:
        def run(n: int) -> Any:
            compute()
            found = wait(increase(n))
            compute()
            return found

        return run

    inner = LocalWorkflow(sub)
    inner.conf_activity("increase", increased)
    outer = LocalWorkflow(lambda sub: lambda: [sub(n) for n in range(8)], workflow_workers=2)
    outer.conf_workflow("sub", inner)
    assert outer.run() == list(range(1, 9))
    assert most[0] == 2


def test_independent_activities_run_at_once() -> None:
    together = threading.Barrier(4)
    made = LocalWorkflow(lambda meet: lambda: [meet() for _ in range(4)], activity_workers=4)
    made.conf_activity("meet", lambda: together.wait(10) >= 0)
    assert made.run() == [True] * 4


def test_activity_workers_bounds_those_that_run_at_once() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    made = LocalWorkflow(lambda work: lambda: [work() for _ in range(50)], activity_workers=1)
    made.conf_activity("work", work)
    made.run()
    assert most[0] == 1


# -- the end ------------------------------------------------------------------------------------------------------


def test_tasks_that_nobody_needs_are_given_up_at_the_end() -> None:
    gate = threading.Event()
    made = LocalWorkflow(lambda stuck, increase: lambda: [stuck() and None, increase(1)][1:])
    made.conf_activity("stuck", lambda: gate.wait(60))
    made.conf_activity("increase", increased)

    def factory(stuck: Any, increase: Any) -> Callable[[], Any]:
        def run() -> Any:
            stuck()
            return increase(1)

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("stuck", lambda: gate.wait(60))
    made.conf_activity("increase", increased)
    began = time.monotonic()
    assert made.run() == 2
    assert time.monotonic() - began < 5
    assert made.trace is not None
    assert made.trace.steps[0].status.value == "cancelled"
    gate.set()


def test_wait_at_the_end_lets_all_tasks_finish() -> None:
    done: list[int] = []

    def factory(note: Any) -> Callable[[], Any]:
        def run() -> str:
            for n in range(20):
                note(n)
            return "returned"

        return run

    made = LocalWorkflow(factory, activity_workers=2)
    made.conf_activity("note", done.append)
    assert made.run(_wait=True) == "returned"
    assert sorted(done) == list(range(20))


def test_sub_workflows_that_nobody_needs_end_with_the_run() -> None:
    gate = threading.Event()
    entered = threading.Event()

    def stuck() -> bool:
        entered.set()
        return gate.wait(60)

    def inner(stuck: Any, increase: Any) -> Callable[[], Any]:
        def run() -> Any:
            try:
                wait(stuck())
            except TaskError:
                return [increase(n) for n in range(3)]

        return run

    def outer(sub: Any) -> Callable[[], Any]:
        def run() -> str:
            sub()
            assert entered.wait(10)
            return "returned"

        return run

    sub = LocalWorkflow(inner)
    sub.conf_activity("stuck", stuck)
    sub.conf_activity("increase", increased)
    made = LocalWorkflow(outer)
    made.conf_workflow("sub", sub)
    before = {thread for thread in threading.enumerate() if thread.name == "raflow workflow"}
    assert made.run() == "returned"
    gate.set()
    for thread in {thread for thread in threading.enumerate() if thread.name == "raflow workflow"} - before:
        thread.join(10)
        assert not thread.is_alive()


def test_a_result_that_outlives_its_run_still_has_its_value() -> None:
    kept: list[Any] = []

    def factory(increase: Any) -> Callable[[], Any]:
        def run() -> Any:
            kept.append(increase(1))
            return wait(kept[-1])

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("increase", increased)
    assert made.run() == 2
    assert kept[0] == 2
    again = LocalWorkflow(lambda increase: lambda: increase(kept[0]))
    again.conf_activity("increase", increased)
    assert again.run() == 3


PROGRAM = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
import raflow.workflows.inferred as inferred

def stuck():
    print("running", flush=True)
    time.sleep(600)

w = inferred.LocalWorkflow(lambda stuck: lambda: stuck())
w.conf_activity("stuck", stuck, timeout={timeout})
w.run()
"""


def test_the_process_exits_although_a_thread_is_stuck() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(timeout=0.3)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "TaskTimedout" in done.stderr


def test_an_interrupt_ends_the_run_and_the_process() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(timeout=0)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
