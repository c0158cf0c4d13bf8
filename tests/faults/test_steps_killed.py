"""kill -9 of a workflow, os._exit in a step, and steps that never end: resumed exactly, told clearly, nothing left."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from raflow import Context, LocalWorkflow, Workflow, action

Until = Callable[..., None]
ROOT = Path(__file__).parents[2]

LINK = """
import random, sys, time
from pathlib import Path
from uuid import uuid4

FOLDER = Path(sys.argv[1])

def link(number, before):
    value = (number, random.random(), before and before[1], b"bytes", {number: None})
    told = FOLDER / f"{number}-{uuid4()}"
    told.with_suffix(".new").write_text(repr(value))
    told.with_suffix(".new").rename(told.with_suffix(".seen"))
    if number == 3 and (FOLDER / "hold").exists():
        time.sleep(600)  # until it is killed
    return value
"""
"""A step of the chains below: says that it has begun, and with what value it will end."""

CHAIN = """
from raflow import Config, Workflow, action
from raflow.providers import StorageFile

@action
def work(initial_context, previous_context):
    return link(initial_context.storage, previous_context.storage)

chain = Workflow(Config(storage=StorageFile(path=FOLDER / "kept")), workflow_id="five")
for number in range(1, 6):
    chain.task.add(work, initial_context=number)
assert chain.start(resume=len(sys.argv) > 2).status == "Completed"
print(chain.result_storage())
"""

INFERRED = """
from raflow import LocalWorkflow

class Five:
    def __init__(self, work):
        self.work = work

    def __call__(self):
        values = [None]
        for number in range(1, 6):
            values.append(self.work(number, values[-1]))
        return values[1:]

five = LocalWorkflow(Five, storage=FOLDER / "kept", workflow_id="five")
five.conf_activity("work", link)
print(five.run(_resume=len(sys.argv) > 2))
"""

EXITS = """
import json, os, sys, time
from pathlib import Path
import psutil
from raflow import FlowSpec, LocalWorkflow, Workflow, action, foreach, needs, step

FOLDER = Path(sys.argv[1])

def tell():
    (FOLDER / str(os.getpid())).touch()

def leave():
    tell()
    os._exit(3)

def family():
    print(json.dumps([child.pid for child in psutil.Process().children(recursive=True)]), flush=True)
"""

EXITS_CHAIN = """
@action
def stays():
    tell()
    return "well"

@action
def leaves():
    leave()

chain = Workflow()
chain.task.add([stays, leaves])
chain.start(mode="parallel", engine="local")
family()
for task in chain.result_task():
    print(task.task_id, task.status, task.current_context.storage, *(error.message for error in task.errors[-1:]))
sys.exit([task.status for task in chain.result_task()] == ["Completed", "Failed"])
"""

EXITS_INFERRED = """
def closure(leaves):
    return lambda: leaves() + 1

workflow = LocalWorkflow(closure, executor="processes")
workflow.conf_activity("leaves", leave)
try:
    workflow.run()
finally:
    family()
"""

EXITS_CLASS = """
class Leaving(FlowSpec):
    @step
    def stays():
        tell()

    @needs(predecessors=[stays])
    @step
    def leaves(before):
        leave()

try:
    Leaving("leaving", None).run()
finally:
    family()
"""

UNGUARDED = """
import os
from raflow import Workflow, action

LIMIT = 20

class Box:
    def __init__(self, value):
        self.value = value

def doubled(number):
    return Box(min(2 * number, LIMIT))

@action
def double(initial_context):
    return doubled(initial_context.storage), os.getpid()

print("once")
workflow = Workflow()
for number in (1, 2, 30):
    workflow.task.add(double, initial_context=number)
workflow.start(mode="parallel", engine="local")
for box, pid in workflow.result_storage():
    assert isinstance(box, Box) and pid != os.getpid()
    print(box.value)
"""

ABANDONS = """
import sys, time
from raflow import Configuration, FlowSpec, LocalWorkflow, Workflow, action, step

def never():
    time.sleep(600)

def in_chain():
    chain = Workflow()
    chain.task.add(action(timeout=0.2)(never))
    chain.start()
    print(chain.result_task()[0].errors[-1].message)

def in_inferred():
    workflow = LocalWorkflow(lambda never: lambda: never() + 1)
    workflow.conf_activity("never", never, timeout=0.2)
    workflow.run()

def in_class():
    class Late(FlowSpec):
        @step(timeout=0.2)
        def never():
            never()

    Late("late", None, Configuration(engine="local")).run()

try:
    globals()[sys.argv[1]]()
except Exception as error:
    print(error)
print("ended at", time.monotonic(), flush=True)
"""


@dataclass
class Scripts:
    """Scripts as users run them, in a folder of their own."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        script = self.folder.parent / f"{self.folder.name}.py"
        script.write_text(text)
        command = [sys.executable, str(script), *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.running.append(
            subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
        )
        return self.running[-1]

    def run(self, text: str, *arguments: str, code: int = 0) -> str:
        process = self.start(text, *arguments)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == code, printed
        return printed

    def seen(self, number: int) -> list[tuple[Any, ...]]:
        """The values with which a step of LINK was going to end, one for each time that it began."""
        return [ast.literal_eval(path.read_text()) for path in self.folder.glob(f"{number}-*.seen")]

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    folder = tmp_path / "script"
    folder.mkdir()
    made = Scripts(folder)
    yield made
    made.end()


@pytest.mark.parametrize("text", [CHAIN, INFERRED], ids=["chain", "inferred"])
def test_three_kills_in_step_3_of_5_repeat_no_step_that_had_ended(
    scripts: Scripts, wait_until: Until, text: str
) -> None:
    (scripts.folder / "hold").touch()
    for kills in range(3):
        process = scripts.start(LINK + text, str(scripts.folder), *["resume"] * bool(kills))
        wait_until(lambda kills=kills: len(scripts.seen(3)) > kills, "step 3 has begun", 30)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (scripts.folder / "hold").unlink()
    values = ast.literal_eval(scripts.run(LINK + text, str(scripts.folder), "resume"))
    assert [len(scripts.seen(number)) for number in range(1, 6)] == [1, 1, 4, 1, 1]
    assert values[:2] == [scripts.seen(1)[0], scripts.seen(2)[0]]
    assert values[2] in scripts.seen(3)
    assert values[3:] == [scripts.seen(4)[0], scripts.seen(5)[0]]
    assert [value[2] for value in values] == [None, *(value[1] for value in values[:4])]
    again = ast.literal_eval(scripts.run(LINK + text, str(scripts.folder), "resume"))
    assert again == values
    assert [len(scripts.seen(number)) for number in range(1, 6)] == [1, 1, 4, 1, 1]


class Watchful:
    """A storage that looks, before it keeps a result, whether a step has begun that uses it."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.begun = [threading.Event() for _ in range(5)]
        self.early: list[int] = []

    def read(self, key: str) -> Any:
        return self.kept.get(key)

    def write(self, key: str, value: Any) -> None:
        number = value.get("value")
        if number is not None and number < 4 and self.begun[number + 1].wait(0.2):
            self.early.append(number + 1)
        self.kept[key] = value


def test_a_step_begins_when_the_results_that_it_uses_are_recorded() -> None:
    storage = Watchful()

    def follow(before: int) -> int:
        storage.begun[before + 1].set()
        return before + 1

    def chain(work: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: work(work(work(work(work(-1)))))

    workflow = LocalWorkflow(chain, storage=storage, workflow_id="five")
    workflow.conf_activity("work", follow)
    assert workflow.run() == 4
    assert storage.early == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(EXITS_CHAIN, "step leaves#0: its process exited with code 3", id="chain"),
        pytest.param(EXITS_INFERRED, "step leaves#1: its process exited with code 3", id="inferred"),
        pytest.param(EXITS_CLASS, "step leaves_0: its worker: its process crashed", id="class", marks=pytest.mark.ray),
    ],
)
def test_a_step_that_leaves_its_process_is_named_and_no_process_is_left(
    scripts: Scripts, wait_until: Until, text: str, says: str
) -> None:
    printed = scripts.run(EXITS + text, str(scripts.folder), code=1)
    assert says in printed
    assert "StepLost" in printed
    steps = [int(path.name) for path in scripts.folder.iterdir()]
    assert steps
    family = json.loads(next(line for line in printed.splitlines() if line.startswith("[")))
    wait_until(lambda: not [pid for pid in [*steps, *family] if is_alive(pid)], "all its processes have ended", 15)


def is_alive(pid: int) -> bool:
    """Whether it runs; but for Ray's two agents, which spend up to a minute telling a dead server that it is dead."""
    try:
        process = psutil.Process(pid)
        agent = process.name().startswith(("ray::DashboardA", "ray::RuntimeEnvA"))
        return not agent and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_script_needs_no_main_guard_and_its_functions_and_classes_travel(scripts: Scripts) -> None:
    assert scripts.run(UNGUARDED).split() == ["once", "2", "4", "20"]


@pytest.mark.parametrize("where", ["in_chain", "in_inferred", "in_class"])
def test_a_step_that_was_abandoned_keeps_no_process_from_ending(scripts: Scripts, where: str) -> None:
    printed = scripts.run(ABANDONS, where)
    ended = time.monotonic()
    assert "took longer than its timeout of 0.2 s" in printed
    assert ended - float(printed.split()[-1]) < 5


@action
def compute(initial_context: Context) -> int:
    """Compute until the other one does too."""
    folder = Path(initial_context.storage)
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline, "the other task has not begun within 60 s"
        sum(range(100_000))
    return os.getpid()


def test_two_tasks_in_parallel_compute_in_two_processes(engine: str, tmp_path: Path) -> None:
    workflow = Workflow()
    for _ in range(2):
        workflow.task.add(compute, initial_context=str(tmp_path))
    workflow.start(mode="parallel", engine=engine)
    pids = workflow.result_storage()
    assert [task.status for task in workflow.result_task()] == ["Completed"] * 2
    assert len({*pids, os.getpid()}) == 3
