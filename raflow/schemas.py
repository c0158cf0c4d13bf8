"""Which columns each thing of a Flow gives, as far as that is known before a run.

So an unknown column or a type that does not fit is told before data moves. User code without a return
annotation ends the knowledge; what comes after it is checked when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from raflow import convert
from raflow.code import Code
from raflow.convert.fields import is_optional
from raflow.credentials import Credentials
from raflow.errors import RaflowError, SchemaError
from raflow.nodes import Node, ancestry, label
from raflow.operators.contract import Narrow, Wide
from raflow.schema import is_fixed, merge
from raflow.sources import Source

if TYPE_CHECKING:
    from raflow.plan import Plan

Known: TypeAlias = "pa.Schema | None"
"""The columns; None: user code decides them."""


def schema_of(node: Node, credentials: Credentials | None = None) -> Known:
    """Return the columns that a node gives; None if user code decides them.

    Reads the schema of each source once, and no records.

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
    decided = {field.name: field for field in fields if is_fixed(field)} if source.typed_by_record() else {}
    optional = dict.fromkeys(field.name for field in fields if is_optional(field)) if source.any_column() else {}
    unseen = [pa.field(name, pa.null()) for name in optional if name not in found.names]
    return pa.schema([decided.get(field.name, field) for field in [*found, *unseen]])


def _check_record(code: Code, given: Sequence[pa.Schema], name: str) -> None:
    """Raise if a function wants a record that the columns cannot be."""
    columns = convert.shape_of(code.annotations(name)[0]).columns
    for one in given if columns is not None else ():
        convert.check(columns, one)


def _returned(code: Code, name: str) -> Known:
    """Return the columns that a return annotation names; None if it leaves a type open."""
    schema = convert.returned_schema(code.annotations(name)[1])
    is_open = schema is not None and any(pa.types.is_null(field.type) for field in schema)
    return None if is_open else schema


def _check_same_columns(one: pa.Schema, other: pa.Schema) -> None:
    alone = sorted(set(one.names) ^ set(other.names))
    if alone:
        msg = f"column {alone[0]!r} is in some of the inputs only; select the same of all, or add it to the others"
        raise SchemaError(msg)
