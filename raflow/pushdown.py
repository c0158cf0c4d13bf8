"""What need not be read: the columns that nobody uses, and the records that the next filter drops anyway.

Pure functions of a plan and of the columns that are known. What a filter is used for here is only to leave
out whole pieces of the input; it is evaluated behind the source all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import and_
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raflow.code import Code
from raflow.errors import SchemaError
from raflow.operators.aggregate import Aggregate
from raflow.operators.columns import Drop, Rename, Select, WithColumns
from raflow.operators.distinct import Distinct
from raflow.operators.expressions import columns_of
from raflow.operators.filter import Filter
from raflow.operators.join import Join
from raflow.operators.limit import Limit
from raflow.operators.passing import Count, Same
from raflow.operators.reduce import MapGroups, ReduceByKey
from raflow.operators.repartition import Repartition
from raflow.operators.sample import Sample
from raflow.operators.sort import Sort
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
        wanted = asked[op.name] if own is not None and not op.sinks and op.name in takers else None
        for side, before in enumerate(op.inputs):
            columns = given[side]
            if columns is not None and isinstance(op.work, Join):
                asked[before] |= _of_join(op.work, wanted, side, given)
            elif columns is not None:
                asked[before] |= set(columns.names) & _needs(op, wanted, columns)
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


def _needs(op: Op, wanted: set[str] | None, given: pa.Schema) -> set[str]:
    """Return the columns that an op needs of one of its inputs; it may name some that are not there.

    Args:
        op: The op.
        wanted: What is asked of it; None: all.
        given: Its columns.
    """
    work, every = op.work, set(given.names)
    passed = every if wanted is None else wanted
    if isinstance(work, Code):
        mine = every if op.shape is None or op.shape.columns is None else set(op.shape.columns.names)
        return mine | passed if work.keeps else mine
    if isinstance(work, Drop):
        return passed - set(work.columns)
    own = next((ask(work, given) for kind, ask in _ONLY.items() if isinstance(work, kind)), None)
    if own is not None:
        return own
    also = next((ask(work, given) for kind, ask in _ALSO.items() if isinstance(work, kind)), every)
    return passed | also


_Ask: TypeAlias = "Callable[[Any, pa.Schema], set[str]]"
_ONLY: dict[type, _Ask] = {
    Count: lambda work, given: set(),
    Select: lambda work, given: set(work.columns),
    Aggregate: lambda work, given: {*work.keys, *(column for _, column, _ in work.aggregations if column)},
    ReduceByKey: lambda work, given: {*work.key, work.value},
}
"""What an operator needs, whatever is asked of it."""
_ALSO: dict[type, _Ask] = {
    Filter: lambda work, given: set(columns_of(work.expression, given)),
    # A column that is replaced keeps its place only if it is there.
    WithColumns: lambda work, given: _of_all((one for _, one in work.columns), given),
    Rename: lambda work, given: {old for old, _ in work.names},
    Sort: lambda work, given: {name for name, _ in work.by},
    Distinct: lambda work, given: set(given.names if work.on is None else work.on),
    **dict.fromkeys((Same, Sample, Limit, Repartition), lambda work, given: set()),
}
"""What an operator needs besides what is asked of it; one that is not here needs all."""


def _of_all(expressions: Iterable[object], given: pa.Schema) -> set[str]:
    return {name for one in expressions if isinstance(one, pc.Expression) for name in columns_of(one, given)}


def _of_join(work: Join, wanted: set[str] | None, side: int, given: Sequence[pa.Schema | None]) -> set[str]:
    """Return the columns that a join needs of one side: also those that give a name of the other its suffix."""
    left, right = (set() if one is None else set(one.names) for one in given)
    if wanted is None or None in given:
        return (left, right)[side]
    keys = {pair[side] for pair in work.on}
    of_right = {name for name in right if (f"{name}{work.suffix}" if name in left else name) in wanted}
    return keys | of_right if side else keys | (left & wanted) | (left & of_right)
