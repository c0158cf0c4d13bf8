"""Which columns each thing of a Flow gives, as far as that is known before a run.

So an unknown column or a type that does not fit is told before data moves. User code without a return
annotation ends the knowledge; what comes after it is checked when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raflow import convert
from raflow.code import Code
from raflow.convert.fields import is_optional
from raflow.convert.nested import is_untyped
from raflow.credentials import Credentials
from raflow.errors import RaflowError, SchemaError
from raflow.nodes import Node, ancestry, label
from raflow.operators.contract import Narrow, Wide
from raflow.schema import is_fixed, merge
from raflow.sources import Source

if TYPE_CHECKING:
    from raflow.plan import Plan

_DATE = r"^\d{4}-\d\d-\d\d"
_ZONED = _DATE + r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$"
_LOOKED_AT = 4
"""Batches of a source of which it is told whether its timestamps have a zone."""

Known: TypeAlias = "pa.Schema | None"
"""The columns; None: user code decides them."""


def schema_of(node: Node, credentials: Credentials | None = None) -> Known:
    """Return the columns that a node gives; None if user code decides them.

    Reads the schema of each source once, and no records, but for the first ones of texts of which a record type wants
    timestamps although some are none.

    Args:
        node: With all that is before it.
        credentials: The Flow's keys, for sources that have none of their own.

    Raises:
        SchemaError: Something does not fit what is before it; says what.
        SourceError: A source is missing or unreadable.
    """
    found: dict[Node, Known] = {}
    nodes = list(ancestry([node]))
    for one in nodes:
        if isinstance(one.work, Source):
            takers = [taker.work for taker in nodes if one in taker.inputs and isinstance(taker.work, Code)]
            found[one] = _of_source(one.work.with_credentials(credentials or Credentials()), takers)
        else:
            found[one] = gives(one.work, [found[before] for before in one.inputs], one.name or label(one.work))
    return found[node]


def check(plan: Plan, sources: Mapping[str, pa.Schema]) -> dict[str, Known]:
    """Return the columns that each op of a plan gives.

    Args:
        plan: Its ops are looked at in order.
        sources: The schemas of the sources, by op.

    Raises:
        SchemaError: An op does not fit what is before it; names it.
    """
    found: dict[str, Known] = dict(sources)
    for op in plan.ops():
        if not isinstance(op.work, Source):
            found[op.name] = gives(op.work, [found[before] for before in op.inputs], op.label)
    return found


def gives(work: Code | Narrow | Wide, given: Sequence[Known], name: str) -> Known:
    """Return what something makes of inputs with these columns.

    Args:
        work: What is done.
        given: The columns of each input; those of code and narrow operators are a union.
        name: Put in front of errors.

    Raises:
        SchemaError: An input does not fit.
    """
    try:
        known = [one for one in given if one is not None]
        if isinstance(work, Code):
            _check_record(work, known, name)
        if isinstance(work, Code) and not work.keeps:
            return _returned(work, name)
        if isinstance(work, Wide):
            return work.schema(*known) if len(known) == len(given) else None
        results = known if isinstance(work, Code) else [work.schema(one) for one in known]
        for one in results[1:]:
            _check_same_columns(one, results[0])
        return merge(results, what="another input") if len(known) == len(given) else None
    except RaflowError as error:
        msg = str(error) if name in str(error) else f"{name}: {error}"
        raise type(error)(msg) from error


def _of_source(source: Source, takers: Sequence[Code]) -> pa.Schema:
    """Return a source's columns as the functions that read it want them."""
    shapes = (convert.shape_of(taker.annotations(label(taker))[0]) for taker in takers)
    return as_wanted(source, source.schema(), (shape.columns for shape in shapes))


def as_wanted(source: Source, found: pa.Schema, wanted: Iterable[pa.Schema | None]) -> pa.Schema:
    """Return a source's columns as the record types of the functions that read it want them.

    They decide the types of texts. A field with a default may be in records that the source has not looked at yet,
    so it is read, too; one without is not added, so that a misspelt name is told.

    Args:
        source: Says what record types may decide.
        found: Its columns.
        wanted: Those of each function's record type, as `Shape.columns` has them.
    """
    fields = [field for columns in wanted for field in columns or ()]
    optional = dict.fromkeys(field.name for field in fields if is_optional(field)) if source.any_column() else {}
    unseen = [pa.field(name, pa.null()) for name in optional if name not in found.names]
    columns = {field.name: field for field in [*found, *unseen]}
    typed: dict[str, pa.Field] = {}
    for field in fields:
        if field.name in columns and source.typed_by_record(field.name):
            one = _decided(source, columns[field.name], field)
            typed[field.name] = _both(typed.get(field.name, one), one)
    return pa.schema(list((columns | typed).values()))


def _both(one: pa.Field, other: pa.Field) -> pa.Field:
    """Return a column as two record types want it; the later one decides where they disagree."""
    if is_fixed(one) != is_fixed(other):
        return one if is_fixed(one) else other
    try:
        return merge([pa.schema([one]), pa.schema([other])]).field(0)
    except SchemaError:
        return other


def _decided(source: Source, found: pa.Field, wanted: pa.Field) -> pa.Field:
    """Return a column of text in the type that a record type wants, as far as it decides that."""
    if is_fixed(wanted) or is_fixed(found):
        return wanted if is_fixed(wanted) else found
    if pa.types.is_timestamp(wanted.type) and pa.types.is_string(found.type):
        return found.with_type(pa.timestamp("us", _zone(source, found)))
    return found.with_type(convert.decided(found.type, wanted.type))


def _zone(source: Source, column: pa.Field) -> str | None:
    """Return the time zone of most of a column's first timestamps, between which there is other text."""
    columns = pa.schema([column])
    batches = (batch for split in source.splits() for batch in source.read(split, columns, lambda _: None))
    texts = pa.chunked_array([batch.column(0) for batch in islice(batches, _LOOKED_AT)], pa.string())
    zoned, dated = (pc.sum(pc.match_substring_regex(texts, kind)).as_py() or 0 for kind in (_ZONED, _DATE))
    return "UTC" if zoned > dated / 2 else None


def _check_record(code: Code, given: Sequence[pa.Schema], name: str) -> None:
    """Raise if a function wants a record that the columns cannot be."""
    columns = convert.shape_of(code.annotations(name)[0]).columns
    for one in given if columns is not None else ():
        convert.check(columns, one)


def _returned(code: Code, name: str) -> Known:
    """Return the columns that a return annotation names; None if it leaves a type open."""
    schema = convert.returned_schema(code.annotations(name)[1])
    is_open = schema is not None and any(is_untyped(field.type) for field in schema)
    return None if is_open else schema


def _check_same_columns(one: pa.Schema, other: pa.Schema) -> None:
    alone = sorted(set(one.names) ^ set(other.names))
    if alone:
        msg = f"column {alone[0]!r} is in some of the inputs only; select the same of all, or add it to the others"
        raise SchemaError(msg)
