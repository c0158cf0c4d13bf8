"""Programs in the form that readers of the page 002 write, with other import lines.

What of the page waits for later: `schedule()`, cron and its overlap, notifications (Telegram, Discord), logs,
tracers and metrics (OpenTelemetry, Sentry), the server provider, the commands `init`, `schedule`, `logs`, `cloud` and
`deploy` and their platforms. `StorageS3` and `StorageGCS` are tested with their stores; the page's storages are
tried here with files. Its httpx call needs the internet; here it goes to a server in this process, by asyncio.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from raflow import Config, Context, action
from raflow import Workflow as DotFlow
from raflow.providers import Storage, StorageFile


@action
def extract():
    return {"users": 150}


@action
def transform(previous_context):
    total = previous_context.storage["users"]
    return {"users": total, "active": int(total * 0.8)}


@action
def load(previous_context):
    print(f"Loaded {previous_context.storage['active']} active users")


@action
def task_a():
    return os.getpid()


@action
def after(previous_context):
    return previous_context.storage


@action
def step_one():
    return "Hello"


@action
def step_two(previous_context, initial_context):
    greeting = previous_context.storage  # "Hello"
    name = initial_context.storage  # "World"
    return f"{greeting}, {name}!"


def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    workflow = DotFlow()
    workflow.task.add(step=extract)
    workflow.task.add(step=transform)
    workflow.task.add(step=load)

    workflow.start()

    assert capsys.readouterr().out == "Loaded 120 active users\n"


def test_execution_modes(engine: str) -> None:
    workflow = DotFlow()
    workflow.task.add(step=task_a)
    workflow.task.add(step=after)

    workflow.start()
    assert workflow.result_storage() == [os.getpid(), os.getpid()]
    workflow.start(mode="background").wait()
    assert workflow.result_storage() == [os.getpid(), os.getpid()]
    workflow.start(mode="parallel", engine=engine)
    assert workflow.result_storage()[0] != os.getpid()
    assert workflow.result_storage()[1] is None


def test_parallel_groups(engine: str) -> None:
    workflow = DotFlow()
    workflow.task.add(step=step_one, group_name="users")
    workflow.task.add(step=after, group_name="users")
    workflow.task.add(step=extract, group_name="orders")
    workflow.task.add(step=transform, group_name="orders")

    workflow.start(engine=engine)

    assert workflow.result_storage() == ["Hello", "Hello", {"users": 150}, {"users": 150, "active": 120}]


def test_retry_timeout_and_backoff() -> None:
    calls = []

    @action(retry=3, timeout=10, retry_delay=0.01, backoff=True)
    def unreliable_api_call():
        calls.append(1)
        if len(calls) < 3:
            msg = "503"
            raise ConnectionError(msg)
        return {"ok": True}

    workflow = DotFlow()
    workflow.task.add(step=unreliable_api_call)
    workflow.start()

    assert workflow.result_storage() == [{"ok": True}]
    assert len(calls) == 3


def test_the_context_system() -> None:
    workflow = DotFlow()
    workflow.task.add(step=step_one)
    workflow.task.add(step=step_two, initial_context="World")
    workflow.start()

    context = workflow.result_context()[1]
    assert context.storage == "Hello, World!"
    assert context.task_id == workflow.result_task()[1].task_id
    assert context.workflow_id == workflow.workflow_id
    assert context.time is not None


def test_checkpoint_and_resume(tmp_path: Path) -> None:
    runs: list[str] = []

    @action
    def step_a():
        runs.append("a")
        return 1

    @action
    def step_b(previous_context):
        runs.append("b")
        return previous_context.storage + 1

    @action
    def step_c(previous_context):
        runs.append("c")
        if len(runs) == 3:
            raise ValueError
        return previous_context.storage + 1

    config = Config(storage=StorageFile(path=tmp_path))

    workflow = DotFlow(config=config, workflow_id="my-pipeline-v1")
    workflow.task.add(step=step_a)
    workflow.task.add(step=step_b)
    workflow.task.add(step=step_c)

    # First run — executes all tasks and saves checkpoints
    workflow.start()

    # If step_c failed, fix and re-run — skips step_a and step_b
    workflow.start(resume=True)

    assert runs == ["a", "b", "c", "c"]
    assert workflow.result_storage() == [1, 2, 3]


class ETLPipeline:
    @action
    def extract(self):
        return {"raw": [1, 2, 3]}

    @action
    def transform(self, previous_context):
        data = previous_context.storage["raw"]
        return {"processed": [x * 2 for x in data]}

    @action
    def load(self, previous_context):
        print(f"Loaded: {previous_context.storage['processed']}")


@action
def run_pipeline():
    return ETLPipeline()


def test_class_based_steps(capsys: pytest.CaptureFixture[str]) -> None:
    workflow = DotFlow()
    workflow.task.add(step=run_pipeline)
    workflow.start()

    assert capsys.readouterr().out == "Loaded: [2, 4, 6]\n"


def test_callbacks(capsys: pytest.CaptureFixture[str]) -> None:
    def on_task_done(task):
        print(f"Task {task.task_id} finished with status: {task.status}")

    def on_success(*args, **kwargs):
        print("All tasks completed!")

    def on_failure(*args, **kwargs):
        print("Something went wrong.")

    workflow = DotFlow()
    workflow.task.add(step=step_one, callback=on_task_done)
    workflow.start(on_success=on_success, on_failure=on_failure)

    assert capsys.readouterr().out == "Task step_one#0 finished with status: Completed\nAll tasks completed!\n"


def test_error_handling(capsys: pytest.CaptureFixture[str]) -> None:
    @action
    def fails():
        msg = "no such user"
        raise KeyError(msg)

    workflow = DotFlow()
    workflow.task.add(step=fails)
    workflow.task.add(step=step_one)
    workflow.start(keep_going=False)
    assert [task.status for task in workflow.result_task()] == ["Failed", "Not started"]
    workflow.start(keep_going=True)

    for task in workflow.result_task():
        print(f"Task {task.task_id}: {task.status}")
        if task.errors:
            print(f"  Errors: {task.errors}")

    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[2]) == ("Task fails#0: Failed", "Task step_one#0: Completed")
    assert "attempt=1, exception='KeyError'" in shown[1]
    assert "traceback='Traceback" in shown[1]


@pytest.fixture
def server() -> Iterator[int]:
    """The page's api.example.com, here; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": 1}')

        def log_message(self, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


def test_async_support(server: int) -> None:
    @action(timeout=30)
    async def fetch_data():
        reader, writer = await asyncio.open_connection("127.0.0.1", server)
        writer.write(b"GET /data HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode().splitlines()[-1]

    workflow = DotFlow()
    workflow.task.add(step=fetch_data)
    workflow.start()

    assert workflow.result_storage() == ['{"data": 1}']


def test_a_storage_of_one_s_own() -> None:
    class StorageDict(Storage):
        def __init__(self):
            self.kept = {}

        def post(self, key, context):
            self.kept[key] = context

        def get(self, key):
            return self.kept.get(key, Context())

        def key(self, task):
            return f"{task.workflow_id}-{task.task_id}"

    storage = StorageDict()
    workflow = DotFlow(config=Config(storage=storage), workflow_id="w")
    workflow.task.add(step=step_one)
    workflow.start()

    assert storage.get("w-step_one#0").storage == "Hello"


def test_results_and_inspection() -> None:
    workflow = DotFlow()
    workflow.task.add(step=extract)
    workflow.task.add(step=transform)
    workflow.start()

    tasks = workflow.result_task()
    contexts = workflow.result_context()
    storages = workflow.result_storage()
    result = workflow.result()

    assert storages == [context.storage for context in contexts] == [{"users": 150}, {"users": 150, "active": 120}]
    assert [task.status for task in tasks] == [task.status for task in result.tasks] == ["Completed", "Completed"]
    assert workflow.task.count() == 2
    assert workflow.task.schema() == result
    workflow.task.reverse()
    assert [task.step.name for task in workflow.task.queue] == ["transform", "extract"]
    workflow.task.clear()
    assert workflow.task.count() == 0


def test_dynamic_module_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(
        "from raflow.workflows.chain import action\n"
        "@action\ndef process_data(): return [1, 2]\n"
        "@action\ndef save_results(previous_context): print('saved', previous_context.storage)\n"
    )
    (package / "callbacks.py").write_text("def notify(task): print('notified', task.status)\n")
    monkeypatch.syspath_prepend(tmp_path)

    workflow = DotFlow()
    workflow.task.add(step="my_package.tasks.process_data")
    workflow.task.add(step="my_package.tasks.save_results", callback="my_package.callbacks.notify")
    workflow.start()

    assert capsys.readouterr().out == "saved [1, 2]\nnotified Completed\n"
