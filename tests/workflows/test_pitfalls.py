# mypy: disable-error-code="misc,attr-defined"
"""What easily goes wrong in workflow runners and has no other test: a failure must not turn into more than one."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raflow import Config, Configuration, FlowSpec, Workflow, action, app, needs, step
from raflow.providers import StorageFile

DEADLINE_S = 30


@action
def wrong() -> None:
    raise AssertionError("wrong")


@action
def fine() -> list[int]:
    return [1, 2]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_failed_assertion_is_a_failure_in_every_mode(mode: str) -> None:
    told: list[str] = []
    workflow = Workflow()
    workflow.task.add([wrong, fine])
    run = workflow.start(
        mode=mode, engine="local", on_success=lambda: told.append("good"), on_failure=lambda: told.append("bad")
    ).wait(DEADLINE_S)
    assert (run.status, told) == ("Failed", ["bad"])
    task = workflow.task.queue[0]
    assert (task.status, task.errors[0].exception, task.errors[0].message) == ("Failed", "AssertionError", "wrong")


def test_parallel_tasks_keep_their_results_once_and_are_resumed(tmp_path: Path) -> None:
    mark = tmp_path / "mended"

    @action
    def fails_at_first() -> str:
        assert mark.exists()
        return "mended"

    def started(resume: bool) -> Workflow:
        workflow = Workflow(Config(storage=StorageFile(path=tmp_path / "kept")), workflow_id="w")
        workflow.task.add([fine, fails_at_first])
        workflow.start(mode="parallel", engine="local", resume=resume)
        return workflow

    assert started(resume=False).result_storage() == [[1, 2], None]
    mark.touch()
    for ran in ([False, True], [False, False]):
        again = started(resume=True)
        assert again.result_storage() == [[1, 2], "mended"]
        assert [task.started_at is not None for task in again.result_task()] == ran


def solve(given: Any) -> Any:
    return {"solved": given}


def test_an_app_starts_and_ends_at_once() -> None:
    class Apps(FlowSpec):
        @app(f"{Path(__file__).resolve()}:solve")
        @step
        def one() -> None: ...

        @app(f"{Path(__file__).resolve()}:solve")
        @needs(predecessors=[one])
        @step
        def two() -> None: ...

    flow = Apps("apps", {"n": 1}, Configuration(engine="local"))
    began = time.monotonic()
    flow.run()
    assert time.monotonic() - began < 1
    assert flow.get_result(flow.two) == {"solved": {"solved": {"n": 1}}}


def test_a_process_ends_although_its_flow_failed_while_a_server_was_told() -> None:
    program = """
import sys
from raflow import Configuration, FlowSpec, foreach, step
from raflow.workflows.uplink import UplinkConfig

class Odd(FlowSpec):
    @foreach
    @step
    def items(data):
        return data

Odd("odd", 5, Configuration(engine="local"), uplink_config=UplinkConfig(sys.argv[1])).run()
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = [sys.executable, "-c", program, url]
        done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "Flow failed: Step items_0 failed: TypeError" in done.stderr
