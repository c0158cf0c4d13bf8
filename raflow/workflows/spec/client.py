"""The default client of app steps: runs targets in this process, and commands as its children."""

from __future__ import annotations

import atexit
import json
import subprocess
import threading
from collections.abc import Iterable
from contextvars import copy_context
from typing import Any

from raflow.errors import AppFailed, InvalidOption
from raflow.flow import Flow
from raflow.metrics import Status
from raflow.runtime.steps.worker import settled
from raflow.workflows.chain import Workflow
from raflow.workflows.spec.apps import AppResult, AppRun
from raflow.workflows.spec.logs import log

_LAST_LINES = 20
_children: dict[str, subprocess.Popen[str]] = {}
"""Commands that run, by run id."""
_given_up: set[str] = set()
"""Run ids of commands that may not have begun yet, and shall not go on."""


class LocalClient:
    """Runs apps here; nothing needs a network or a key."""

    only_waits = False

    def run(self, run: AppRun) -> AppResult:
        """Run an app; see `app` for what it gets.

        Raises:
            TargetError: The target leads nowhere.
            InvalidOption: The target cannot be run.
            Exception: What a function or flow raised.
        """
        from raflow.loading import named

        if isinstance(run.app_id, str):
            return AppResult(_called(named(run.app_id), run), run.run_id)
        return _command(run.app_id, run)

    def cancel(self, run_id: str) -> None:
        """Kill a run's command, also one that is about to begin."""
        _given_up.add(run_id)
        child = _children.get(run_id)
        if child:
            child.kill()


# -- targets ------------------------------------------------------------------------------------------


def _called(target: Any, run: AppRun) -> Any:
    if hasattr(target, "run_as_app"):
        flow = target(target.__name__, run.input) if isinstance(target, type) else target
        return flow.run_as_app(run.input, run.options)
    if isinstance(target, Flow):
        done = target.run()
        return {"run_id": done.id, "status": done.status().value, "outputs": list(done.stats().outputs)}
    if isinstance(target, Workflow):
        msg = f"the app {run.app_id} is a Workflow, which takes no input; name a function of the input that returns one"
        raise InvalidOption(msg)
    function = getattr(target, "run", target)
    if not callable(function):
        msg = f"the app {run.app_id} is of type {type(target).__name__}; it can be a flow or a function of the input"
        raise InvalidOption(msg)
    made = settled(function(run.input, **run.options))
    return _chained(made) if isinstance(made, Workflow) else made


def _chained(workflow: Workflow) -> Any:
    """Run a chain of actions and return its last result."""
    workflow.start()
    failed = [f"{task.task_id}: {task.error}" for task in workflow.result_task() if task.state is not Status.SUCCEEDED]
    if failed:
        msg = f"workflow {workflow.workflow_id}: {failed[0]}"
        raise AppFailed(msg)
    return workflow.result_storage()[-1]


# -- commands -----------------------------------------------------------------------------------------


def _command(words: list[str], run: AppRun) -> AppResult:
    given = json.dumps(run.input)
    command = [*words, *(word for name, value in run.options.items() for word in (f"--{name}", value))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        _children[run.run_id] = child
        if run.run_id in _given_up:
            child.kill()
        try:
            return _talk(child, given, run)
        finally:
            child.kill()
            del _children[run.run_id]
            _given_up.discard(run.run_id)


def _talk(child: subprocess.Popen[str], given: str, run: AppRun) -> AppResult:
    """Give a command its input while its outputs are read, each on a thread of its own."""
    assert child.stdin
    assert child.stdout
    assert child.stderr
    out: list[str] = []
    said: list[str] = []
    readers = [
        threading.Thread(target=out.extend, args=(child.stdout,), daemon=True),
        threading.Thread(target=copy_context().run, args=(_relay, child.stderr, said, run.emit_live_logs), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        child.stdin.write(given)
        child.stdin.close()
    except BrokenPipeError:
        pass
    child.wait(run.timeout or None)
    for reader in readers:
        reader.join()
    return _result("".join(out), "".join(said), child.returncode, run.run_id)


def _relay(lines: Iterable[str], said: list[str], aloud: bool) -> None:
    for line in lines:
        said.append(line)
        if aloud:
            log(line.rstrip("\n"))


def _result(out: str, said: str, code: int, run_id: str) -> AppResult:
    if code:
        last = "\n".join(said.splitlines()[-_LAST_LINES:])
        return AppResult(None, run_id, f"it ended with exit code {code}: {last}", said)
    try:
        return AppResult(json.loads(out) if out.strip() else None, run_id, None, said)
    except json.JSONDecodeError as error:
        return AppResult(None, run_id, f"its stdout is not JSON ({error}): {out[:200]!r}", said)


@atexit.register
def _end_children() -> None:
    for child in list(_children.values()):
        child.kill()
