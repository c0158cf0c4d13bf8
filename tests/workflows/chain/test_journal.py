"""Resume: what has succeeded is skipped, in the same process and in a new one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raflow.errors import CorruptCheckpoint, InputChangedError, NotSerializable, ResumeError, Superseded
from raflow.providers import Storage, StorageDefault, StorageFile
from raflow.workflows.chain import Config, Context, Task, Workflow, action


class OfTheUser:
    """Exactly three methods; keeps values and nothing else, as JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def post(self, key: str, context: Context) -> None:
        self.kept[key] = json.dumps(context.storage)

    def get(self, key: str) -> Context:
        return Context(storage=json.loads(self.kept[key]))

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}-{task.task_id}"


class OfTheUserDerived(OfTheUser, Storage):
    """The same, derived from the public class."""

    def get(self, key: str) -> Context:
        return Context(storage=json.loads(self.kept.get(key, "null")))


@pytest.fixture(params=["none", "default", "file", "user's", "user's derived"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Every kind of storage."""
    kinds: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "default": StorageDefault,
        "file": lambda: StorageFile(path=tmp_path),
        "user's": OfTheUser,
        "user's derived": OfTheUserDerived,
    }
    return Config(storage=kinds[request.param]())


class Steps:
    """Three steps that count; the third one fails until it is mended. The second one returns None."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.broken = True

        @action
        def first() -> Any:
            self.runs.append("first")
            return {"n": len(self.runs)}

        @action
        def second(previous_context: Any) -> None:
            self.runs.append("second")

        @action
        def third(previous_context: Any) -> Any:
            self.runs.append("third")
            if self.broken:
                raise ValueError
            return previous_context.storage, "third"

        self.all = [first, second, third]

    def workflow(self, config: Config, initial: Any = None, workflow_id: str | None = "w") -> Workflow:
        workflow = Workflow(config=config, workflow_id=workflow_id)
        workflow.task.add(self.all, initial_context=initial)
        return workflow


def statuses(workflow: Workflow) -> list[str]:
    return [task.status for task in workflow.result_task()]


def test_the_same_workflow_resumes_with_any_storage_and_without_a_fixed_id(config: Config) -> None:
    steps = Steps()
    told: list[str] = []
    workflow = steps.workflow(config, workflow_id=None)
    workflow.task.queue[0].callback = lambda task: told.append(task.task_id)
    assert workflow.start().status == "Failed"
    assert workflow.start(resume=True).status == "Failed"
    steps.broken = False
    assert workflow.start(resume=True).status == "Completed"
    assert steps.runs == ["first", "second", "third", "third", "third"]
    assert workflow.result_storage()[:2] == [{"n": 1}, None]
    assert workflow.result_task()[1].previous_context.storage == {"n": 1}
    assert told == ["first#0"]
    assert workflow.start(resume=True).status == "Completed"
    assert len(steps.runs) == 5


def test_values_are_the_same_after_any_number_of_resumes(config: Config) -> None:
    workflow = Workflow(config=config, workflow_id="w")
    workflow.task.add(action(lambda: [1, 2, 3])).add(action(lambda previous_context: previous_context.storage))
    workflow.start()
    for _ in range(3):
        workflow.start(resume=True)
        assert workflow.result_storage() == [[1, 2, 3], [1, 2, 3]]


def test_a_start_without_resume_forgets_what_was_there(config: Config) -> None:
    steps = Steps()
    steps.broken = False
    workflow = steps.workflow(config)
    workflow.start()
    del steps.all[0]
    steps.runs.clear()
    steps.broken = True
    workflow.start()
    workflow.start(resume=True)
    assert steps.runs == ["first", "second", "third", "third"]


def test_one_function_added_twice_is_two_tasks(config: Config) -> None:
    calls: list[int] = []

    @action
    def count() -> int:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError
        return len(calls)

    workflow = Workflow(config=config, workflow_id="w")
    workflow.task.add([count, count])
    workflow.start()
    workflow.start(resume=True)
    assert workflow.result_storage() == [1, 3]


def test_changed_input_is_refused_by_name_reused_or_reset(config: Config) -> None:
    steps = Steps()
    workflow = steps.workflow(config, initial={"day": 1})
    workflow.start()
    workflow.task.queue[1].initial_context = Context({"day": 2})
    with pytest.raises(InputChangedError, match=r"the initial_context of second#0 is not that of the run"):
        workflow.start(resume=True)
    workflow.start(resume=True, on_input_change="reuse")
    assert steps.runs == ["first", "second", "third", "third"]
    workflow.task.queue[1].initial_context = Context({"day": 3})
    workflow.start(resume=True, on_input_change="reset")
    assert steps.runs[4:] == ["first", "second", "third"]
    workflow.start(resume=True)
    assert steps.runs[7:] == ["third"]


def test_a_fingerprint_stands_for_the_input(config: Config) -> None:
    steps = Steps()
    workflow = steps.workflow(config, initial=1)
    workflow.start(fingerprint="monday")
    workflow.task.queue[0].initial_context = Context(2)
    workflow.start(resume=True, fingerprint="".join(["mon", "day"]))
    with pytest.raises(InputChangedError, match="the fingerprint is not"):
        workflow.start(resume=True, fingerprint="tuesday")
    assert steps.runs == ["first", "second", "third", "third"]


def test_a_new_object_resumes_from_a_storage_that_it_shares() -> None:
    for storage in (StorageDefault(), OfTheUser(), OfTheUserDerived()):
        steps = Steps()
        steps.workflow(Config(storage=storage)).start()
        steps.broken = False
        again = steps.workflow(Config(storage=storage))
        assert again.start(resume=True).status == "Completed"
        assert steps.runs == ["first", "second", "third", "third"]
        assert again.result_storage() in ([{"n": 1}, None, (None, "third")], [{"n": 1}, None, [None, "third"]])


@pytest.mark.parametrize("storage", [None, StorageDefault()])
def test_memory_cannot_be_resumed_in_a_new_process(storage: Any) -> None:
    with pytest.raises(ResumeError, match=r"only kept in memory; give Config\(storage=StorageFile"):
        Steps().workflow(Config(storage=storage)).start(resume=True)


def test_an_id_that_was_made_up_cannot_be_resumed_in_a_new_process(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r'made up for this process; give Workflow\(workflow_id="..."\)'):
        Steps().workflow(Config(storage=StorageFile(path=tmp_path)), workflow_id=None).start(resume=True)


def test_resume_before_a_first_run_is_a_first_run(tmp_path: Path) -> None:
    steps = Steps()
    steps.workflow(Config(storage=StorageFile(path=tmp_path))).start(resume=True)
    assert steps.runs == ["first", "second", "third"]


def test_a_damaged_result_is_an_error_and_not_a_silent_rerun(tmp_path: Path) -> None:
    steps = Steps()
    steps.workflow(Config(storage=StorageFile(path=tmp_path))).start()
    (file,) = list(tmp_path.rglob("*first#0.checkpoint"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorruptCheckpoint, match="first#0"):
        steps.workflow(Config(storage=StorageFile(path=tmp_path))).start(resume=True)
    assert len(steps.runs) == 3


def test_a_result_that_the_user_deleted_is_made_again(tmp_path: Path) -> None:
    steps, storage = Steps(), StorageFile(path=tmp_path)
    workflow = steps.workflow(Config(storage=storage))
    workflow.start()
    storage.delete(storage.key(workflow.task.queue[0]))
    workflow.start(resume=True)
    assert steps.runs == ["first", "second", "third", "first", "third"]


def test_a_result_that_cannot_be_kept_fails_its_task_by_name(tmp_path: Path) -> None:
    for step in (action(threading.Lock), action(lambda: (n for n in "ab"))):
        workflow = Workflow(Config(storage=StorageFile(path=tmp_path)), workflow_id="w")
        workflow.task.add([step, step])
        workflow.start()
        assert statuses(workflow) == ["Failed", "Not started"]
        error = workflow.task.queue[0].errors[0]
        assert error.exception == "NotSerializable"
        assert workflow.task.queue[0].task_id in error.message


def test_an_input_that_has_no_digest_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotSerializable, match="the initial_context of first#0"):
        Steps().workflow(Config(storage=StorageFile(path=tmp_path)), initial=threading.Lock()).start()


def test_the_older_of_two_runs_of_one_id_is_told(tmp_path: Path) -> None:
    def workflow(*steps: Any) -> Workflow:
        made = Workflow(Config(storage=StorageFile(path=tmp_path)), workflow_id="w")
        made.task.add(list(steps))
        return made

    younger = workflow(action(lambda: 1))

    @action
    def is_overtaken() -> int:
        younger.start(resume=True, on_input_change="reuse")
        return 2

    older = workflow(is_overtaken, action(lambda: 3))
    with pytest.raises(Superseded, match="resumed by another process"):
        older.start()
    assert "Completed" not in statuses(older)


def test_types_survive_a_new_process_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(
        textwrap.dedent("""
        import os, sys, uuid, datetime
        from raflow.workflows.chain import Config, Workflow, action
        from raflow.providers import StorageFile
        VALUE = (None, {1: {2, 3}}, b"x", uuid.UUID(int=5), datetime.date(2026, 1, 2))
        def say(text): print(text, flush=True)
        @action
        def one(): say("one"); return VALUE
        @action
        def two(previous_context): say("two"); return previous_context.storage == VALUE and None
        @action
        def three(initial_context):
            say("three")
            if sys.argv[1] == "die": os.kill(os.getpid(), 9)
            return 3
        @action
        def last(previous_context): say("last"); return previous_context.storage + 1
        workflow = Workflow(Config(storage=StorageFile(path="kept")), workflow_id="a/b c")
        workflow.task.add([one, two], initial_context=[1]).add([three, last], initial_context={"x": 1})
        workflow.start(resume=True)
        say(workflow.result_storage() == [VALUE, None, 3, 4])
        """)
    )

    def run(how: str) -> list[str]:
        command = [sys.executable, "killed.py", how]
        environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""}
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert not done.stderr, done.stderr
        return done.stdout.split()

    assert run("die") == ["one", "two", "three"]
    assert run("die") == ["three"]
    assert run("live") == ["three", "last", "True"]
    assert run("live") == ["True"]
