"""App steps: other flows, functions and commands that run in place of a step's body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raflow.errors import AppFailed
from raflow.workflows.spec.body import items_of
from raflow.workflows.spec.logs import within


@dataclass(frozen=True)
class AppOption:
    """One option of an app run."""

    name: str
    value: Any
    """Becomes a string."""


@dataclass(frozen=True)
class AppRunConfig:
    """What a step returns to say more about the app run that follows than its input.

    Also each item of a `@foreach` step may be one.
    """

    input: Any
    options: Sequence[AppOption] | Mapping[str, Any] = ()
    """Beat those of `@app`, name by name."""
    name: str | None = None
    """Of the run; default: made of the node and the app."""
    description: str | None = None
    run_configuration: Any = None
    """In place of that of `@app`."""
    instance_id: str | None = None
    """In place of that of `@app`."""

    def get_options(self) -> dict[str, str]:
        """Return the options as strings, without those that are None."""
        pairs = self.options.items() if isinstance(self.options, Mapping) else [(o.name, o.value) for o in self.options]
        return {name: str(value) for name, value in pairs if value is not None}


@dataclass(frozen=True)
class AppResult:
    """What became of an app run."""

    output: Any
    run_id: str = ""
    error: str | None = None
    """Why it failed; None if it did not."""
    logs: str = ""
    """What a command wrote to stderr."""


@dataclass(frozen=True)
class AppRun:
    """What a client is asked to run."""

    app_id: str | list[str]
    input: Any
    options: Mapping[str, str]
    run_id: str
    name: str
    description: str | None = None
    instance_id: str = ""
    input_type: Any = None
    run_configuration: Any = None
    polling_options: Any = None
    emit_live_logs: bool = False
    timeout: float = 0.0
    """Seconds that it may take; 0: no bound."""


class Client(Protocol):
    """What runs apps. It travels to where steps run, so it must pickle.

    With `only_waits = True` the work is done elsewhere: steps ask for no CPU.
    """

    def run(self, run: AppRun) -> AppResult:
        """Run an app to its end. A failure is told in the result, or raised."""

    def cancel(self, run_id: str) -> None:
        """End a run if it is going on in this process, also one that is about to begin."""


@dataclass(frozen=True)
class App:
    """What `@app` says."""

    app_id: str | list[str]
    options: dict[str, Any] = field(default_factory=dict)
    instance_id: str = ""
    input_type: Any = None
    full_result: bool = False
    run_configuration: Any = None
    polling_options: Any = None
    bypass_result: Any = None
    emit_live_logs: bool = False

    @property
    def title(self) -> str:
        """What it runs, for people."""
        return self.app_id if isinstance(self.app_id, str) else " ".join(self.app_id)

    def run(self, given: Any, run_id: str, node: str, timeout: float) -> AppRun:
        """Return what to ask of the client for one input."""
        given = given.output if isinstance(given, AppResult) else given
        config = given if isinstance(given, AppRunConfig) else AppRunConfig(given)
        inner = config.input.output if isinstance(config.input, AppResult) else config.input
        return AppRun(
            self.app_id,
            inner,
            {**AppRunConfig(None, self.options).get_options(), **config.get_options()},
            run_id,
            config.name or f"step {node} ({self.title})",
            config.description,
            config.instance_id or self.instance_id,
            self.input_type,
            self.run_configuration if config.run_configuration is None else config.run_configuration,
            self.polling_options,
            self.emit_live_logs,
            timeout,
        )


@dataclass(frozen=True, eq=False)
class AppBody:
    """What a worker calls for a node of an app step."""

    app: App
    client: Client
    timeout: float
    fans_out: bool

    def __call__(self, node: str, run_id: str, given: Any) -> Any:
        """Run the app and return its output, or its whole result; of a `@foreach` step, the items of its output."""
        with within(node):
            result = self._result(self.app.run(given, run_id, node, self.timeout))
        if result.error is not None:
            msg = f"app {self.app.title} (run {run_id}) failed: {result.error}"
            raise AppFailed(msg)
        if self.fans_out:
            return items_of(result.output, node)
        return result if self.app.full_result else result.output

    def _result(self, run: AppRun) -> AppResult:
        if self.app.bypass_result is not None:
            return AppResult(self.app.bypass_result, "bypassed-run")
        return self.client.run(run)
