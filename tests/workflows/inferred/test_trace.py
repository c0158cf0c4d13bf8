"""The trace of a run, as a picture."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from raflow.workflows.inferred import LocalWorkflow, TaskError
from raflow.workflows.inferred.trace import Trace
from raflow.workflows.inferred.workflow import InferredWorkflow

Make = Callable[..., InferredWorkflow]


def add(x: Any, y: Any) -> Any:
    return x + y


def square(n: Any) -> Any:
    return n**2


class Squares:
    def __init__(self, square: Any, add: Any) -> None:
        self.square, self.add = square, add

    def __call__(self, a: Any, b: Any) -> Any:
        return self.add(self.square(a), self.square(b))


def traced(made: InferredWorkflow) -> Trace:
    assert made.trace is not None
    return made.trace


def test_a_trace_has_the_calls_in_order_and_their_edges(workflow: Make) -> None:
    made = workflow(Squares, square=square, add=add)
    made.run(2, 10)
    trace = traced(made)
    assert [(step.id, [need.id for need in step.after], step.status.value) for step in trace.steps] == [
        ("square#1", [], "succeeded"),
        ("square#2", [], "succeeded"),
        ("add#1", ["square#1", "square#2"], "succeeded"),
    ]
    assert '"square#1" -> "add#1"' in trace.to_dot()
    assert trace.to_mermaid().count("-->") == 2
    assert ET.fromstring(trace.to_svg()).tag.endswith("svg")
    assert "<svg" in trace._repr_html_()


def test_a_failed_run_has_a_trace_with_the_error_and_what_it_blocked(workflow: Make) -> None:
    made = workflow(Squares, square=square, add=add)
    with pytest.raises(TaskError):
        made.run("a", 1)
    steps = {step.id: step for step in traced(made).steps}
    assert steps["square#1"].status.value == "failed"
    assert isinstance(steps["square#1"].error, TypeError)
    assert steps["add#1"].status.value == "cancelled"
    assert "TypeError" in traced(made).to_dot()


def test_calls_of_sub_workflows_hang_on_the_sub_workflow(workflow: Make) -> None:
    made = workflow(lambda sub, add: lambda: add(sub(1, 2), 3), sub=workflow(Squares, square=square, add=add), add=add)
    made.run()
    edges = {(edge.start, edge.end) for edge in traced(made).graph.edges}
    assert edges == {
        ("sub#1", "add#1"),
        ("sub#1", "sub#1/square#1"),
        ("sub#1", "sub#1/square#2"),
        ("sub#1", "sub#1/add#1"),
        ("sub#1/square#1", "sub#1/add#1"),
        ("sub#1/square#2", "sub#1/add#1"),
    }


def test_the_trace_is_logged_if_asked_and_each_run_has_its_own(caplog: pytest.LogCaptureFixture) -> None:
    made = LocalWorkflow(Squares)
    made.conf_activity("square", square)
    made.conf_activity("add", add)
    with caplog.at_level(logging.INFO, logger="raflow"):
        made.run(1, 2)
        assert "flowchart" not in caplog.text
        first = traced(made)
        made.run(1, 2, _trace=True)
    assert "flowchart" in caplog.text
    assert traced(made) is not first
    assert len(traced(made).steps) == len(first.steps) == 3
