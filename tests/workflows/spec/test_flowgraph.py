# mypy: disable-error-code="misc,attr-defined,override"
from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from raflow.errors import DuplicateName, FlowError, FlowFailed, InvalidStep, UnknownStep
from raflow.metrics import Status
from raflow.workflows.spec import (
    Configuration,
    FlowGraph,
    FlowSpec,
    FlowStep,
    StepVisitor,
    app,
    foreach,
    join,
    needs,
    optional,
    repeat,
    step,
)


class Report(FlowSpec):
    @foreach
    @step
    def read(data: list[int]) -> list[int]:
        """Read it."""
        return data

    @needs(predecessors=[read])
    @repeat(2)
    @step
    def double(number: int) -> int:
        return number * 2

    @join
    @needs(predecessors=[double])
    @optional(condition=lambda step: True)
    @step
    def total(rows: list[list[list[int]]]) -> int:
        return sum(rows[0][0])


def names(steps: list[FlowStep]) -> list[str]:
    return [step.id for step in steps]


def test_the_graph_knows_steps_in_order_and_what_is_before_and_after_them() -> None:
    flow = Report("report", [1])
    graph = FlowGraph(flow)
    assert graph.flow_spec is flow
    assert names(graph.steps) == ["read", "double", "total"]
    assert names(graph.start_steps) == ["read"]
    double = graph.get_step(Report.double.step)
    assert (names(double.predecessors), names(double.successors)) == (["read"], ["total"])
    assert graph.steps_by_definition[Report.double.step] is double
    assert not double.done
    assert double.nodes == []


def test_a_step_has_the_function_its_definition_and_docstring() -> None:
    read = FlowGraph(Report("report", [1])).steps[0]
    assert read.step_function is Report.read
    assert read.definition is Report.read.step
    assert read.docstring == "Read it."
    with read.lock:
        assert not read.done


def test_the_visitor_collects_steps_of_a_class() -> None:
    found: list[FlowStep] = []
    StepVisitor(found, Report).visit()
    assert names(found) == ["read", "double", "total"]


def test_the_picture_says_what_happens_on_the_edges() -> None:
    graph = Report("report", [1]).graph.to_graph()
    assert [(node.label, node.kind, node.detail) for node in graph.nodes] == [
        ("read", "step", ""),
        ("double", "step", "repeat 2"),
        ("total", "step", "optional"),
    ]
    assert [(edge.start, edge.end, edge.label) for edge in graph.edges] == [
        ("read", "double", "foreach"),
        ("double", "total", "join"),
    ]


def test_the_picture_of_a_run_tells_what_has_become_of_each_step() -> None:
    class Half(Report):
        @needs(predecessors=[Report.total])
        @step
        def fail(total: int) -> None:
            raise ValueError("no good")

        @needs(predecessors=[fail])
        @step
        def after(nothing: None) -> None: ...

    flow = Half("half", [1, 2], Configuration(engine="local"))
    assert {node.status for node in flow.graph.to_graph().nodes} == {None}
    with pytest.raises(FlowFailed):
        flow.run()
    drawn = {node.id: node for node in flow.graph.to_graph().nodes}
    assert [drawn[name].status for name in ("read", "double", "total", "fail", "after")] == [
        *[Status.SUCCEEDED] * 3,
        Status.FAILED,
        Status.PENDING,
    ]
    assert drawn["double"].label == "double × 4"
    assert "no good" in drawn["fail"].error
    for text in (flow.graph.to_mermaid(), flow.graph.to_dot(), flow.graph.to_svg(), flow.graph._repr_html_()):
        assert "no good" in text


def test_the_mermaid_address_holds_the_text_and_needs_no_network() -> None:
    graph = Report("report", [1]).graph
    place, _, text = graph.mermaid_url().rpartition("/")
    assert place == "https://mermaid.ink/svg"
    assert base64.urlsafe_b64decode(text).decode() == graph.to_mermaid()
    assert "foreach" in graph.to_mermaid()


def test_building_a_flow_logs_its_mermaid_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "raflow"):
        Report("report", [1])
    assert "flowchart LR" in caplog.text


class Loader(FlowSpec):
    @step
    def load(data: Any) -> str:
        return f"loaded {data}"

    @needs(predecessors=[load])
    @step
    def clean(data: str) -> str:
        return f"clean {data}"


class Derived(Loader):
    @needs(predecessors=[Loader.clean])
    @step
    def store(data: str) -> str:
        return f"stored {data}"

    @step
    def load(self, data: Any) -> str:
        return f"loaded anew {data} in {self.name}"


def test_inherited_steps_come_first_and_overriding_ones_take_their_place() -> None:
    graph = Derived("derived", 1).graph
    assert names(graph.steps) == ["load", "clean", "store"]
    assert graph.steps[0].step_function is Derived.load
    assert names(graph.steps[1].predecessors) == ["load"]
    assert graph.find(Loader.load) is graph.find(Derived.load)


def test_classes_within_functions_conditions_and_try_blocks_are_flows() -> None:
    try:
        if sys.version_info:

            class Inner(FlowSpec):
                @step
                def only(data: int) -> int:
                    return data
    finally:
        pass
    assert names(Inner("inner", 1).graph.steps) == ["only"]


def test_no_source_text_is_needed() -> None:
    namespace: dict[str, Any] = {"FlowSpec": FlowSpec, "step": step}
    exec("class Typed(FlowSpec):\n    @step\n    def only(data):\n        return data", namespace)
    assert names(namespace["Typed"]("typed", 1).graph.steps) == ["only"]


def test_static_methods_can_be_steps() -> None:
    class Static(FlowSpec):
        @staticmethod
        @step
        def one(data: int) -> int:
            return data

        @needs(predecessors=[one])
        @step
        @staticmethod
        def two(data: int) -> int:
            return data

    assert [names(each.predecessors) for each in Static("static", 1).graph.steps] == [[], ["one"]]


# -- bad input ----------------------------------------------------------------------------------------


def test_steps_in_a_circle_are_named() -> None:
    class Circle(Loader):
        @needs(predecessors=[Loader.clean])
        @step
        def load(data: str) -> str:
            return data

    with pytest.raises(FlowError, match="cycle: (load → clean → load|clean → load → clean)"):
        Circle("circle", 1)


def test_a_step_of_another_flow_is_no_predecessor() -> None:
    class Stranger(FlowSpec):
        @needs(predecessors=[Report.read])
        @step
        def use(data: int) -> int:
            return data

    with pytest.raises(UnknownStep, match=r"step use needs .* Stranger has no step read; it has: use"):
        Stranger("stranger", 1)


def test_a_step_that_was_overridden_by_a_plain_function_is_no_predecessor_any_more() -> None:
    class Plain(Loader):
        def load(data: Any) -> str:
            return str(data)

    with pytest.raises(UnknownStep, match="no step load"):
        Plain("plain", 1)


@pytest.mark.parametrize("other", [len, lambda data: data, 3])
def test_a_predecessor_without_step_is_named(other: Any) -> None:
    class Missing(FlowSpec):
        @needs(predecessors=[other])
        @step
        def use(data: int) -> int:
            return data

    with pytest.raises(InvalidStep, match="step use of Missing needs .*no @step; add it"):
        Missing("missing", 1)


def test_a_decorated_function_without_step_is_named() -> None:
    class Forgotten(FlowSpec):
        @foreach
        def items(data: Any) -> Any:
            return data

    with pytest.raises(InvalidStep, match="items of Forgotten .* no @step"):
        Forgotten("forgotten", 1)


def test_a_class_without_steps_is_no_flow() -> None:
    with pytest.raises(InvalidStep, match="FlowSpec has no steps"):
        FlowSpec("empty", 1)


def test_two_functions_of_one_name_cannot_both_be_steps() -> None:
    def made(number: int) -> Callable[[int], int]:
        @step
        def add(data: int) -> int:
            return data + number

        return add

    class Added(FlowSpec):
        one = made(1)
        two = made(2)

    with pytest.raises(DuplicateName, match="Added has two steps of the name 'add'"):
        Added("added", 1)


def test_a_step_that_wants_more_arguments_than_it_has_predecessors_is_named() -> None:
    class Greedy(Loader):
        @needs(predecessors=[Loader.load])
        @step
        def use(one: str, two: str) -> str:
            return one + two

    with pytest.raises(InvalidStep, match="step use of Greedy cannot be called with 1 predecessors: .*'two'"):
        Greedy("greedy", 1)


def test_a_step_that_takes_fewer_arguments_than_it_has_predecessors_is_named() -> None:
    class Narrow(Loader):
        @needs(predecessors=[Loader.load, Loader.clean])
        @step
        def use(self, one: str) -> str:
            return one

    with pytest.raises(InvalidStep, match="step use of Narrow cannot be called with 2 predecessors"):
        Narrow("narrow", 1)


def test_a_join_without_predecessors_is_named() -> None:
    class Alone(FlowSpec):
        @join
        @step
        def gather(rows: Any) -> Any:
            return rows

    with pytest.raises(InvalidStep, match="step gather of Alone has @join and no predecessors"):
        Alone("alone", 1)


def test_an_app_step_has_one_predecessor_at_most() -> None:
    class Solve(Loader):
        @app("solve.py:run")
        @needs(predecessors=[Loader.load, Loader.clean])
        @step
        def solve() -> None: ...

    with pytest.raises(InvalidStep, match="app step solve of Solve can have one predecessor, not 2"):
        Solve("solve", 1)


def test_a_condition_that_cannot_be_called_is_named() -> None:
    class Never(Loader):
        @optional(condition=lambda step, one, two: True)
        @needs(predecessors=[Loader.load])
        @step
        def use(data: str) -> str:
            return data

    with pytest.raises(InvalidStep, match="condition of step use"):
        Never("never", 1)


def test_a_long_chain_and_a_deep_lattice_are_checked_at_once() -> None:
    def follow(name: str, before: list[Any]) -> Any:
        def body(*data: Any) -> int:
            return 1

        body.__name__ = name
        return needs(predecessors=before)(step(body)) if before else step(body)

    members: dict[str, Any] = {}
    last: list[Any] = []
    for level in range(1000):
        last = [follow(f"left{level}", last), follow(f"right{level}", last)]
        members |= {function.__name__: function for function in last}
    lattice: Any = type("Lattice", (FlowSpec,), members)
    assert len(lattice("lattice", 1).graph.steps) == 2000
