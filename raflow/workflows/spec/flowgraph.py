"""The steps of a flow's class and how they are connected, checked before anything runs."""

from __future__ import annotations

import base64
import inspect
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raflow.errors import DuplicateName, InvalidStep, UnknownStep
from raflow.graph import Edge, Graph, Node, depths
from raflow.render import render
from raflow.runtime.steps.picture import outcome
from raflow.workflows.spec.decorators import Step, definition_of, unwrapped
from raflow.workflows.spec.nodes import STATUS_SKIPPED, FlowNode
from raflow.workflows.updates import FlowUpdateDTO, flow_update

if TYPE_CHECKING:
    from raflow.workflows.spec.flowspec import FlowSpec

log = logging.getLogger("raflow")

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class FlowStep:
    """A step of a flow, with the nodes of the flow's last run.

    Args:
        step_function: The function.
        step_definition: What decorators say about it.
        docstring: Of the function.
    """

    def __init__(self, step_function: Callable[..., Any], step_definition: Step, docstring: str | None) -> None:
        self.step_function = step_function
        self.definition = step_definition
        self.docstring = docstring
        self.lock = threading.Lock()
        """Held while `nodes` and `done` change."""
        self.done = False
        """Whether all nodes of the last run succeeded, or the step was skipped."""
        self.successors: list[FlowStep] = []
        self.predecessors: list[FlowStep] = []
        """In the order of `@needs`."""
        self.nodes: list[FlowNode] = []
        """In the order of their inputs."""
        self.is_many = step_definition.is_repeat()
        """Whether its result is a list of its nodes' results, however many they are."""
        by_position = _parameters(step_function)
        self.takes_self = bool(by_position) and by_position[0].name == "self"
        self.takes_input = len(by_position) > self.takes_self

    @property
    def id(self) -> str:
        """The step's name."""
        return self.definition.get_id()

    @property
    def hands_on_many(self) -> bool:
        """Whether each successor that does not join runs once for each of many results."""
        return self.definition.fans_out or (self.is_many and not self.definition.is_repeat())

    @property
    def is_skipped(self) -> bool:
        """Whether its condition did not hold in the last run."""
        return len(self.nodes) == 1 and self.nodes[0].status == STATUS_SKIPPED

    def settle_is_many(self) -> None:
        """Find out `is_many`; the predecessors know theirs."""
        fanned_out = not self.definition.joins and any(before.hands_on_many for before in self.predecessors)
        self.is_many = self.definition.is_repeat() or fanned_out

    def result(self) -> Any:
        """Return the result of the last run; see `FlowSpec.get_result`."""
        if not self.done:
            return None
        if self.is_skipped or not self.is_many:
            return self.nodes[0].result
        return [node.result for node in self.nodes]

    def check(self, flow: str) -> None:
        """Check that it can be called with what it will get.

        Raises:
            InvalidStep: It cannot.
        """
        definition, number = self.definition, len(self.predecessors)
        if definition.joins and not number:
            msg = f"step {self.id} of {flow} has @join and no predecessors; add @needs"
            raise InvalidStep(msg)
        if definition.condition:
            _check_condition(self)
        if definition.is_app():
            if number > 1:
                msg = f"app step {self.id} of {flow} can have one predecessor, not {number}; put a step in between"
                raise InvalidStep(msg)
            return
        gets = 1 if definition.joins or not number else number
        args = [None] * (gets if self.takes_input else 0)
        try:
            inspect.signature(self.step_function).bind(*[None] * self.takes_self, *args)
        except TypeError as error:
            what = f"{number} predecessors" if number and not definition.joins else "one input"
            msg = f"step {self.id} of {flow} cannot be called with {what}: {error}; change its parameters or @needs"
            raise InvalidStep(msg) from None

    def __repr__(self) -> str:
        return f"FlowStep({self.id})"


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by position, `*args` among them."""
    kinds = (*_BY_POSITION, inspect.Parameter.VAR_POSITIONAL)
    return [each for each in inspect.signature(function).parameters.values() if each.kind in kinds]


def wants_results(condition: Callable[..., Any]) -> bool:
    """Return whether a condition takes results after the step."""
    parameters = _parameters(condition)
    required = [each for each in parameters if each.default is each.empty and each.kind in _BY_POSITION]
    return len(required) > 1 or any(each.kind is each.VAR_POSITIONAL for each in parameters)


def _check_condition(step: FlowStep) -> None:
    condition = step.definition.condition
    assert condition is not None
    number = max(1, len(step.predecessors)) if wants_results(condition) else 0
    try:
        inspect.signature(condition).bind(step.definition, *[None] * number)
    except TypeError as error:
        msg = f"the condition of step {step.id} must take the step, and {number} results after it if any: {error}"
        raise InvalidStep(msg) from None


class StepVisitor:
    """Finds the steps of a class: its own and inherited ones, in the order of their definition.

    Args:
        steps: Found steps are added here.
        flow_class: Where to look. What a class defines anew takes the place of what it inherits.
    """

    def __init__(self, steps: list[FlowStep], flow_class: type) -> None:
        self.steps = steps
        self.flow_class = flow_class

    def visit(self) -> None:
        """Look through the class.

        Raises:
            InvalidStep: A function has decorators of steps but no `@step`.
            DuplicateName: Two steps have the same name.
        """
        members: dict[str, Any] = {}
        for owner in reversed(self.flow_class.__mro__):
            members.update(vars(owner))
        functions = dict.fromkeys(unwrapped(each) for each in members.values() if definition_of(each))
        for function in functions:
            self.visit_function(function)

    def visit_function(self, function: Callable[..., Any]) -> None:
        """Add one decorated function."""
        definition = definition_of(function)
        assert definition is not None
        name = definition.get_id()
        if not definition.declared:
            msg = f"{name} of {self.flow_class.__name__} is decorated as a step but has no @step; add it"
            raise InvalidStep(msg)
        if name in [step.id for step in self.steps]:
            msg = f"{self.flow_class.__name__} has two steps of the name {name!r}; rename one of the functions"
            raise DuplicateName(msg)
        self.steps.append(FlowStep(function, definition, function.__doc__))


class FlowGraph:
    """The steps of a flow and their connections.

    Args:
        flow_spec: The flow.

    Raises:
        InvalidStep: A step is not a step, or cannot be called with what it will get.
        UnknownStep: A predecessor is no step of the flow.
        DuplicateName: Two steps have the same name.
        FlowError: Steps need each other in a circle.
    """

    def __init__(self, flow_spec: FlowSpec) -> None:
        self.flow_spec = flow_spec
        self.steps: list[FlowStep] = []
        """In the order of their definition."""
        self._class = type(flow_spec)
        StepVisitor(self.steps, self._class).visit()
        self.steps_by_definition = {step.definition: step for step in self.steps}
        self._by_name = {step.id: step for step in self.steps}
        for step in self.steps:
            self._connect(step)
        self._check()
        self.start_steps = [step for step in self.steps if not step.predecessors]
        if log.isEnabledFor(logging.INFO):
            log.info("flow %s:\n%s", flow_spec.name, self.to_mermaid())

    def get_step(self, definition: Step) -> FlowStep:
        """Return the step with this definition.

        Raises:
            UnknownStep: The flow has no such step.
        """
        if definition not in self.steps_by_definition:
            raise UnknownStep(self._unknown(getattr(definition, "function", definition)))
        return self.steps_by_definition[definition]

    def find(self, function: Any) -> FlowStep:
        """Return the step of a function; of an overridden one, the step that took its place.

        Raises:
            InvalidStep: The function has no `@step`.
            UnknownStep: It is no step of this flow.
        """
        definition = definition_of(function)
        if definition is None or not definition.declared:
            msg = f"{_named(function)} is no step; decorate it with @step"
            raise InvalidStep(msg)
        if definition in self.steps_by_definition:
            return self.steps_by_definition[definition]
        if definition.get_id() in self._by_name and self._is_inherited(definition):
            return self._by_name[definition.get_id()]
        raise UnknownStep(self._unknown(function))

    def to_graph(self) -> Graph:
        """Return the picture's nodes and edges; once there is a run, with what has become of the steps."""
        nodes = [_node(step) for step in self.steps]
        edges = [Edge(a.id, b.id, _label(a.definition, b.definition)) for b in self.steps for a in b.predecessors]
        return Graph(self.flow_spec.name, tuple(nodes), tuple(dict.fromkeys(edges)))

    def to_mermaid(self) -> str:
        """Return the text of a Mermaid flowchart."""
        return render(self.to_graph(), "mermaid")

    def to_dot(self) -> str:
        """Return the text of a picture in Graphviz' language."""
        return render(self.to_graph(), "dot")

    def to_svg(self) -> str:
        """Return an SVG picture; no other program is needed."""
        return render(self.to_graph(), "svg")

    def _repr_html_(self) -> str:
        return self.to_svg()

    def state(self) -> FlowUpdateDTO:
        """Return the steps and nodes as a server is told of them."""
        steps = [
            {
                "id": step.id,
                "predecessors": list(dict.fromkeys(before.id for before in step.predecessors)),
                "docs": step.docstring,
                "app_id": step.definition.app.title if step.definition.app else None,
            }
            for step in self.steps
        ]
        return flow_update(steps, [_told(node) for step in self.steps for node in list(step.nodes)])

    def mermaid_url(self) -> str:
        """Return an address that shows the flowchart; nothing is sent there."""
        text = base64.urlsafe_b64encode(self.to_mermaid().encode()).decode()
        return f"https://mermaid.ink/svg/{text}"

    def _connect(self, step: FlowStep) -> None:
        for function in step.definition.predecessors:
            try:
                before = self.find(function)
            except InvalidStep:
                msg = f"step {step.id} of {self._class.__name__} needs {_named(function)}, which has no @step; add it"
                raise InvalidStep(msg) from None
            except UnknownStep as error:
                msg = f"step {step.id} needs a step that is not there: {error}"
                raise UnknownStep(msg) from None
            step.predecessors.append(before)
            if step not in before.successors:
                before.successors.append(step)

    def _check(self) -> None:
        if not self.steps:
            msg = f"{self._class.__name__} has no steps; decorate functions of the class with @step"
            raise InvalidStep(msg)
        edges = [(before.id, step.id) for step in self.steps for before in step.predecessors]
        depth = depths(list(self._by_name), edges)
        for step in self.steps:
            step.check(self._class.__name__)
        for step in sorted(self.steps, key=lambda step: depth[step.id]):
            step.settle_is_many()

    def _is_inherited(self, definition: Step) -> bool:
        """Return whether a class above has this step, so that another one has taken its place."""
        return any(definition_of(vars(owner).get(definition.get_id())) is definition for owner in self._class.__mro__)

    def _unknown(self, function: Any) -> str:
        return f"{self._class.__name__} has no step {_named(function)}; it has: {', '.join(self._by_name)}"


def _node(step: FlowStep) -> Node:
    node = Node(step.id, step.id, "step", _detail(step.definition))
    return outcome(node, [each.call for each in list(step.nodes)])


def _told(node: FlowNode) -> dict[str, Any]:
    return {
        "id": node.id,
        "parent_id": node.parent.id,
        "predecessor_ids": [before.id for before in node.predecessors],
        "status": node.status,
        "run_id": node.run_id,
    }


def _named(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _label(before: Step, after: Step) -> str:
    return ", ".join(["foreach"] * before.fans_out + ["join"] * after.joins)


def _detail(definition: Step) -> str:
    said = ["optional"] * bool(definition.condition)
    said += [f"× {definition.repetitions}"] if definition.is_repeat() else []
    said += [f"app {definition.app.title}"] if definition.app else []
    return ", ".join(said)
