"""Workflows on an engine: groups, parallel tasks, resources."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raflow.metrics import Status
from raflow.providers import StorageFile
from raflow.workflows.chain import Config, Task, Workflow, action


@action
def process_id() -> int:
    return os.getpid()


@action
def increase(previous_context: Any, initial_context: Any) -> Any:
    return (previous_context.storage or 0) + (initial_context.storage or 1)


@action
def seen(previous_context: Any) -> Any:
    return previous_context.storage, previous_context.task_id


@action
def fail() -> None:
    msg = "no"
    raise ValueError(msg)


@action(retry=3, retry_delay=0)
def fail_thrice() -> None:
    msg = "no"
    raise ValueError(msg)


@action
def leave() -> None:
    sys.exit(4)


@action
def drop_dead() -> None:
    os._exit(7)


@action
def lock() -> Any:
    return threading.Lock()


@action(timeout=0.3, retry=2, retry_delay=0)
def slow() -> None:
    time.sleep(60)


@action
def large() -> bytes:
    return bytes(2_000_000)


@action
def meet(initial_context: Any) -> bool:
    """Wait until the other one is here as well."""
    folder, own, other = initial_context.storage
    (Path(folder) / own).touch()
    deadline = time.monotonic() + 60
    while not (Path(folder) / other).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


@action(num_cpus=0.5)
def with_resources(previous_context: Any) -> Any:
    return previous_context.storage


def statuses(workflow: Workflow) -> list[str]:
    return [task.status for task in workflow.result_task()]


def parallel(engine: str, *steps: Any, **options: Any) -> Workflow:
    workflow = Workflow()
    workflow.task.add(list(steps))
    workflow.start(mode="parallel", engine=engine, **options)
    return workflow


def grouped(engine: str, groups: dict[str, list[Any]], **options: Any) -> Workflow:
    workflow = Workflow(**options.pop("workflow", {}))
    for name, steps in groups.items():
        workflow.task.add(steps, group_name=name)
    workflow.start(engine=engine, **options)
    return workflow


def test_parallel_tasks_run_in_other_processes_without_each_other_s_results(engine: str) -> None:
    workflow = parallel(engine, process_id, seen, process_id)
    first, second, third = workflow.result_storage()
    assert os.getpid() not in (first, third)
    assert second == (None, "")
    for task in workflow.result_task():
        assert task.started_at and task.finished_at and task.duration is not None  # noqa: PT018


def test_parallel_tasks_run_at_the_same_time(engine: str, tmp_path: Path) -> None:
    workflow = Workflow()
    workflow.task.add(meet, initial_context=(str(tmp_path), "a", "b"))
    workflow.task.add(meet, initial_context=(str(tmp_path), "b", "a"))
    assert workflow.start(mode="parallel", engine=engine).status == "Completed"


def test_groups_run_at_the_same_time_and_their_tasks_in_order(engine: str, tmp_path: Path) -> None:
    workflow = Workflow()
    workflow.task.add(meet, initial_context=(str(tmp_path), "a", "b"), group_name="one")
    workflow.task.add(increase, initial_context=10, group_name="one")
    workflow.task.add(meet, initial_context=(str(tmp_path), "b", "a"), group_name="two")
    workflow.task.add(seen, group_name="two")
    assert workflow.start(engine=engine).status == "Completed"
    assert workflow.result_storage() == [True, 11, True, (True, "meet#1")]
    assert workflow.result_task()[1].previous_context.storage is True


def test_one_failing_parallel_task_leaves_the_others(engine: str) -> None:
    workflow = parallel(engine, process_id, fail_thrice, process_id)
    assert statuses(workflow) == ["Completed", "Failed", "Completed"]
    task = workflow.result_task()[1]
    assert [(one.attempt, one.exception, one.message) for one in task.errors] == [
        (n, "ValueError", "no") for n in (1, 2, 3)
    ]
    assert (task.retry_count, task.state) == (2, Status.FAILED)
    assert "in fail_thrice" in task.errors[0].traceback


def test_a_failure_in_a_group_ends_that_group_only(engine: str) -> None:
    workflow = grouped(engine, {"a": [fail, seen], "b": [increase, increase]})
    assert statuses(workflow) == ["Failed", "Not started", "Completed", "Completed"]
    assert workflow.result_storage() == [None, None, 1, 2]


class Full(StorageFile):
    """Has no room for one result."""

    def post(self, key: str, value: Any) -> None:
        if key.endswith("increase#0"):
            raise OSError(28, "no space left")
        super().post(key, value)


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_result_that_cannot_be_kept_ends_its_group_unless_that_is_to_go_on(
    engine: str, tmp_path: Path, keep_going: bool
) -> None:
    config = {"config": Config(storage=Full(path=tmp_path)), "workflow_id": "w"}
    workflow = grouped(engine, {"a": [increase, seen, seen], "b": [seen]}, workflow=config, keep_going=keep_going)
    rest = "Completed" if keep_going else "Not started"
    assert statuses(workflow) == ["Failed", rest, rest, "Completed"]
    assert "no space left" in workflow.result_task()[0].errors[0].message
    assert workflow.result_storage()[1] == ((None, "") if keep_going else None)


def test_with_keep_going_a_group_goes_on_with_its_last_result(engine: str) -> None:
    workflow = grouped(engine, {"a": [increase, fail, seen], "b": [fail, seen]}, keep_going=True)
    assert workflow.result_storage() == [1, None, (1, "increase#0"), None, (None, "")]


def test_sys_exit_fails_the_task_by_name(engine: str) -> None:
    for workflow in (parallel(engine, leave), grouped(engine, {"a": [leave], "b": []})):
        assert statuses(workflow) == ["Failed"]
        assert "leave#0 called sys.exit(4)" in workflow.task.queue[0].errors[0].message


def test_a_dying_process_fails_its_task_and_no_other(engine: str) -> None:
    workflow = parallel(engine, process_id, drop_dead, process_id)
    assert statuses(workflow) == ["Completed", "Failed", "Completed"]
    assert workflow.result_task()[1].errors[0].exception == "StepLost"


def test_a_timeout_ends_a_task_and_is_tried_again(engine: str) -> None:
    task = parallel(engine, slow).result_task()[0]
    assert (task.state, task.retry_count, [one.exception for one in task.errors]) == (
        Status.TIMED_OUT,
        1,
        ["StepTimedOut", "StepTimedOut"],
    )


def test_what_cannot_travel_fails_its_task_by_name_and_never_hangs(engine: str) -> None:
    held = threading.Lock()

    @action
    def holds() -> Any:
        return held

    workflow = parallel(engine, lock, process_id)
    assert statuses(workflow) == ["Failed", "Completed"]
    assert "the result of step lock#0 cannot travel" in workflow.task.queue[0].errors[0].message
    began = time.monotonic()
    workflow = Workflow()
    workflow.task.add([increase, seen], initial_context=held, group_name="a").add(holds, group_name="b")
    workflow.start(mode="parallel", engine=engine)
    assert time.monotonic() - began < 10
    assert [task.errors[0].exception for task in workflow.result_task()] == ["NotSerializable"] * 3
    assert all(
        task.task_id in task.errors[0].message or "holds" in task.errors[0].message for task in workflow.result_task()
    )
    assert "step increase#0" in workflow.task.queue[0].errors[0].message


def test_large_results_and_many_tasks_do_not_hang(engine: str) -> None:
    assert [len(value) for value in parallel(engine, large, large).result_storage()] == [2_000_000] * 2
    assert len(set(parallel(engine, *[increase] * 200).result_storage())) == 1
    assert grouped(engine, {"a": [large, increase_length], "b": [large]}).result_storage()[1] == 2_000_000


@action
def increase_length(previous_context: Any) -> int:
    return len(previous_context.storage)


def test_resources_send_a_chain_to_the_engine(engine: str) -> None:
    workflow = Workflow()
    workflow.task.add([increase, with_resources])
    run = workflow.start(engine=engine)
    assert (run.engine, workflow.result_storage()) == (engine, [1, 1])


def test_a_chain_given_an_engine_runs_there(engine: str) -> None:
    workflow = Workflow()
    workflow.task.add([process_id, seen])
    workflow.start(engine=engine)
    first, second = workflow.result_storage()
    assert (first == os.getpid()) is (engine == "local")
    assert second == (first, "process_id#0")


def test_the_engine_is_chosen_by_a_table_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    workflow = grouped("auto", {"a": [increase], "b": [increase]})
    assert workflow.result_storage() == [1, 1]
    monkeypatch.delenv("RAFLOW_ENGINE")
    plain = Workflow()
    plain.task.add(increase)
    assert plain.start().engine == plain.start(mode="background").wait().engine == "local"


def test_groups_in_the_background_and_their_callbacks(engine: str) -> None:
    told: list[Any] = []

    def done(task: Task) -> None:
        told.append((task.task_id, task.current_context.storage))

    workflow = Workflow()
    workflow.task.add([increase, increase], callback=done, group_name="a").add(increase, callback=done, group_name="b")
    assert workflow.start(mode="background", engine=engine).wait(60).status == "Completed"
    assert sorted(told) == [("increase#0", 1), ("increase#1", 2), ("increase#2", 1)]


def test_a_resume_skips_what_has_succeeded_and_hands_its_result_on(engine: str, tmp_path: Path) -> None:
    mark = tmp_path / "mended"

    @action
    def needs_mark(previous_context: Any) -> Any:
        assert mark.exists()
        return previous_context.storage, previous_context.task_id

    def workflow() -> Workflow:
        made = Workflow(Config(storage=StorageFile(path=tmp_path / "kept")), workflow_id="w")
        made.task.add([process_id, needs_mark, seen], group_name="a").add([increase, fail], group_name="b")
        return made

    first, second = workflow(), workflow()
    assert first.start(engine=engine).status == "Failed"
    mark.touch()
    second.start(engine=engine, resume=True)
    before = first.result_storage()[0]
    assert second.result_storage() == [
        before,
        (before, "process_id#0"),
        ((before, "process_id#0"), "needs_mark#0"),
        1,
        None,
    ]
    assert second.task.queue[0].started_at is None
    assert second.task.queue[1].started_at is not None


def test_changes_on_an_engine_are_logged_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raflow")
    workflow = Workflow(workflow_id="w")
    workflow.task.add(fail_thrice)
    workflow.start(mode="parallel", engine="local")
    lines = [(one.levelname, one.getMessage()) for one in caplog.records if "fail_thrice" in one.getMessage()]
    going, again = (
        ("INFO", "workflow w: task fail_thrice#0: In progress"),
        "workflow w: task fail_thrice#0: Retry: ValueError: no",
    )
    failed = ("ERROR", "workflow w: task fail_thrice#0: Failed: ValueError: no")
    assert [line for line in lines if "progress: " not in line[1]][:2] == [going, ("INFO", again)]
    assert lines[-1] == failed
    assert len(lines) == 6
