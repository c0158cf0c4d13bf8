"""The class that users derive from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raflow.engines import ENGINES
from raflow.errors import InvalidOption
from raflow.workflows.spec.apps import Client
from raflow.workflows.spec.client import LocalClient
from raflow.workflows.spec.flowgraph import FlowGraph
from raflow.workflows.spec.runner import Runner
from raflow.workflows.uplink import UplinkClient, UplinkConfig

_STAYS = ("client", "graph", "runner", "uplink")
"""Attributes of a flow that steps do not see."""


@dataclass(frozen=True)
class Configuration:
    """How a flow runs.

    Raises:
        InvalidOption: A number is none, or there is no such engine.
    """

    thread_count: int = 0
    """Nodes that run at once, at most; 0: as many as the engine takes."""
    max_step_inputs: int | None = 50
    """Inputs that a step may get, at most: more are an error before any of its nodes starts; 0: no bound."""
    engine: str = "auto"
    """`ray`, `local`, or `auto`: `RAFLOW_ENGINE`, else `ray`."""

    def __post_init__(self) -> None:
        for name, value in (("thread_count", self.thread_count), ("max_step_inputs", self.max_step_inputs or 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                msg = f"{name} is {value!r}; it must be a whole number, 0 for no bound"
                raise InvalidOption(msg)
        if self.engine not in ENGINES:
            msg = f"there is no engine {self.engine!r}; there are: {', '.join(ENGINES)}"
            raise InvalidOption(msg)


class FlowSpec:
    """A workflow: a class whose functions with `@step` are its steps.

    Building one checks it and runs nothing. All results are copies: what a step does to its arguments,
    no other step and no caller sees.

    Args:
        name: For logs and pictures.
        input: What steps without predecessors get, as one argument.
        conf: How to run.
        client: What runs app steps; default: this process. `RayJobs` runs each as a job of a Ray cluster.
        uplink_config: Where to tell how runs go, in the background; it can neither slow nor fail them.

    Raises:
        FlowError: The class is no workflow; see `FlowGraph`.

    Example:
        >>> from raflow.workflows.spec import FlowSpec, needs, step
        >>> class Double(FlowSpec):
        ...     @step
        ...     def read(data):
        ...         return data["value"]
        ...
        ...     @needs(predecessors=[read])
        ...     @step
        ...     def double(value):
        ...         return value * 2
        >>> flow = Double("double", {"value": 5})
        >>> flow.run()
        >>> flow.get_result(flow.double)
        10
    """

    options: Mapping[str, str] = {}
    """What `@app` of another flow gave, when this one runs as an app."""

    def __init__(
        self,
        name: str,
        input: Any,  # noqa: A002 - the users' word
        conf: Configuration | None = None,
        client: Client | None = None,
        uplink_config: UplinkConfig | None = None,
    ) -> None:
        self.name = name
        self.input = input
        self.config = conf or Configuration()
        self.client = client or LocalClient()
        self.uplink = UplinkClient(uplink_config)
        self._prepare()

    def _prepare(self) -> None:
        self.graph = FlowGraph(self)
        self.uplink.submit_update(self.graph.state)
        self.runner = Runner(self, self.graph, self.config, self.uplink)

    def run(self) -> None:
        """Run all steps, and wait. May be called again and then runs anew.

        The first error ends the run: nothing new starts, and what runs is cancelled.

        Raises:
            FlowFailed: A step failed; `__cause__` is its own error.
        """
        self.runner.run()

    def get_result(self, step: Any) -> Any:
        """Return what a step returned in the last run.

        Args:
            step: The step's function, as `flow.double` or `Double.double`.

        Returns:
            The result of a step that runs once by its definition; the list of the results, in the order
            of their inputs, of one that is repeated or comes after a `@foreach`. None before the step is
            done, and if it was skipped.

        Raises:
            InvalidStep: It has no `@step`.
            UnknownStep: It is a step of another flow.
        """
        return self.graph.find(step).result()

    def run_as_app(self, given: Any, options: Mapping[str, str]) -> Any:
        """Run a copy of this flow as the app of another one.

        Args:
            given: The copy's input.
            options: The copy's options.

        Returns:
            The result of the step that nothing comes after; of several, by their names.
        """
        again = copy.copy(self)
        again.input, again.options = given, options
        again.client, again.uplink = self.client, UplinkClient()
        again._prepare()
        again.run()
        ends = {step.id: step.result() for step in again.graph.steps if not step.successors}
        return ends if len(ends) > 1 else next(iter(ends.values()))

    def __getstate__(self) -> dict[str, Any]:
        """Return what steps see of it."""
        return {name: value for name, value in vars(self).items() if name not in _STAYS}

    def __getattr__(self, name: str) -> Any:
        msg = f"{type(self).__name__} has no attribute {name!r}"
        if name in _STAYS:
            msg = f"self.{name} is not there within a step; it stays in the process that runs the flow"
        raise AttributeError(msg)
