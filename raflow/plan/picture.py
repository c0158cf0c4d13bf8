"""A plan as a graph: a frame around each stage, which says why it does not run with the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raflow.graph import Edge, Graph, Group, Node
from raflow.operators.contract import Wide
from raflow.plan.stages import Op, Plan, Stage
from raflow.sinks import Sink
from raflow.sources import Source


def picture(plan: Plan) -> Graph:
    """Return the plan as nodes, edges and groups."""
    groups = (Group(stage.name, _title(stage)) for stage in plan.stages)
    nodes = (node for stage in plan.stages for op in stage.ops for node in _nodes(stage, op))
    return Graph(plan.flow_id, tuple(nodes), tuple(_edges(plan)), tuple(groups))


def _title(stage: Stage) -> str:
    return f"stage {stage.name} ({stage.why})" if stage.why else f"stage {stage.name}"


def _nodes(stage: Stage, op: Op) -> Iterator[Node]:
    yield (
        _connector(stage, op.name, "source", op.work, op.reads) if isinstance(op.work, Source) else _function(stage, op)
    )
    for number, sink in enumerate(op.all_sinks):
        yield _connector(stage, f"{op.name}.sink{number}", "sink", sink)


def _edges(plan: Plan) -> Iterator[Edge]:
    home = {op.name: stage.name for stage in plan.stages for op in stage.ops}
    for op in plan.ops():
        for giver in op.inputs:
            label = "by key" if isinstance(op.work, Wide) else "" if home[giver] == home[op.name] else "batches"
            yield Edge(giver, op.name, label)
        for number, _ in enumerate(op.sinks):
            yield Edge(op.name, f"{op.name}.sink{number}")
        if op.error_sink:
            yield Edge(op.name, f"{op.name}.sink{len(op.sinks)}", "errors")


def _connector(stage: Stage, name: str, kind: Any, connector: Source | Sink, more: str = "") -> Node:
    label, _, detail = repr(connector).partition("(")
    return Node(name, label, kind, ", ".join(filter(None, (detail.removesuffix(")"), more))), stage.name)


def _function(stage: Stage, op: Op) -> Node:
    if op.shape is None:
        return Node(op.name, op.label, "processor", "", stage.name)
    unit = "record" if op.shape.per_record else "batch"
    columns = "" if op.shape.columns is None else f", reads {', '.join(op.shape.columns.names)}"
    return Node(op.name, op.name, "processor", f"per {unit}{columns}", stage.name)
