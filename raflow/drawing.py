"""From a command-line target to the picture of what it names."""

from __future__ import annotations

import inspect
from typing import Any

from raflow.errors import TargetError
from raflow.graph import Graph
from raflow.loading import load, named
from raflow.workflows.chain import Workflow
from raflow.workflows.inferred.workflow import LocalWorkflow
from raflow.workflows.spec import FlowSpec


def graph_of(target: str) -> Graph:
    """Return the plan of a Flow, or the steps of a class workflow or chain.

    Args:
        target: As of `raflow run`; a workflow needs its name: `file.py:name`.

    Raises:
        TargetError: It leads to nothing that can be drawn.
    """
    found = named(target) if target.rpartition(":")[1] else None
    if isinstance(found, type) and issubclass(found, FlowSpec):
        return found(found.__name__, None).graph.to_graph()
    if isinstance(found, FlowSpec):
        return found.graph.to_graph()
    workflow = _made(found)
    if isinstance(workflow, Workflow):
        return workflow.graph
    if isinstance(workflow, LocalWorkflow):
        msg = f"{target} is an inferred workflow: its steps are known once it has run; then draw its .trace"
        raise TargetError(msg)
    return load(target).flow.plan().graph()


def _made(found: Any) -> Any:
    """Return what a function without parameters makes; anything else as it is."""
    if not inspect.isfunction(found) or inspect.signature(found).parameters:
        return found
    made = found()
    return made if isinstance(made, Workflow | LocalWorkflow) else None
