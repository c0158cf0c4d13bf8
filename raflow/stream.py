"""The lazy stream: what is to be done to records, said step by step; nothing runs before a result is asked for."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raflow import extras
from raflow.arguments import expression, is_several, listed, names_of, whole
from raflow.code import Code, called
from raflow.convert import shape_of
from raflow.errors import InvalidOption, InvalidProcessor, RaflowError
from raflow.grouped import Grouped
from raflow.nodes import Node, ancestry, is_sorted, said, title_of, united
from raflow.operators.columns import Drop, Rename, Select, WithColumns
from raflow.operators.contract import Narrow, Wide
from raflow.operators.distinct import Distinct
from raflow.operators.filter import Filter
from raflow.operators.join import Join
from raflow.operators.limit import Limit
from raflow.operators.passing import Count, Result, Union, Write
from raflow.operators.reduce import MapGroups, ReduceByKey
from raflow.operators.repartition import Repartition
from raflow.operators.sample import Sample
from raflow.operators.sort import Sort, by_of
from raflow.options import ProcessorOptions
from raflow.schemas import schema_of
from raflow.sinks import Sink

if TYPE_CHECKING:
    from raflow.flow import Flow
    from raflow.plan import Plan

By: TypeAlias = "str | tuple[str, str] | Sequence[str | tuple[str, str]]"
"""A column, or several, most important first; each may be a pair with "ascending" or "descending"."""
Keys: TypeAlias = "str | Sequence[str] | Mapping[str, str]"
"""A column that both sides have, a list of such, or the right side's columns by the left side's."""


class Stream:
    """Records and what is to be done to them. Immutable: each method returns a new stream.

    Made by `Flow.read`, `raflow.from_arrow` and the like. Nothing runs until a method is called that
    returns data (`collect`, `to_arrow`, `count`, …), which runs this stream at once, or the Flow is run
    to which `write` has added it.

    Those that run take `engine` ("auto", "ray" or "local") and `address` as `Flow.run` does, and raise what it raises:
    `RunFailed` with the user's error as `__cause__`, `SchemaError` where a step does not fit what is before it.

    Example:
        >>> import pyarrow.compute as pc
        >>> from raflow import Flow
        >>> from raflow.connectors.memory import MemorySource
        >>> trips = MemorySource([{"zone": 1, "fare": 4.0}, {"zone": 2, "fare": 0.0}, {"zone": 1, "fare": 6.0}])
        >>> paid = Flow().read(trips).filter(pc.field("fare") > 0)
        >>> paid.group_by("zone").agg(mean=("fare", "mean")).collect(engine="local")
        [{'zone': 1, 'mean': 5.0}]
    """

    def __init__(self, flow: Flow, node: Node) -> None:
        self._flow = flow
        self.node = node

    def __repr__(self) -> str:
        return f"<Stream of {self._flow.flow_id}: {said(self.node)}>"

    def _repr_html_(self) -> str:
        try:
            known = self.schema()
            columns = "columns: decided by user code" if known is None else known.to_string(show_schema_metadata=False)
        except RaflowError as error:
            columns = str(error)
        return f"<pre>{html.escape(columns)}</pre>{self._alone().plan()._repr_html_()}"

    # -- with user code ---------------------------------------------------------------------------

    def map(self, function: Callable[..., Any], *, name: str = "", **options: Any) -> Stream:
        """Call a function with each record; what it returns takes the record's place.

        The annotation of its parameter decides what it gets, as for `raflow.consumer`: a dict if there is
        none. None drops the record, lists and generators flatten; `async def` and classes with
        `setup`, `process` and `teardown` can be given, too. A record type as the annotation of the result
        says which columns there are, so that those can be named which only some of the records have.

        Args:
            function: What is called.
            name: For logs and stats; it must be unique in the Flow.
            options: Options of `raflow.options.ProcessorOptions`.

        Raises:
            InvalidProcessor: It cannot be called with one record.
            InvalidOption: An option is unknown or its value cannot be used.

        Example:
            >>> import raflow
            >>> raflow.from_arrow([{"n": 1}, {"n": 2}]).map(lambda r: {"n": r["n"] * 2}).collect(engine="local")
            [{'n': 2}, {'n': 4}]
        """
        return self._code(Code(function), name, options)

    def flat_map(self, function: Callable[..., Any], *, name: str = "", **options: Any) -> Stream:
        """Call a function that returns or yields any number of records for each one; as `map` else.

        Raises:
            InvalidProcessor: It cannot be called with one record.
            InvalidOption: An option is unknown or its value cannot be used.
        """
        return self._code(Code(function), name, options)

    def map_batches(self, function: Callable[..., Any], *, name: str = "", **options: Any) -> Stream:
        """Call a function with each batch: a `pa.RecordBatch` if its annotation says nothing else.

        Args:
            function: Gets and returns a record batch, a table, a data frame or a list, by its annotations.
            name: For logs and stats; it must be unique in the Flow.
            options: Options of `raflow.options.ProcessorOptions`, e.g. `batch_rows`, `num_gpus`.

        Raises:
            InvalidProcessor: It cannot be called with one batch.
            InvalidOption: An option is unknown or its value cannot be used.
        """
        code = Code(function, pa.RecordBatch)
        title = name or title_of(function)
        called(function, title)
        if shape_of(code.annotations(title)[0]).per_record:
            msg = f"map_batches: {title} takes one record by its annotation; use map, or annotate it with a batch"
            raise InvalidProcessor(msg)
        return self._code(code, name, options)

    def filter(self, condition: pc.Expression | Callable[..., Any], *, name: str = "", **options: Any) -> Stream:
        """Keep the records for which a condition is true.

        Args:
            condition: An expression, `pc.field("fare") > 0`, which is also used to read less of Parquet
                files; or a function that returns True or False for each record. Null counts as false.
            name: Of a function, for logs and stats.
            options: Of a function: options of `raflow.options.ProcessorOptions`.

        Raises:
            InvalidOption: The condition is neither, or an option cannot be used.
            InvalidProcessor: The function cannot be called with one record.
        """
        if isinstance(condition, pc.Expression):
            if name or options:
                msg = f"{', '.join(['name', *options] if name else options)} cannot be given with an expression"
                raise InvalidOption(msg)
            return self._then(Filter(condition))
        if not callable(condition):
            msg = f"filter({condition!r}): give an expression, e.g. pc.field('fare') > 0, or a function"
            raise InvalidOption(msg)
        return self._code(Code(condition, keeps=True), name, options)

    # -- columns ----------------------------------------------------------------------------------

    def select(self, *columns: str) -> Stream:
        """Keep only these columns, in this order.

        Raises:
            InvalidOption: There are none, or a name is no text.
        """
        if not columns:
            msg = "select() keeps no column: name at least one"
            raise InvalidOption(msg)
        return self._then(Select(names_of("select", columns)))

    def drop(self, *columns: str) -> Stream:
        """Leave out these columns.

        Raises:
            InvalidOption: A name is no text.
        """
        return self._then(Drop(names_of("drop", columns)))

    def rename(self, names: Mapping[str, str]) -> Stream:
        """Rename columns: new names by old ones.

        Raises:
            InvalidOption: A name is no text.
        """
        names_of("rename", (*names, *names.values()))
        return self._then(Rename(tuple(names.items())))

    def with_columns(self, **columns: pc.Expression | Any) -> Stream:
        """Add columns, or replace those of the same name.

        Args:
            columns: By name: an expression of the columns there are, `pc.field("tip") / pc.field("fare")`,
                or a value for all records.

        Raises:
            InvalidOption: Arrow has no type for a value.
        """
        return self._then(WithColumns(tuple((key, expression(key, one)) for key, one in columns.items())))

    # -- by key -----------------------------------------------------------------------------------

    def group_by(self, *keys: str) -> Grouped:
        """Group by columns, for `agg`, `count` and `map_groups`. Null is a group, and so is NaN.

        Raises:
            InvalidOption: A name is no text.
        """
        return Grouped(self, names_of("group_by", keys))

    def reduce_by_key(self, function: Callable[[Any, Any], Any], *, key: str | Sequence[str], value: str) -> Stream:
        """Reduce the values of each key to one with a function of two values.

        Args:
            function: Takes two values and returns one; associative, because the order is not defined.
            key: Column of the key, or several.
            value: Column of the values.

        Raises:
            InvalidOption: There is no key, or the value is one.
            InvalidProcessor: The function cannot be called with two values.
        """
        return self._then(ReduceByKey(function, names_of("reduce_by_key", listed(key)), value))

    def map_groups(self, function: Callable[..., Any], *, by: str | Sequence[str]) -> Stream:
        """Call a function with all records of each group; what it returns takes their place.

        Args:
            function: Gets what its annotation says, e.g. a `pd.DataFrame`, of one group.
            by: The columns to group by.

        Raises:
            InvalidOption: There is no column.
            InvalidProcessor: The function cannot take a group.
        """
        return self._then(MapGroups(function, names_of("map_groups", listed(by))))

    def join(self, other: Stream, on: Keys, how: str = "inner", suffix: str = "_right") -> Stream:
        """Join with another stream. Null keys never meet.

        Both sides are spread by their keys; or, if the sources of one are small (8 MiB) and its rows without
        partner do not count, all of it goes to every partition, and the other side is dealt out evenly.

        Args:
            other: The right side.
            on: A column that both have, a list of such, or a mapping of left to right columns.
            how: Kind of join: "inner", "left", "right", "outer", "semi" or "anti".
            suffix: Added to the right side's columns that the left side has, too.

        Raises:
            InvalidOption: There are no keys, `how` is unknown, or `other` is no stream that can meet this one.
        """
        pairs = tuple(on.items()) if isinstance(on, Mapping) else tuple((one, one) for one in listed(on))
        names_of("join", [name for pair in pairs for name in pair])
        return self._then(Join(pairs, how, suffix), other)

    def sort(self, by: By, *, descending: bool = False) -> Stream:
        """Sort by columns; nulls come last, NaN before them. Results then come in this order.

        Args:
            by: A column, or several, most important first; each may be a pair with "ascending" or
                "descending".
            descending: For the columns that are no pair.

        Raises:
            InvalidOption: There is no column, one is there twice, or an order is none.
        """
        given = [by] if isinstance(by, (str, tuple)) and not is_several(by) else list(by)
        order = "descending" if descending else "ascending"
        return self._then(Sort(by_of(*((one, order) if isinstance(one, str) else one for one in given))))

    def distinct(self, *on: str) -> Stream:
        """Keep the first record of each value of these columns; without columns, of each record.

        Raises:
            InvalidOption: A name is no text.
        """
        return self._then(Distinct(names_of("distinct", on) or None))

    def repartition(self, number: int) -> Stream:
        """Deal the records out evenly to so many units of work.

        Raises:
            InvalidOption: It is no whole number from 1 on.
        """
        return self._then(Repartition(whole(number, "repartition")))

    def sample(self, fraction: float, seed: int = 0) -> Stream:
        """Keep about so much of the records, each with the same chance; the same ones for the same seed.

        Raises:
            InvalidOption: The fraction is no number from 0 to 1, or the seed no whole number.
        """
        if not isinstance(fraction, (int, float)):
            msg = f"sample: fraction is {fraction!r}; it must be a number from 0 to 1"
            raise InvalidOption(msg)
        return self._then(Sample(fraction, whole(seed, "sample: seed")))

    def limit(self, rows: int) -> Stream:
        """Keep the first records, in the order of the input.

        Raises:
            InvalidOption: It is no whole number from 0 on.
        """
        return self._then(Limit(whole(rows, "limit")))

    def union(self, *others: Stream) -> Stream:
        """Return all records of this stream and of others, in no order; all need the same columns.

        Raises:
            InvalidOption: One is no stream, or of a Flow with other options.
        """
        flow = self._flow_with(*others)
        return Stream(flow, united([self.node, *(one.node for one in others)]))

    # -- results ----------------------------------------------------------------------------------

    def write(self, sink: Sink | Sequence[Sink]) -> Flow:
        """Have the records written when the Flow is run; returns the Flow: `stream.write(sink).run()`.

        Said again of the same stream and folder, it takes the place of what was said before.

        Args:
            sink: Where they go; several each get all of them.

        Raises:
            InvalidOption: It is no sink, or another stream of the Flow is written to the same folder.
        """
        sinks = tuple(sink) if isinstance(sink, (list, tuple)) else (sink,)
        if not sinks or not all(isinstance(one, Sink) for one in sinks):
            msg = f"write({sink!r}): it must be a raflow Sink, e.g. raflow.connectors.files.ParquetFiles(path)"
            raise InvalidOption(msg)
        self._flow.add_stream(Node(Write(), (self.node,), sinks))
        return self._flow

    def collect(self, *, engine: str = "auto", address: str | None = None) -> list[dict[str, Any]]:
        """Run this stream and return its records as dicts."""
        rows: list[dict[str, Any]] = self.to_arrow(engine=engine, address=address).to_pylist()
        return rows

    def to_arrow(self, *, engine: str = "auto", address: str | None = None) -> pa.Table:
        """Run this stream and return its records as a table; those of `sort` in order.

        Raises:
            RunFailed: The run failed; `__cause__` is the user's error.
            RaflowError: It could not start: a step does not fit, a source is missing, there is no cluster.
        """
        from raflow import collecting

        return collecting.table(self._alone, self.schema, engine, address)

    def to_pandas(self, *, engine: str = "auto", address: str | None = None) -> Any:
        """Run this stream and return its records as a `pandas.DataFrame`."""
        return self.to_arrow(engine=engine, address=address).to_pandas()

    def to_polars(self, *, engine: str = "auto", address: str | None = None) -> Any:
        """Run this stream and return its records as a `polars.DataFrame`.

        Raises:
            MissingExtra: polars is not installed; else what `to_arrow` raises.
        """
        polars = extras.load("polars", "to_polars()", "polars")  # before anything runs
        return polars.from_arrow(self.to_arrow(engine=engine, address=address))

    def to_ray_dataset(self, *, address: str | None = None) -> Any:
        """Run this stream on Ray and return its records as a `ray.data.Dataset`, in Ray's store."""
        from raflow import collecting

        return collecting.ray_dataset(self._alone, self.schema, address)

    def iter_batches(self, *, engine: str = "auto", address: str | None = None) -> Iterator[pa.RecordBatch]:
        """Run this stream and yield its record batches while it runs, as they come; those of `sort` in order.

        The run starts with the first batch that is asked for. What is not taken yet waits in bounded memory:
        a few units of work, then the run waits. Closing the iterator stops the run.

        Raises:
            RunFailed: The run failed; `__cause__` is the user's error.
            RaflowError: It could not start.
        """
        from raflow import collecting

        return collecting.batches(self._alone, engine, address, in_order=is_sorted(self.node))

    def take(self, rows: int, *, engine: str = "auto", address: str | None = None) -> list[dict[str, Any]]:
        """Run this stream until it has so many records, and return the first ones as dicts."""
        return self.limit(rows).collect(engine=engine, address=address)

    def count(self, *, engine: str = "auto", address: str | None = None) -> int:
        """Run this stream and return the number of its records."""
        counts = self._then(Count()).to_arrow(engine=engine, address=address)
        return int(pc.sum(counts["rows"]).as_py()) if counts.num_rows else 0

    def show(self, rows: int = 10, *, engine: str = "auto", address: str | None = None) -> None:
        """Run this stream until it has so many records, and print the first ones as a table."""
        table = self.limit(rows).to_arrow(engine=engine, address=address)
        print(table.to_pandas().to_string(index=False) if table.num_rows else f"no records; {table.schema.names}")

    def schema(self) -> pa.Schema | None:
        """Return names and types of the columns; None if user code decides them. Reads no records.

        Raises:
            SchemaError: A step does not fit what is before it; says what.
            SourceError: A source is missing or unreadable.
        """
        return schema_of(self.node, self._flow.options.credentials())

    def explain(self) -> Plan:
        """Return the plan: what would run where, and what would be read. `print` draws it, a notebook shows it.

        Sources are looked at, to know their columns; no records are read.

        Raises:
            SchemaError: A step does not fit what is before it; says what.
            SourceError: A source is missing or unreadable.
        """
        from raflow import collecting

        return collecting.plan(self._alone())

    # -- inside -----------------------------------------------------------------------------------

    def _code(self, code: Code, name: str, options: dict[str, Any]) -> Stream:
        ProcessorOptions(**options)
        title = name or title_of(code.function)
        called(code.function, title)
        try:
            shape_of(code.annotations(title)[0])
        except InvalidProcessor as error:
            msg = f"processor {title!r}: {error}"
            raise InvalidProcessor(msg) from error
        return Stream(self._flow, Node(code, self._before(), name=name, options=options))

    def _then(self, work: Narrow | Wide, *others: Stream) -> Stream:
        flow = self._flow_with(*others)
        before = self._before() if isinstance(work, Narrow) else (self.node, *(one.node for one in others))
        return Stream(flow, Node(work, before))

    def _before(self) -> tuple[Node, ...]:
        """Return what comes next to this: a union's own inputs, since all but exchanges take several."""
        return self.node.inputs if isinstance(self.node.work, Union) else (self.node,)

    def _flow_with(self, *others: Stream) -> Flow:
        """Return the Flow of this stream and others: that with options, such as keys, if the others have none."""
        flows = [self._flow]
        for other in others:
            if not isinstance(other, Stream):
                msg = f"{other!r} is no stream; give one from flow.read(source)"
                raise InvalidOption(msg)
            flows += [] if other._flow in flows else [other._flow]
        given = [flow for flow in flows if flow.options.explicit()]
        if any(flow.options != given[0].options for flow in given):
            ids = " and ".join(repr(flow.flow_id) for flow in given)
            msg = (
                f"streams of the Flows {ids}, which have options of their own, cannot meet; read both from one of them"
            )
            raise InvalidOption(msg)
        return given[0] if given else flows[0]

    def _alone(self, *sinks: Sink) -> Flow:
        """Return a Flow that does only this, and writes only to these sinks."""
        flow = type(self._flow)(self._flow.flow_id, self._flow.options)
        alone: dict[Node, Node] = {}
        for node in ancestry([self.node]):
            alone[node] = replace(node, inputs=tuple(alone[one] for one in node.inputs), sinks=())
        flow.add_stream(Node(Result(), (alone[self.node],), sinks))
        return flow
