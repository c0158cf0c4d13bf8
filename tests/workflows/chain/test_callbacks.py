"""Callbacks of tasks and workflows, in any form that users write, failing ones included."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from raflow.workflows.chain import Task, Workflow, action


@action
def good() -> int:
    return os.getpid()


@action
def bad() -> None:
    raise ValueError


@pytest.fixture(params=["sequential", "background", "parallel"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Every mode, on this machine."""
    return {"mode": request.param, "engine": "local"}


def test_a_task_s_callback_is_called_here_after_success_and_failure(options: dict[str, Any]) -> None:
    told: list[Any] = []

    def on_task_done(task: Task) -> None:
        told.append((task.task_id, task.status, task.finished_at is not None, os.getpid()))

    workflow = Workflow()
    workflow.task.add([good, bad], callback=on_task_done)
    workflow.start(**options).wait()
    here = os.getpid()
    assert sorted(told) == [("bad#0", "Failed", True, here), ("good#0", "Completed", True, here)]


def test_callbacks_may_have_any_signature() -> None:
    told: list[Any] = []
    workflow = Workflow()
    workflow.task.add(good, callback=lambda *args, **kwargs: told.append((args, list(kwargs))))
    workflow.task.add(good, callback=lambda t: told.append(t.task_id))
    workflow.task.add(good, callback=lambda: told.append("nothing"))
    workflow.task.add(good, callback=told.append)

    async def later(task: Task) -> None:
        told.append(f"async {task.task_id}")

    workflow.task.add(good, callback=later)
    run = workflow.start(on_success=lambda *args, **kwargs: told.append(list(kwargs)))
    assert run.callback_errors == []
    assert told[:3] == [((), ["task"]), "good#1", "nothing"]
    assert told[3] is workflow.task.queue[3]
    assert told[4:] == ["async good#4", ["tasks"]]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1)])
def test_a_failing_callback_changes_nothing_and_is_reported(
    options: dict[str, Any], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "raflow")

    def broken(task: Task) -> None:
        raise error

    ends: list[str] = []
    workflow = Workflow()
    workflow.task.add([good, good], callback=broken)
    run = workflow.start(on_success=lambda tasks: ends.append("good"), **options).wait()
    assert (run.status, ends, [task.status for task in run.tasks]) == (
        "Completed",
        ["good"],
        ["Completed", "Completed"],
    )
    assert sorted((one.callback, str(one.task_id), one.error) for one in run.callback_errors) == [
        ("broken", "good#0", error),
        ("broken", "good#1", error),
    ]
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_a_failing_workflow_callback_is_reported_too() -> None:
    def broken(tasks: Any) -> None:
        raise ValueError

    workflow = Workflow()
    workflow.task.add([good, bad, good])
    run = workflow.start(on_failure=broken)
    assert (run.status, run.callback_errors[0].callback, run.callback_errors[0].task_id) == ("Failed", "broken", None)
