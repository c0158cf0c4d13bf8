"""Workflows in the caller's thread: what tasks get, what they leave, what stops them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from datetime import timezone
from typing import Any
from uuid import UUID

import pytest

from raflow.errors import FlowError, InvalidOption, NotCallableObject
from raflow.metrics import Status
from raflow.workflows.chain import Config, Context, TypeStatus, Workflow, action


@action
def one() -> int:
    return 1


@action
def increase(previous_context: Any) -> Any:
    return (previous_context.storage or 0) + 1


@action
def fail() -> None:
    msg = "no"
    raise ValueError(msg)


def started(*steps: Any, **options: Any) -> Workflow:
    workflow = Workflow()
    workflow.task.add(list(steps))
    workflow.start(**options)
    return workflow


def statuses(workflow: Workflow) -> list[str]:
    return [task.status for task in workflow.result_task()]


def test_each_task_gets_the_result_of_the_one_before() -> None:
    workflow = started(one, increase, increase)
    assert workflow.result_storage() == [1, 2, 3]
    assert [context.task_id for context in workflow.result_context()] == ["one#0", "increase#0", "increase#1"]
    assert [task.previous_context.storage for task in workflow.result_task()] == [None, 1, 2]


def test_everything_is_told_of_a_task() -> None:
    workflow = Workflow(workflow_id="w")
    workflow.task.add(increase, initial_context="in", group_name="g")
    task = workflow.task.queue[0]
    assert (task.status, task.state, task.duration, task.started_at) == ("Not started", Status.PENDING, None, None)
    workflow.start()
    assert (task.status, task.state, task.group_name, task.workflow_id) == ("Completed", Status.SUCCEEDED, "g", "w")
    assert task.started_at and task.finished_at and task.duration is not None  # noqa: PT018
    assert task.created_at <= task.started_at <= task.finished_at
    assert task.created_at.tzinfo is timezone.utc
    assert (task.errors, task.error, task.retry_count, task.config) == ([], None, 0, workflow.config)
    assert task.current_context == Context(1, "increase#0", "w")


def test_it_runs_in_the_caller_s_thread_and_hands_on_the_very_objects() -> None:
    lock = threading.Lock()
    workflow = started(action(lambda: lock), action(lambda previous_context: previous_context.storage))
    assert all(value is lock for value in workflow.result_storage())
    assert started(action(threading.current_thread)).result_storage() == [threading.current_thread()]


def test_plain_lists_tuples_sets_and_generators_are_results_as_they_are() -> None:
    numbers = (n for n in range(3))
    values = [[1, 2, 3], (1, 2), {1, 2}, numbers]
    assert started(*[action(lambda value=value: value) for value in values]).result_storage() == values


def test_a_failure_ends_the_chain_and_is_not_raised() -> None:
    workflow = started(one, fail, increase)
    assert statuses(workflow) == [TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED]
    assert workflow.result_storage() == [1, None, None]


def test_with_keep_going_the_next_task_gets_the_last_result_that_there_is() -> None:
    workflow = started(one, fail, increase, keep_going=True)
    assert statuses(workflow) == ["Completed", "Failed", "Completed"]
    assert workflow.result_storage() == [1, None, 2]
    assert workflow.result_task()[2].previous_context.storage == 1


def test_started_again_it_runs_again_with_fresh_statuses() -> None:
    runs: list[int] = []

    @action
    def count() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError
        return len(runs)

    workflow = Workflow()
    workflow.task.add(count)
    assert [workflow.start().status for _ in range(3)] == ["Failed", "Completed", "Completed"]
    assert (workflow.result_storage(), workflow.task.queue[0].errors) == ([3], [])
    workflow.task.add(one)
    workflow.start()
    assert workflow.result_storage() == [4, 1]


def test_an_id_is_any_text_or_the_environment_s_or_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKFLOW_ID", raising=False)
    assert Workflow(workflow_id="my-pipeline-v1").workflow_id == "my-pipeline-v1"
    assert UUID(Workflow().workflow_id)
    assert Workflow().workflow_id != Workflow().workflow_id
    monkeypatch.setenv("WORKFLOW_ID", "etl-daily")
    assert Workflow().workflow_id == "etl-daily"
    with pytest.raises(InvalidOption, match="workflow_id is empty"):
        Workflow(workflow_id="")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "sequentially"}, "no mode 'sequentially'; there are: sequential, background, parallel"),
        ({"on_input_change": "ignore"}, "no on_input_change 'ignore'; there are: raise, reuse, reset"),
        ({"engine": "spark"}, "no engine 'spark'"),
        ({"on_success": 3}, "on_success is 3"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_starts(options: dict[str, Any], says: str) -> None:
    workflow = Workflow()
    workflow.task.add(one)
    with pytest.raises((InvalidOption, NotCallableObject), match=says):
        workflow.start(**options)
    assert statuses(workflow) == ["Not started"]


def test_providers_that_do_not_exist_yet_are_refused() -> None:
    with pytest.raises(InvalidOption, match="notify providers are not there yet"):
        Config(notify=print)
    with pytest.raises(InvalidOption, match="no option 'notifier'"):
        Config(notifier=print)
    with pytest.raises(InvalidOption, match="lacks post, get, key"):
        Config(storage=3)
    with pytest.raises(InvalidOption, match="must be a Config"):
        Workflow(config=3)  # type: ignore[arg-type]
    assert Config(notify=None, log=None).storage is None


def test_a_workflow_without_tasks_completes() -> None:
    assert Workflow().start().status == "Completed"


def test_results_are_pydantic_models_and_json() -> None:
    workflow = Workflow(workflow_id="w", name="mine")
    workflow.task.add([one, fail], initial_context=threading.Lock())
    workflow.start()
    result = workflow.result()
    assert (result.id, result.name, result.tasks[0].current_context) == ("w", "mine", 1)
    assert result.tasks[1].error is not None
    assert result.tasks[1].error.exception == "ValueError"
    shown = json.loads(result.model_dump_json())
    assert [task["status"] for task in shown["tasks"]] == ["Completed", "Failed"]
    assert "lock" in shown["tasks"][0]["initial_context"]
    assert workflow.task.schema() == result
    assert workflow.task.queue[0].schema().id == "one#0"


def test_the_contexts_of_a_class_are_a_list_in_the_model() -> None:
    class Step:
        @action
        def first(self) -> int:
            return 1

    assert started(action(Step)).result().tasks[0].current_context == [1]


def test_every_change_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raflow")
    workflow = Workflow(workflow_id="w")
    flaky = iter([1])

    @action(retry=2, retry_delay=0)
    def twice() -> None:
        if next(flaky, None):
            raise ValueError("first")

    workflow.task.add([twice, fail])
    workflow.start()
    lines = [(record.levelname, record.getMessage().partition(" after ")[0]) for record in caplog.records]
    assert lines == [
        ("INFO", "workflow w: task twice#0: In progress"),
        ("INFO", "workflow w: task twice#0: Retry: ValueError: first"),
        ("INFO", "workflow w: task twice#0: Completed"),
        ("INFO", "workflow w: task fail#0: In progress"),
        ("ERROR", "workflow w: task fail#0: Failed"),
    ]
    assert caplog.records[2].getMessage().endswith(" s")


def test_in_the_background_start_returns_at_once_and_wait_waits() -> None:
    begin, ends = threading.Event(), []

    @action
    def waits() -> int:
        assert begin.wait(30)
        return 5

    workflow = Workflow()
    workflow.task.add([waits, increase])
    run = workflow.start(mode="background", on_success=lambda tasks: ends.append(len(tasks)))
    with pytest.raises(FlowError, match="still running"):
        workflow.start()
    with pytest.raises(TimeoutError):
        run.wait(timeout=0.01)
    begin.set()
    assert run.thread is not None
    run.thread.join(30)
    assert (run.wait().status, workflow.result_storage(), ends) == ("Completed", [5, 6], [2])


def test_a_background_failure_calls_on_failure() -> None:
    told: list[str] = []
    workflow = Workflow()
    workflow.task.add(action(lambda: sys.exit(2))).add(one)
    run = workflow.start(
        mode="background", on_success=lambda *a, **k: told.append("good"), on_failure=lambda *a, **k: told.append("bad")
    )
    assert (run.wait().status, told, statuses(workflow)) == ("Failed", ["bad"], ["Failed", "Not started"])


def test_a_program_that_ends_completes_its_background_run_first() -> None:
    program = """
import asyncio, threading
from raflow.workflows.chain import Workflow, action
ended = threading.Event()
threading._register_atexit(ended.set)
@action
def slow():
    ended.wait()
    return 5
@action
async def uses_an_executor(previous_context):
    return await asyncio.get_running_loop().run_in_executor(None, lambda: previous_context.storage + 1)
@action
def show(previous_context): print(previous_context.storage, flush=True)
workflow = Workflow()
workflow.task.add([slow, uses_an_executor, show])
workflow.start(mode="background")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout == "6\n", done.stderr
