"""What need not be read: the columns that nobody uses, and the records that the next filter drops anyway.

Pure functions of a plan and of the columns that are known. What a filter is used for here is only to leave
out whole pieces of the input; it is evaluated behind the source all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import and_

import pyarrow as pa
import pyarrow.compute as pc

from raflow.code import Code
from raflow.errors import SchemaError
from raflow.operators.columns import Drop, Rename, Select, WithColumns
from raflow.operators.contract import Narrow, Wide
from raflow.operators.expressions import columns_of
from raflow.operators.filter import Filter
from raflow.operators.passing import Same
from raflow.operators.reduce import MapGroups
from raflow.plan import Op, Plan
from raflow.sources import Source

Known = Mapping[str, "pa.Schema | None"]
"""By op: the columns that it gives, if they are known before the run."""


def needed(plan: Plan, known: Known) -> dict[str, pa.Schema]:
    """Return the columns that each source must deliver.

    Args:
        plan: Whose sources they are.
        known: As `raflow.schemas.check` returns it.
    """
    asked: dict[str, set[str]] = {op.name: set() for op in plan.ops()}
    takers = {before for op in plan.ops() for before in op.inputs}
    for op in reversed(list(plan.ops())):
        given = [known[before] for before in op.inputs]
        own = known[op.name]
        is_asked = own is not None and op.name in takers and not op.sinks
        for side, columns in enumerate(given):
            if columns is not None:
                every = set(columns.names if own is None else own.names)
                wanted = asked[op.name] if is_asked else every
                asked[op.inputs[side]] |= set(columns.names) & _needs(op, wanted, side, given)
    found = {op.name: known[op.name] for op in plan.ops() if isinstance(op.work, Source)}
    return {
        name: pa.schema([field for field in columns if field.name in asked[name] or name not in takers])
        for name, columns in found.items()
        if columns is not None
    }


def without_drops(plan: Plan) -> Plan:
    """Return the plan in which columns may be gone where they are dropped, as `needed` has it.

    Behind user code they may not: there the operator is the only one to find that one is unknown.
    """
    ops: dict[str, Op] = {}
    opaque: set[str] = set()
    for op in plan.ops():
        decides = isinstance(op.work, MapGroups) or (isinstance(op.work, Code) and not op.work.keeps)
        if decides or opaque & set(op.inputs):
            opaque.add(op.name)
        elif isinstance(op.work, Drop):
            ops[op.name] = replace(op, work=replace(op.work, may_be_gone=True))
    stages = (replace(stage, ops=tuple(ops.get(op.name, op) for op in stage.ops)) for stage in plan.stages)
    return replace(plan, stages=tuple(stages)) if ops else plan


def explained(plan: Plan, known: Known) -> Plan:
    """Return the plan with what is read of each source, for drawings.

    Args:
        plan: Any.
        known: As `raflow.schemas.check` returns it.
    """
    read = needed(plan, known)
    said = {name: _said(plan, name, all_, read[name]) for name, all_ in known.items() if name in read and all_}
    stages = (
        replace(stage, ops=tuple(replace(op, reads=said.get(op.name, "")) for op in stage.ops)) for stage in plan.stages
    )
    return replace(plan, stages=tuple(stages))


def _said(plan: Plan, source: str, columns: pa.Schema, read: pa.Schema) -> str:
    where = condition(plan, source, columns)
    listed = f"columns {', '.join(read.names) or 'none'}" if len(read) < len(columns) else ""
    return ", ".join(filter(None, (listed, "" if where is None else f"where {where}")))


def condition(plan: Plan, source: str, columns: pa.Schema) -> pc.Expression | None:
    """Return what is true for all records of a source that are of use; None if all may be.

    Args:
        plan: Whose source it is.
        source: Its name.
        columns: Those that it has.
    """
    found: list[pc.Expression] = []
    made: set[str] = set()
    op = next(one for one in plan.ops() if one.name == source)
    while not op.sinks:
        takers = [one for one in plan.ops() if op.name in one.inputs]
        if len(takers) != 1 or not isinstance(takers[0].work, (Filter, Select, Drop, Rename, WithColumns, Same)):
            break
        op = takers[0]
        if isinstance(op.work, Filter) and _fits(op.work.expression, columns, made):
            found.append(op.work.expression)
        made |= _made(op.work)
    return reduce(and_, found) if found else None


def _made(work: object) -> set[str]:
    """Return the names under which there are other columns after an operator than before it."""
    if isinstance(work, Rename):
        return {name for pair in work.names for name in pair}
    return {name for name, _ in work.columns} if isinstance(work, WithColumns) else set()


def _fits(expression: pc.Expression, columns: pa.Schema, made: set[str]) -> bool:
    """Return whether an expression is about columns as the source has them."""
    try:
        columns_of(expression, pa.schema([field for field in columns if field.name not in made]))
    except SchemaError:
        return False
    return True


def condition_columns(expression: pc.Expression, columns: pa.Schema) -> pa.Schema:
    """Return the columns that an expression needs."""
    return pa.schema([columns.field(name) for name in columns_of(expression, columns)])


def _needs(op: Op, wanted: set[str], side: int, given: Sequence[pa.Schema | None]) -> set[str]:
    """Return the columns that an op needs of one of its inputs; it may name some that are not there.

    Args:
        op: The op.
        wanted: What is asked of it.
        side: Which input; its columns are known.
        given: The columns of all inputs.
    """
    mine = given[side]
    assert mine is not None
    if isinstance(op.work, Narrow):
        return op.work.needs(wanted, 0, mine)
    if isinstance(op.work, Wide) and None not in given:
        return op.work.needs(wanted, side, *given)
    if not isinstance(op.work, Code) or op.shape is None or op.shape.columns is None:
        return set(mine.names)
    named = set(op.shape.columns.names)
    return named | wanted if op.work.keeps else named
