"""The values that a plan is made of: ops, the stages that they are fused into, and how stages meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raflow import convert
from raflow.code import Code
from raflow.dependencies.consumers import asked, ship
from raflow.nodes import label
from raflow.operators.contract import Narrow, Wide
from raflow.operators.passing import Side
from raflow.options import FlowOptions, ProcessorOptions
from raflow.sinks import Sink
from raflow.sources import Source

if TYPE_CHECKING:
    from raflow.graph import Graph


@dataclass(frozen=True, eq=False)
class Op:
    """One node of a Flow, named and with all its options."""

    name: str
    """Unique in the plan."""
    work: Source | Code | Narrow | Wide
    inputs: tuple[str, ...]
    """Names of the ops before it."""
    sinks: tuple[Sink, ...]
    """Each gets all its results; the error sink is not among them."""
    options: ProcessorOptions
    """With all layers applied."""
    shape: convert.Shape | None = None
    """What user code gets; None for what is not user code."""
    returned: pa.Schema | None = None
    """The columns of what user code returns, if its annotation says so; batches have all of them."""
    reads: str = ""
    """What of a source is read, for drawings; empty: all, or it is not known."""

    @property
    def is_entry(self) -> bool:
        """Whether units of work begin here: splits of a source, or partitions after an exchange."""
        return isinstance(self.work, (Source, Wide))

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return self.name if isinstance(self.work, Code) else label(self.work)

    @property
    def error_sink(self) -> Sink | None:
        """Where failing records go, if they are kept."""
        return self.options.on_error if isinstance(self.options.on_error, Sink) else None

    @property
    def all_sinks(self) -> tuple[Sink, ...]:
        """The sinks, and the error sink last if there is one."""
        return self.sinks + ((self.error_sink,) if self.error_sink else ())


@dataclass(frozen=True)
class Exchange:
    """Results of an op that are spread over the partitions of a wide op."""

    giver: str
    """Name of the op that gives."""
    taker: str
    """Name of the wide op."""
    side: int
    """Which of its inputs this is."""
    by_content: bool = False
    """Whether rows that are dealt out evenly go by what they are, as their places are not always the same."""


@dataclass(frozen=True)
class Stage:
    """Ops that run together in one replica."""

    name: str
    """The names of its processors, joined by ` → `."""
    ops: tuple[Op, ...]
    """The earlier ones first."""
    options: ProcessorOptions
    """What a replica needs, and how many there are."""
    emits: tuple[str, ...] = ()
    """Ops whose results go to other stages in batches."""
    takes: tuple[str, ...] = ()
    """Ops of other stages whose results come here in batches."""
    exchanges: tuple[Exchange, ...] = ()
    """Where results leave by key."""
    takers: Mapping[str, Wide] = field(default_factory=dict)
    """The wide operators to which the exchanges lead."""
    why: str = ""
    """Why it does not run together with the stage before it; empty if there is none before."""

    @cached_property
    def by_name(self) -> dict[str, Op]:
        """The ops by their names."""
        return {op.name: op for op in self.ops}

    @property
    def entries(self) -> tuple[Op, ...]:
        """The ops at which units of work begin."""
        return tuple(op for op in self.ops if op.is_entry)

    @property
    def writers(self) -> tuple[Op, ...]:
        """The ops that write to sinks."""
        return tuple(op for op in self.ops if op.all_sinks)

    @property
    def all_sinks(self) -> tuple[Sink, ...]:
        """The sinks of all ops, in their order; error sinks are the last ones of their op."""
        return tuple(sink for op in self.ops for sink in op.all_sinks)

    @property
    def runs_python(self) -> bool:
        """Whether user code is called record by record."""
        return any(op.shape.per_record for op in self.ops if op.shape)

    @property
    def is_ours(self) -> bool:
        """Whether it runs no user code at all."""
        return not any(op.shape or (isinstance(op.work, Wide) and op.work.runs_python) for op in self.ops)

    def after(self, name: str) -> tuple[Op, ...]:
        """Return the ops here that take the results of an op in batches, also of one elsewhere."""
        return tuple(op for op in self.ops if name in op.inputs and not isinstance(op.work, (Wide, Side)))

    def sides(self, name: str) -> tuple[Op, ...]:
        """Return the side outputs of an op, by number."""
        return tuple(op for op in self.ops if name in op.inputs and isinstance(op.work, Side))


@dataclass(frozen=True)
class Plan:
    """The stages of a Flow. `print(plan)` draws it; a notebook shows it as a picture."""

    flow_id: str
    options: FlowOptions
    stages: tuple[Stage, ...]
    """Those that give come before those that take."""

    def ops(self) -> Iterator[Op]:
        """Yield the ops of all stages."""
        for stage in self.stages:
            yield from stage.ops

    def dependencies(self) -> list[Any]:
        """Return the dependencies for which user code asks."""
        return [make for op in self.ops() if isinstance(op.work, Code) for make in asked(op.work.function)]

    def ship(self, made: Mapping[Any, Any]) -> None:
        """Give user code what GLOBAL dependencies have made, by dependency, before it travels."""
        for op in self.ops():
            if isinstance(op.work, Code):
                ship(op.work.function, made)

    def reached(self, entry: str) -> frozenset[str]:
        """Return the ops to which records of an entry come without an exchange; itself too."""
        return self._reached[entry]

    @cached_property
    def _reached(self) -> dict[str, frozenset[str]]:
        return {op.name: self._from(op.name) for op in self.ops() if op.is_entry}

    def _from(self, entry: str) -> frozenset[str]:
        came = {entry}
        for op in self.ops():
            if not op.is_entry and came & set(op.inputs):
                came.add(op.name)
        return frozenset(came)

    def onward(self, entry: str) -> tuple[Stage, ...]:
        """Return the stages through which a unit of work passes that begins at an entry; its own first."""
        came = self.reached(entry)
        return tuple(stage for stage in self.stages if came & set(stage.by_name))

    def givers(self, wide: str) -> tuple[str, ...]:
        """Return the entries whose units must be done before a wide op can begin."""
        wanted = set(next(op for op in self.ops() if op.name == wide).inputs)
        return tuple(op.name for op in self.ops() if op.is_entry and wanted & self.reached(op.name))

    def with_wide(self, changed: Mapping[str, Wide]) -> Plan:
        """Return the plan with other operators in place of some wide ones, by the names of their ops."""

        def stage(one: Stage) -> Stage:
            ops = tuple(replace(op, work=changed.get(op.name, op.work)) for op in one.ops)
            takers = {name: changed.get(name, work) for name, work in one.takers.items()}
            return replace(one, ops=ops, takers=takers)

        return replace(self, stages=tuple(map(stage, self.stages))) if changed else self

    def graph(self) -> Graph:
        """Return the plan as nodes, edges and groups, for drawing."""
        from raflow.plan.picture import picture

        return picture(self)

    def __repr__(self) -> str:
        return f"<Plan {self.flow_id}: {', '.join(stage.name for stage in self.stages)}>"

    def __str__(self) -> str:
        from raflow.render import render

        return render(self.graph(), "text")

    def _repr_html_(self) -> str:
        from raflow.render import render

        return render(self.graph(), "svg")
