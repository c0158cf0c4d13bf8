"""From a Flow to a Plan: the validated stages that an engine can run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raflow import convert
from raflow.errors import FlowError, InvalidOption, InvalidProcessor
from raflow.graph import Edge, Graph, Group, Node
from raflow.options import FlowOptions, ProcessorOptions
from raflow.processors import Processor
from raflow.sinks import Sink
from raflow.sources import Source

if TYPE_CHECKING:
    from raflow.flow import Flow


@dataclass(frozen=True)
class Stage:
    """A processor fused with its source and its sinks: what one replica runs."""

    name: str
    code: Callable[..., Any]
    """The user's function or class."""
    source: Source
    sinks: tuple[Sink, ...]
    options: ProcessorOptions
    """With all layers applied."""
    shape: convert.Shape
    """What the function gets."""
    returned: pa.Schema | None
    """What it returns, if its annotation says so."""

    @property
    def error_sink(self) -> Sink | None:
        """Where failing records go, if they are kept."""
        return None if isinstance(self.options.on_error, str) else self.options.on_error

    @property
    def all_sinks(self) -> tuple[Sink, ...]:
        """The sinks, and the error sink last if there is one."""
        return self.sinks + ((self.error_sink,) if self.error_sink else ())


@dataclass(frozen=True)
class Plan:
    """The stages of a Flow. `print(plan)` draws it; a notebook shows it as a picture."""

    flow_id: str
    options: FlowOptions
    stages: tuple[Stage, ...]

    def graph(self) -> Graph:
        """Return the plan as nodes, edges and groups, for drawing."""
        nodes, edges, groups = [], [], []
        for stage in self.stages:
            groups.append(Group(stage.name, f"stage {stage.name}"))
            stage_nodes = [_node(stage, "source", 0, stage.source), _function_node(stage)]
            stage_nodes += [_node(stage, "sink", n, sink) for n, sink in enumerate(stage.sinks)]
            edges.append(Edge(stage_nodes[0].id, stage_nodes[1].id))
            edges += [Edge(stage_nodes[1].id, sink.id) for sink in stage_nodes[2:]]
            if stage.error_sink:
                stage_nodes.append(_node(stage, "sink", len(stage.sinks), stage.error_sink))
                edges.append(Edge(stage_nodes[1].id, stage_nodes[-1].id, "errors"))
            nodes += stage_nodes
        return Graph(self.flow_id, tuple(nodes), tuple(edges), tuple(groups))

    def __repr__(self) -> str:
        return f"<Plan {self.flow_id}: {', '.join(stage.name for stage in self.stages)}>"

    def __str__(self) -> str:
        from raflow.render import render

        return render(self.graph(), "text")

    def _repr_html_(self) -> str:
        from raflow.render import render

        return render(self.graph(), "svg")


def make_plan(flow: Flow, overrides: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Validate a Flow; nothing is read or started.

    Raises:
        FlowError: It has no processors, or one of them is wrong.
    """
    if not flow.processors:
        msg = f"flow {flow.flow_id!r} has no processors; add one with @flow.consumer(source=..., sink=...)"
        raise FlowError(msg)
    names = [processor.name for processor in flow.processors]
    for name in overrides:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}"
            msg = f"flow {flow.flow_id!r} has no processor {name!r}{hint}"
            raise InvalidOption(msg)
    stages = (_stage(flow, processor, overrides.get(processor.name, {})) for processor in flow.processors)
    return Plan(flow.flow_id, flow.options, tuple(stages))


def _stage(flow: Flow, processor: Processor, override: Mapping[str, Any]) -> Stage:
    takes, gives = processor.annotations()
    try:
        shape, returned = convert.shape_of(takes), convert.returned_schema(gives)
    except InvalidProcessor as error:
        msg = f"processor {processor.name!r}: {error}"
        raise InvalidProcessor(msg) from error
    options = ProcessorOptions.layered(flow.options.processor_defaults(), processor.options, override)
    credentials = flow.options.credentials()
    if isinstance(options.on_error, Sink):
        options = options.model_copy(update={"on_error": options.on_error.with_credentials(credentials)})
    return Stage(
        name=processor.name,
        code=processor.code,
        source=processor.source.with_credentials(credentials),
        sinks=tuple(sink.with_credentials(credentials) for sink in processor.sinks),
        options=options,
        shape=shape,
        returned=returned,
    )


def dry(plan: Plan, sink: Sink) -> Plan:
    """Return the plan with one sink in place of all, and failing records skipped as they would be kept."""
    return replace(plan, stages=tuple(_dry(stage, sink) for stage in plan.stages))


def _dry(stage: Stage, sink: Sink) -> Stage:
    update = {"num_replicas": 1, **({"on_error": "skip"} if stage.error_sink else {})}
    return replace(stage, sinks=(sink,), options=stage.options.model_copy(update=update))


def _node(stage: Stage, kind: Any, number: int, connector: Source | Sink) -> Node:
    label, _, detail = repr(connector).partition("(")
    return Node(f"{stage.name}.{kind}{number}", label, kind, detail.rstrip(")"), stage.name)


def _function_node(stage: Stage) -> Node:
    unit = "record" if stage.shape.per_record else "batch"
    columns = "" if stage.shape.columns is None else f", reads {', '.join(stage.shape.columns.names)}"
    return Node(f"{stage.name}.processor", stage.name, "processor", f"per {unit}{columns}", stage.name)
