"""From a command-line target to the picture of what it names."""

from __future__ import annotations

import inspect
from typing import Any

from raflow.errors import TargetError
from raflow.flow import Flow
from raflow.graph import Graph
from raflow.http.declared import HttpApp
from raflow.http.picture import picture
from raflow.loading import load, made, named
from raflow.workflows.chain import Workflow
from raflow.workflows.chain.actions import as_action
from raflow.workflows.inferred.workflow import LocalWorkflow
from raflow.workflows.spec import FlowSpec


def graph_of(target: str) -> Graph:
    """Return the plan of a Flow, or the steps of a class workflow or chain.

    Args:
        target: As of `raflow run`; a workflow needs its name: `file.py:name`. The name may lead to a
            function without parameters that makes one.

    Raises:
        TargetError: It leads to nothing that can be drawn.
    """
    if not target.rpartition(":")[1]:
        return _of_flow(load(target).flow)
    found = named(target)
    if isinstance(found, type) and issubclass(found, FlowSpec):
        found = _flow_of(found, target)
    elif inspect.isroutine(found) and as_action(found) is None:
        found = made(found, target)
    return _graph(found, target)


def _graph(found: Any, target: str) -> Graph:
    if isinstance(found, Flow):
        return _of_flow(found)
    if isinstance(found, FlowSpec):
        return found.graph.to_graph()
    if isinstance(found, Workflow):
        return found.graph
    if isinstance(found, LocalWorkflow):
        msg = f"{target} is an inferred workflow: its steps are known once it has run; then draw its .trace"
    else:
        what = found.__name__ if isinstance(found, type) else type(found).__name__
        msg = f"{target} is of type {what}; what can be drawn is a Flow, a FlowSpec or a Workflow"
    raise TargetError(msg)


def _of_flow(flow: Flow) -> Graph:
    """Return the plan of the data side and what is answered over HTTP, side by side."""
    if not flow.collectors and not flow.services:
        return flow.plan().graph()
    answered = picture(HttpApp.of(flow))
    if not flow.nodes:
        return answered
    plan = flow.plan().graph()
    nodes, edges, groups = (*plan.nodes, *answered.nodes), plan.edges + answered.edges, plan.groups + answered.groups
    return Graph(flow.flow_id, nodes, edges, groups)


def _flow_of(kind: type[FlowSpec], target: str) -> Any:
    """Return a flow of a class; one with a constructor of its own must need no arguments."""
    own: Any = kind
    return kind(kind.__name__, None) if kind.__init__ is FlowSpec.__init__ else made(own, target)
