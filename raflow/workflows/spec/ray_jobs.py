"""The client that runs app steps as jobs of a Ray cluster.

What an app gets travels as a Python module of the job, because it may be large; what it returns is the
last line of the job's log. What the job does is in `job`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raflow.errors import AppFailed, ClusterUnreachable, InvalidOption
from raflow.runtime.steps.values import shown
from raflow.workflows.spec.apps import AppResult, AppRun
from raflow.workflows.spec.logs import log
from raflow.workflows.spec.polling import PollingOptions, poll

if TYPE_CHECKING:
    from raflow.engines.ray.jobs import JobServer

logger = logging.getLogger("raflow")

INPUT = "run.json"
"""File of the module with what the app gets."""
MARK = "raflow app result: "
"""Comes before what the app returned, in the job's log."""
PREFIX = "[main] "
"""Of what `log` writes in the job; the step that waits puts its own before it."""
_LAST_LINES = 20
_OPTIONS = {
    "runtime_env",
    "metadata",
    "entrypoint_num_cpus",
    "entrypoint_num_gpus",
    "entrypoint_memory",
    "entrypoint_resources",
    "entrypoint_label_selector",
}
_given_up: set[str] = set()
"""Run ids whose jobs may not have begun yet, and shall not go on."""


class RayJobs:
    """Runs each app as a job of its own, on the cluster of a job server.

    Inputs and outputs must be JSON. The cluster needs the same raflow. `run_configuration` of `@app` is a dict of
    options of Ray's `submit_job`: `runtime_env`, `entrypoint_num_cpus`, …; `polling_options` are `PollingOptions`;
    `instance_id` and the run's name are in the job's metadata.

    Args:
        address: `http://host:8265`; None: `RAY_API_SERVER_ADDRESS`.
        working_dir: Folder of the apps' code, which travels with each job; None: where the step runs.

    Raises:
        InvalidOption: There is no address.

    Example:
        >>> from raflow import FlowSpec, app, step
        >>> class Plan(FlowSpec):
        ...     @app("models/route.py:solve", options={"duration": 30})
        ...     @step
        ...     def solve() -> None: ...
        >>> flow = Plan("plan", {"stops": []}, client=RayJobs("http://head:8265"))  # doctest: +SKIP
    """

    only_waits = True

    def __init__(self, address: str | None = None, working_dir: str | None = None) -> None:
        self.address = address or os.environ.get("RAY_API_SERVER_ADDRESS", "")
        if "://" not in self.address:
            msg = f"the address of the job server is {self.address!r}; give RayJobs one like 'http://host:8265'"
            raise InvalidOption(msg)
        self.working_dir = working_dir

    def run(self, run: AppRun) -> AppResult:
        """Submit an app, wait for its end, and return what it returned.

        Raises:
            InvalidOption: The run configuration cannot be used.
            TypeError: The input is not JSON.
            ClusterUnreachable: No job server answers.
            TimeoutError: It took longer than the polling options allow; the job is ended.
        """
        asked = _checked(run.run_configuration or {})
        server = self._server()
        self._end(server, run.run_id)  # an earlier attempt that has timed out
        name = f"{run.run_id}-{uuid.uuid4().hex[:8]}"
        with _module_of(run, name) as module:
            server.submit(name, f"python -m raflow.workflows.spec.job {module.name}", self._options(asked, run, module))
        try:
            return _followed(server, name, run)
        finally:
            if not server.state(name).is_over:
                server.stop(name)

    def cancel(self, run_id: str) -> None:
        """End a run's job wherever it was submitted from, also one that this process is about to submit."""
        _given_up.add(run_id)
        try:
            self._end(self._server(), run_id)
        except (ClusterUnreachable, OSError, RuntimeError) as error:  # the flow has its own error to tell
            logger.warning("whether the job of run %s goes on is not known: %s", run_id, error)

    def _server(self) -> JobServer:
        from raflow.engines.ray.jobs import JobServer

        return JobServer(self.address)

    def _end(self, server: JobServer, run_id: str) -> None:
        for name in server.going_on(run_id=run_id):
            server.stop(name)

    def _options(self, asked: Mapping[str, Any], run: AppRun, module: Path) -> dict[str, Any]:
        env = {"working_dir": os.path.abspath(self.working_dir or os.getcwd()), **asked.get("runtime_env", {})}
        env["py_modules"] = [*env.get("py_modules", []), str(module)]
        told = {"name": run.name, "description": run.description, "instance_id": run.instance_id}
        metadata = {key: value for key, value in told.items() if value} | asked.get("metadata", {})
        return {**asked, "runtime_env": env, "metadata": {**metadata, "run_id": run.run_id}}


def _checked(asked: Any) -> Mapping[str, Any]:
    if isinstance(asked, Mapping) and asked.keys() <= _OPTIONS:
        return asked
    msg = f"run_configuration is {shown(asked)}; for RayJobs it is a dict with some of {sorted(_OPTIONS)}"
    raise InvalidOption(msg)


@contextmanager
def _module_of(run: AppRun, name: str) -> Iterator[Path]:
    """Write what an app gets as a module."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / f"raflow_app_{name.replace('-', '_')}"
        module.mkdir()
        (module / "__init__.py").touch()
        kept = {"app_id": run.app_id, "input": run.input, "options": dict(run.options), "name": run.name}
        (module / INPUT).write_text(json.dumps({**kept, "run_id": run.run_id}))
        yield module


# -- waiting ------------------------------------------------------------------------------------------


def _followed(server: JobServer, name: str, run: AppRun) -> AppResult:
    told = 0
    limit = time.monotonic() + run.timeout if run.timeout else None

    def is_over() -> bool:
        nonlocal told
        over = server.state(name).is_over
        if run.emit_live_logs:
            lines = _lines(server.logs(name), whole=over)
            for line in lines[told:]:
                log(line)
            told = len(lines)
        if not over and (run.run_id in _given_up or (limit and time.monotonic() > limit)):
            msg = "it was given up"
            raise AppFailed(msg)
        return over

    poll(is_over, run.polling_options or PollingOptions())
    return _result(server, name, run)


def _lines(logs: str, *, whole: bool) -> list[str]:
    """Return the lines of a log that the app has written; without the last one where it may go on."""
    lines = logs.partition(MARK)[0].splitlines(keepends=True)
    return [line.rstrip("\n").removeprefix(PREFIX) for line in lines if whole or line.endswith("\n")]


def _result(server: JobServer, name: str, run: AppRun) -> AppResult:
    logs, state = server.logs(name), server.state(name)
    said = _lines(logs, whole=True)
    text = "".join(f"{line}\n" for line in said)
    _, found, made = logs.partition(MARK)
    if not found:
        last = "\n".join([state.message, *said[-_LAST_LINES:]])
        return AppResult(None, run.run_id, f"its job {name} has {state.status.lower()}: {last}", text)
    return AppResult(**json.loads(made.splitlines()[0]), run_id=run.run_id, logs=text)
