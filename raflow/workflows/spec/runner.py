"""Runs the steps of a graph: makes nodes of a step as soon as all before it are done, and hands them over.

Theory. The step driver calls back on one thread for each node that has ended. A step is closed when all
its nodes have ended well; they are all known before the first of them starts, so none can be missed.
What steps hand on stays where it is: a node's arguments are the nodes before it, or items of theirs.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from raflow import engines
from raflow.errors import FlowFailed, InvalidOption
from raflow.metrics import Status
from raflow.runtime.failure import Failure, explain, restore
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.events import StepEvent
from raflow.runtime.steps.step import Part
from raflow.runtime.steps.step import Step as Call
from raflow.runtime.steps.values import INLINE_BYTES, Packed, pack, unpack
from raflow.runtime.steps.worker import settled
from raflow.runtime.steps.workers import Workers
from raflow.workflows.spec.apps import AppBody
from raflow.workflows.spec.body import Body, Self
from raflow.workflows.spec.flowgraph import FlowGraph, FlowStep, wants_results
from raflow.workflows.spec.nodes import FlowNode
from raflow.workflows.uplink import UplinkClient

if TYPE_CHECKING:
    from raflow.workflows.spec.flowspec import Configuration, FlowSpec

log = logging.getLogger("raflow")


class Runner:
    """Runs a flow.

    Args:
        spec: The flow.
        graph: Its steps.
        config: How to run.
        uplink: Where to tell how it goes; None: nowhere.
    """

    def __init__(
        self, spec: FlowSpec, graph: FlowGraph, config: Configuration, uplink: UplinkClient | None = None
    ) -> None:
        self.spec = spec
        self.graph = graph
        self.config = config
        self.uplink = uplink or UplinkClient()
        self.pool: Workers | None = None
        """Where nodes run."""
        self.jobs: list[Call] = []
        """The nodes of the run, as the step driver knows them."""
        self.node_idxs: dict[str, int] = {}
        """How many nodes each step of the run has."""
        self.fail = False
        """Whether a step has failed."""
        self.fail_reason: str | None = None
        """Which one, and why."""
        self.lock_fail = threading.Lock()
        self.lock_running = threading.Lock()
        """Held during a run: there is one at a time."""
        self._failures: list[tuple[str, Failure]] = []
        self._driver: StepDriver
        self._self: Self | None = None
        self._bodies: dict[FlowStep, Callable[..., Any]] = {}
        self._waiting: dict[FlowStep, int] = {}
        """Per step: predecessors, then nodes, that have not ended."""
        self._given: Call | None = None

    def run(self) -> None:
        """Run all steps, and wait.

        Raises:
            FlowFailed: A step failed; `__cause__` is its own error.
        """
        with self.lock_running:
            self._reset()
            name, reason = engines.choose(self.config.engine, "ray")
            log.debug("engine %s: %s", name, reason)
            cap = max(0, self.config.thread_count) or None
            self.pool = engines.workers(name, threads=cap)
            observers = [self._tell] if self.uplink.is_active else []
            self._driver = StepDriver(self.pool, max_concurrency=cap, on_end=self._ended, observers=observers)
            self.uplink.run_async()
            try:
                self.pool.start()
                self._advance(deque(self.graph.start_steps))
                self._driver.run()
            finally:
                self._end_apps()
                self.pool.close()
                self._tell()
                self.uplink.terminate()
        if self.fail:
            self._raise()

    def _reset(self) -> None:
        self.fail, self.fail_reason, self._failures = False, None, []
        self.jobs, self.node_idxs = [], {}
        self._given, self._self = None, None
        self._bodies = {step: self._body(step) for step in self.graph.steps}
        self._waiting = {step: len(dict.fromkeys(step.predecessors)) for step in self.graph.steps}
        for step in self.graph.steps:
            with step.lock:
                step.nodes, step.done = [], False

    def _body(self, step: FlowStep) -> Callable[..., Any]:
        definition = step.definition
        if definition.app:
            return AppBody(definition.app, self.spec.client, definition.options.timeout, definition.fans_out)
        return Body(step.step_function, definition.fans_out, self._maker() if step.takes_self else None)

    def _maker(self) -> Self:
        self._self = self._self or Self.of(self.spec)
        return self._self

    # -- steps begin and end ------------------------------------------------------------------------------

    def _advance(self, ready: deque[FlowStep]) -> None:
        """Begin steps; those that end at once let others begin."""
        while ready and not self.fail:
            step = ready.popleft()
            if self._begin(step):
                ready.extend(self._close(step))

    def _begin(self, step: FlowStep) -> bool:
        """Make the nodes of a step. Returns whether it is done already."""
        try:
            if not self._wanted(step):
                self._skip(step)
                return True
            rows = self._rows(step)
            calls = [self._call(step, index, row) for index, row in enumerate(rows)]
        except (Exception, SystemExit) as error:
            self._failed(f"{step.id}_0", explain(error, step.id), step)
            return False
        self._waiting[step] = self.node_idxs[step.id] = len(calls)
        self.jobs += calls
        for call in calls:
            self._driver.add(call)
        return not calls

    def _ended(self, call: Call) -> None:
        """Take note of a node that has ended; on the driver's thread."""
        node = call.note
        if call.status is not Status.SUCCEEDED:
            if call.status is not Status.CANCELLED:
                self._failed(call.id, call.failures[-1])
        elif isinstance(node, FlowNode):
            self._waiting[node.parent] -= 1
            if not self._waiting[node.parent]:
                self._advance(self._close(node.parent))

    def _close(self, step: FlowStep) -> deque[FlowStep]:
        """Mark a step as done. Returns the steps that can begin now."""
        with step.lock:
            step.done = True
        for after in step.successors:
            self._waiting[after] -= 1
        return deque(after for after in step.successors if not self._waiting[after])

    def _failed(self, node: str, failure: Failure, step: FlowStep | None = None) -> None:
        if step is not None:
            call = Call(step.id, step.step_function, id=node, status=Status.FAILED, failures=[failure])
            self._add_node(step, call)
        self._failures.append((node, failure))
        with self.lock_fail:
            self.fail, reason = True, _told(node, failure)
            self.fail_reason = self.fail_reason or reason
        self._driver.cancel(f"step {self._failures[0][0]} failed")

    def _raise(self) -> NoReturn:
        others = [f"\nalso failed: {_told(*each)}" for each in self._failures[1:]]
        msg = f"Flow failed: {self.fail_reason}{''.join(others)}"
        raise FlowFailed(msg) from restore(self._failures[0][1])

    def _tell(self, event: StepEvent | None = None) -> None:
        del event
        self.uplink.submit_update(self.graph.state)

    def _end_apps(self) -> None:
        """End the commands of nodes that were given up."""
        for node in (node for step in self.graph.steps if step.definition.app for node in step.nodes):
            if node.run_id and node.call.status is not Status.SUCCEEDED:
                self.spec.client.cancel(node.run_id)

    # -- conditions -----------------------------------------------------------------------------------------

    def _wanted(self, step: FlowStep) -> bool:
        condition = step.definition.condition
        if condition is None:
            return True
        results = self._results(step) if wants_results(condition) else []
        return bool(settled(condition(step.definition, *results)))

    def _results(self, step: FlowStep) -> list[Any]:
        if not step.predecessors:
            return [unpack(self._packed_input())]
        return [before.result() for before in step.predecessors]

    def _skip(self, step: FlowStep) -> None:
        log.debug("step %s is skipped", step.id)
        none = (pack(None, step.id),)
        self._add_node(step, Call(step.id, step.step_function, id=f"{step.id}_0", status=Status.SKIPPED, values=none))

    # -- inputs ---------------------------------------------------------------------------------------------

    def _rows(self, step: FlowStep) -> Iterator[tuple[Any, ...]]:
        """Return the arguments of each node of a step.

        Raises:
            InvalidOption: There are more than the configuration allows.
        """
        columns = [_handed_on(before) for before in step.predecessors] or [[self._input()]]
        times, number = step.definition.get_repetitions(), math.prod(len(column) for column in columns)
        total, most = (times if step.definition.joins else number * times), self.config.max_step_inputs
        if most and most > 0 and total > most:
            msg = f"step {step.id} would get {total} inputs, and max_step_inputs is {most}; set it in Configuration"
            raise InvalidOption(msg)
        if step.definition.joins:
            return itertools.repeat(([list(row) for row in itertools.product(*columns)],), times)
        return (row for _ in range(times) for row in itertools.product(*columns))

    def _call(self, step: FlowStep, index: int, row: tuple[Any, ...]) -> Call:
        name = f"{step.id}_{index}"
        definition, run_id, options = step.definition, None, step.definition.options
        if definition.app:
            run_id = uuid.uuid4().hex[:12]
            if getattr(self.spec.client, "only_waits", False) and "num_cpus" not in options.model_fields_set:
                options = options.model_copy(update={"num_cpus": 0.0})
            args: tuple[Any, ...] = (name, run_id, *row)
        else:
            args = (name, *([self._input()] if step.takes_self else []), *(row if step.takes_input else ()))
        call = Call(step.id, self._bodies[step], args, {}, options, expands=definition.fans_out, id=name)
        self._add_node(step, call, row).run_id = run_id
        return call

    def _add_node(self, step: FlowStep, call: Call, row: tuple[Any, ...] = ()) -> FlowNode:
        node = FlowNode(step, len(step.nodes), call, lambda: _nodes_in(row), self._driver.result)
        call.note = node
        with step.lock:
            step.nodes.append(node)
        return node

    def _input(self) -> Call:
        """Return the flow's input as an argument of nodes. A large one goes to the engine's store."""
        if self._given is None:
            packed = self._packed_input()
            given = Call("input", _same, id="input", status=Status.SUCCEEDED, values=(packed,))
            is_large = packed.size_bytes > INLINE_BYTES
            self._given = self._driver.add(Call("input", _same, (given,), id="input")) if is_large else given
        return self._given

    def _packed_input(self) -> Packed:
        return pack(self.spec.input, f"the input of flow {self.spec.name}")


def _same(value: Any) -> Any:
    return value


def _told(node: str, failure: Failure) -> str:
    return f"Step {node} failed: {type(failure.error).__name__}: {failure.error}"


def _handed_on(step: FlowStep) -> list[Any]:
    """Return what a step gives each of its successors, in order."""
    calls = [node.call for node in step.nodes]
    if step.is_skipped:
        return calls
    if step.definition.fans_out:
        return [part for call in calls for part in call.parts]
    return [calls] if step.definition.is_repeat() else calls


def _nodes_in(value: Any) -> list[FlowNode]:
    """Return the nodes whose results are in the arguments of another one."""
    found: dict[FlowNode, None] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        owner = each.step if isinstance(each, Part) else each
        if isinstance(owner, Call) and isinstance(owner.note, FlowNode):
            found[owner.note] = None
        elif isinstance(owner, list | tuple):
            waiting.extend(reversed(owner))
    return list(found)
