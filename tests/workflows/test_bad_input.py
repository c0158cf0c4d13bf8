# mypy: disable-error-code="misc,attr-defined"
"""What users give to workflows by mistake: a clear error with step and item, at once, and the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raflow import Config, Configuration, FlowSpec, RayWorkflow, Workflow, action, foreach, needs, step
from raflow.errors import FlowFailed, NotSerializable, StepExited, StepLost, TaskError
from raflow.providers import StorageFile

DEADLINE_S = 30


def circle() -> list[Any]:
    found: list[Any] = [1]
    found.append(found)
    return found


def generator() -> Any:
    return (number for number in range(3))


MADE: dict[str, Callable[[], Any]] = {
    "a lock": threading.Lock,
    "a generator": generator,
    "a circle": circle,
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(4),
    "a kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


class Made(FlowSpec):
    """Each item names what its step makes; others are returned as they are."""

    @foreach
    @step
    def items(data: Any) -> Any:
        return [MADE[name]() for name in data["items"]] if isinstance(data, dict) else data

    @needs(predecessors=[items])
    @step
    def work(item: Any) -> Any:
        made = MADE.get(item) if isinstance(item, str) else None
        return made() if made else item


def ran(given: Any, engine: str) -> Any:
    flow = Made("made", given, Configuration(engine=engine))
    flow.run()
    return flow


# -- class workflows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "kind", "told"),
    [
        ("a lock", NotSerializable, "the result of step work_2 cannot travel: lock"),
        ("a generator", NotSerializable, "the result of step work_2 cannot travel: generator"),
        ("sys.exit", StepExited, r"step work_2 called sys.exit\(3\)"),
    ],
)
def test_an_item_that_makes_what_cannot_be_is_named(engine: str, item: str, kind: type, told: str) -> None:
    began = time.monotonic()
    with pytest.raises(FlowFailed, match=rf"^Flow failed: Step work_2 failed: {kind.__name__}: {told}") as caught:
        ran(["fine", "fine", item, "fine"], engine)
    assert isinstance(caught.value.__cause__, kind)
    assert time.monotonic() - began < (1 if engine == "local" else DEADLINE_S)


@pytest.mark.ray
@pytest.mark.parametrize("end", ["os._exit", "a kill"])
@pytest.mark.usefixtures("ray_session")
def test_an_item_that_ends_its_process_is_named(end: str) -> None:
    with pytest.raises(FlowFailed, match=r"^Flow failed: Step work_1 failed: StepLost: .*work_1") as caught:
        ran(["fine", end, "fine"], "ray")
    assert isinstance(caught.value.__cause__, StepLost)


@pytest.mark.parametrize("what", ["a lock", "a generator"])
def test_an_item_of_a_fan_out_that_cannot_travel_is_named(engine: str, what: str) -> None:
    with pytest.raises(FlowFailed, match=r"Step items_0 failed: NotSerializable: item 1 of step items_0 cannot travel"):
        ran({"items": ["a circle", what]}, engine)


def test_an_input_that_can_be_read_only_once_is_named(engine: str) -> None:
    with pytest.raises(FlowFailed, match="Step items_0 failed: NotSerializable: the input of flow made cannot travel"):
        ran(generator(), engine)


def test_a_value_that_contains_itself_travels_as_it_is(engine: str) -> None:
    class Circles(FlowSpec):
        @step
        def make(data: Any) -> Any:
            assert data[1] is data
            return circle()

        @needs(predecessors=[make])
        @step
        def use(made: Any) -> bool:
            return made[1] is made

    flow = Circles("circles", circle(), Configuration(engine=engine))
    flow.run()
    assert flow.get_result(flow.use) is True


# -- chains -------------------------------------------------------------------------------------------


@action
def seen(initial_context: Any) -> int:
    return len(initial_context.storage)


@action
def makes(initial_context: Any) -> Any:
    return MADE[initial_context.storage]()


def chained(steps: Any, initial: Any, engine: str, config: Config | None = None, **options: Any) -> Workflow:
    workflow = Workflow(config, workflow_id="bad")
    workflow.task.add(steps, initial_context=initial)
    assert workflow.start(engine=engine, **options).status == "Failed"
    return workflow


@pytest.mark.parametrize(
    ("steps", "initial", "told"),
    [
        (seen, generator, "an argument of step seen#0 cannot travel"),
        (makes, "a generator", "the result of step makes#0 cannot travel: generator"),
        (makes, "os._exit", "makes#0"),
        (makes, "a kill", "makes#0"),
    ],
)
def test_a_parallel_task_with_what_cannot_be_is_named(engine: str, steps: Any, initial: Any, told: str) -> None:
    given = initial() if callable(initial) else initial
    workflow = chained(steps, given, engine, mode="parallel")
    assert told in workflow.task.queue[0].errors[0].message


@pytest.mark.parametrize("what", ["a lock", "a generator", "a circle"])
def test_what_a_storage_cannot_keep_is_named_with_its_task(tmp_path: Path, what: str) -> None:
    config = Config(storage=StorageFile(path=tmp_path))
    workflow = chained([makes, seen], what, "local", config)
    assert "'bad/steps/makes#0'" in workflow.task.queue[0].errors[0].message
    assert [task.status for task in workflow.result_task()] == ["Failed", "Not started"]
    with pytest.raises(NotSerializable, match="the initial_context of makes#0"):
        chained(makes, MADE[what](), "local", config)


# -- inferred workflows -------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.parametrize("end", ["os._exit", "a kill"])
@pytest.mark.usefixtures("ray_session")
def test_an_activity_that_ends_its_process_on_ray_is_named(end: str) -> None:
    def ends(what: str) -> Any:
        return MADE[what]()

    workflow = RayWorkflow(lambda ends: lambda: ends(end))
    workflow.conf_activity("ends", ends)
    with pytest.raises(TaskError, match="ends#1") as caught:
        workflow.run()
    assert isinstance(caught.value.__cause__, StepLost)


# -- the process --------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, threading
from raflow import Configuration, FlowSpec, LocalWorkflow, Workflow, action, foreach, join, needs, step

def told(work):
    try:
        print(work(), flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0], flush=True)

class Flow(FlowSpec):
    @foreach
    @step
    def items(data):
        return data

    @needs([items])
    @step
    def work(item):
        if item == "lock":
            return threading.Lock()
        if item == "exit":
            sys.exit(3)
        if item == "hang":
            threading.Event().wait()

def flow(given, **conf):
    Flow("flow", given, Configuration(engine="local", **conf)).run()

def inferred(function, executor="threads"):
    made = LocalWorkflow(lambda f: lambda: f(), executor=executor)
    made.conf_activity("f", function)
    return made.run()

def chain(function, mode):
    workflow = Workflow()
    workflow.task.add(action(function))
    return workflow.start(mode=mode, engine="local").wait().status

def lock():
    return threading.Lock()

def leave():
    sys.exit(3)

def drop_dead():
    os._exit(4)

told(lambda: flow(["hang", "lock"]))
told(lambda: flow(["hang", "exit"]))
told(lambda: flow(5))
told(lambda: flow([1] * 51))
told(lambda: inferred(lock))
told(lambda: inferred(leave))
told(lambda: inferred(drop_dead, "processes"))
told(lambda: chain(leave, "sequential"))
told(lambda: chain(leave, "background"))
told(lambda: chain(drop_dead, "parallel"))
told(lambda: chain(lock, "parallel"))
"""


def test_after_all_of_these_the_process_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    expected = [
        "FlowFailed Flow failed: Step work_1 failed: NotSerializable",
        "FlowFailed Flow failed: Step work_1 failed: StepExited",
        "FlowFailed Flow failed: Step items_0 failed: TypeError",
        "FlowFailed Flow failed: Step work_0 failed: InvalidOption",
        "TaskError NotSerializable: the result of step f#1",
        "TaskError StepExited",
        "TaskError StepLost",
        *["Failed"] * 4,
    ]
    assert len(lines) == len(expected), done.stdout
    assert [line for line, beginning in zip(lines, expected, strict=True) if not line.startswith(beginning)] == []
