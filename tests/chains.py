"""Random chains of operations, said twice: as a stream, and as SQL for DuckDB.

Where the two differ by decision, the SQL says what raflow does: NaN is not greater than a number in a filter;
it is a minimum or maximum only where there is nothing else; it comes after all numbers in both directions; a
deviation with it is NaN (DuckDB: an error). What has no one right answer is not drawn: a limit of unordered
rows, a key that was rounded. What raflow says that it cannot do is not drawn either: a function without
a declared result that returned nothing leaves no columns, so "right" and "outer" joins do not follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from raflow import Flow, FlowOptions, Stream
from raflow.connectors.memory import MemorySource

T = TypeVar("T")
Said = tuple[pc.Expression, str]
"""An expression and the same as SQL."""

_TYPES = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "t": pa.timestamp("us")}
_VALUES: dict[str, list[Any]] = {
    "i": [None, 0, 1, 2, -7, 1000],
    "f": [None, 0.0, -0.0, 1.5, -2.25, 1e4, float("nan")],  # halves: their sums are exact in any order
    "s": [None, "", "a", "b", "ä", "a longer text than fits in twelve bytes"],
    "b": [None, True, False],
    "t": [None, datetime(1970, 1, 1), datetime(2024, 2, 29, 12, 30, 0, 1), datetime(1969, 12, 31)],
}
_MOST_GROWTH = 2
"""Joins and unions of one chain: each may make many rows of one."""


@dataclass(frozen=True)
class Chain:
    """A stream and what it must give."""

    stream: Stream
    tables: Mapping[str, pa.Table]
    steps: tuple[str, ...]
    """SQL of each step; `q0`, `q1`, … are the results of the steps before."""
    kinds: Mapping[str, str]
    """By column: a letter for its type."""
    rounded: frozenset[str] = frozenset()
    """Columns whose last digits depend on the order of the rows."""
    order: tuple[tuple[str, str], ...] = ()
    """What the rows are sorted by."""
    mapped: bool = False
    """Whether a function decides the columns."""
    grown: int = 0
    splits: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        tables = "".join(f"\n{name} = {table.to_pydict()}" for name, table in self.tables.items())
        return f"{self.stream!r}\n{self.query}{tables}\nrows per split: {self.splits}"

    @property
    def last(self) -> str:
        """The name of the last step."""
        return f"q{len(self.steps) - 1}"

    @property
    def exact(self) -> list[str]:
        """Columns that may be keys."""
        return [name for name in self.kinds if name not in self.rounded]

    @property
    def query(self) -> str:
        """The whole chain as SQL."""
        steps = ",\n".join(f"q{number} as ({step})" for number, step in enumerate(self.steps))
        return f"with {steps}\nselect * from {self.last} {_order_by(self.order)}"

    def expected(self, database: duckdb.DuckDBPyConnection) -> pa.Table:
        """Return what DuckDB makes of it."""
        for name, table in self.tables.items():
            database.register(name, table)
        return database.sql(self.query).to_arrow_table()

    def then(self, stream: Stream, step: str, **changes: Any) -> Chain:
        """Return the chain with one more step; the rows have no order after it unless it is given."""
        changed = replace(self, stream=stream, steps=(*self.steps, step), **{"order": (), **changes})
        return replace(changed, rounded=changed.rounded & set(changed.kinds))


@st.composite
def chains(draw: st.DrawFn, most: int, options: FlowOptions | None = None) -> Chain:
    """Draw a chain of so many operations at most."""
    kinds = draw(st.lists(st.sampled_from("ifsbt"), min_size=2, max_size=5, unique=True))
    stream, table, size = _read(draw, kinds, 60, options)
    chain = Chain(stream, {"t0": table}, ("select * from t0",), {kind: kind for kind in kinds}, splits={"t0": size})
    for _ in range(draw(st.integers(1, most))):
        chain = draw(st.sampled_from([one for one, fits in _STEPS.items() if fits(chain)]))(draw, chain)
    return chain


def _read(
    draw: st.DrawFn, kinds: Sequence[str], most: int, options: FlowOptions | None = None
) -> tuple[Stream, pa.Table, int]:
    """Draw a table in one to six units of work."""
    rows = draw(st.lists(st.tuples(*(st.sampled_from(_VALUES[kind]) for kind in kinds)), max_size=most))
    columns = [pa.array([row[at] for row in rows], _TYPES[kind]) for at, kind in enumerate(kinds)]
    table = pa.table(columns, names=list(kinds))
    size = -(-len(rows) // draw(st.integers(1, 6))) or 1
    return Flow("chain", options).read(MemorySource(table, rows_per_split=size)), table, size


def _pick(draw: st.DrawFn, options: Sequence[T]) -> T:
    return options[draw(st.integers(0, len(options) - 1))]


def _some(draw: st.DrawFn, names: Sequence[str], least: int = 1, most: int | None = None) -> list[str]:
    return draw(st.lists(st.sampled_from(list(names)), min_size=least, max_size=most, unique=True))


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# -- row by row -------------------------------------------------------------------------------------------


def _filter(draw: st.DrawFn, chain: Chain) -> Chain:
    condition, text = _condition(draw, chain)
    if draw(st.booleans()):
        other, words = _condition(draw, chain)
        condition, text = _pick(
            draw,
            [(condition & other, f"({text}) and ({words})"), (condition | ~other, f"({text}) or not ({words})")],
        )
    step = f"select * from {chain.last} where {text}"
    return chain.then(chain.stream.filter(condition), step, order=chain.order)


def _condition(draw: st.DrawFn, chain: Chain) -> Said:
    name = draw(st.sampled_from(chain.exact))
    c, q = pc.field(name), f'"{name}"'
    of_kind: dict[str, list[Said]] = {
        "i": [(c > 1, f"{q} > 1"), (c == 2, f"{q} = 2")],
        "f": [(c < 1.5, f"{q} < 1.5"), (c >= 0.0, f"{q} >= 0 and not isnan({q})"), (pc.is_nan(c), f"isnan({q})")],
        "s": [(c == "a", f"{q} = 'a'"), (c > "a", f"{q} > 'a'")],
        "b": [(c == True, q)],  # noqa: E712
        "t": [(c > datetime(2000, 1, 1), f"{q} > timestamp '2000-01-01'")],
    }
    return _pick(draw, [*of_kind[chain.kinds[name]], (c.is_null(), f"{q} is null")])


def _with_columns(draw: st.DrawFn, chain: Chain) -> Chain:
    name = draw(st.sampled_from(chain.exact))
    c, q, kind = pc.field(name), f'"{name}"', chain.kinds[name]
    of_kind: dict[str, list[tuple[Any, str, str]]] = {
        "i": [(c + 1, f"{q} + 1", "i"), (c * 2, f"{q} * 2", "i")],
        "f": [(c * 0.5, f"{q} * 0.5::double", "f")],
        "b": [(~c, f"not {q}", "b")] if not chain.mapped else [],
    }
    fixed: list[tuple[Any, str, str]] = [
        (c.is_null(), f"{q} is null", "b"), (3, "3::bigint", "i"), ("x", "'x'", "s"), (1.5, "1.5::double", "f")
    ]  # fmt: skip
    value, text, made = _pick(draw, [*of_kind.get(kind, []), *fixed])
    target = draw(st.sampled_from([*chain.kinds, f"w{len(chain.steps)}"]))
    order = () if target in dict(chain.order) else chain.order
    stream, kinds = chain.stream.with_columns(**{target: value}), {**chain.kinds, target: made}
    columns = ", ".join(f'{text} as "{one}"' if one == target else f'"{one}"' for one in kinds)
    rounded = chain.rounded - {target}
    return chain.then(stream, f"select {columns} from {chain.last}", kinds=kinds, rounded=rounded, order=order)


def _select(draw: st.DrawFn, chain: Chain) -> Chain:
    names = _some(draw, [*chain.kinds])
    kinds = {name: chain.kinds[name] for name in names}
    return chain.then(chain.stream.select(*names), f"select {_list(names)} from {chain.last}", kinds=kinds)


def _drop(draw: st.DrawFn, chain: Chain) -> Chain:
    names = _some(draw, [*chain.kinds], most=len(chain.kinds) - 1)
    kinds = {name: kind for name, kind in chain.kinds.items() if name not in names}
    return chain.then(chain.stream.drop(*names), f"select {_list([*kinds])} from {chain.last}", kinds=kinds)


def _rename(draw: st.DrawFn, chain: Chain) -> Chain:
    old = _some(draw, [*chain.kinds], most=2)
    new = old[::-1] if len(old) == 2 and draw(st.booleans()) else [f"{name}_{len(chain.steps)}" for name in old]
    names = dict(zip(old, new, strict=True))
    kinds = {names.get(name, name): kind for name, kind in chain.kinds.items()}
    rounded = frozenset(names.get(name, name) for name in chain.rounded)
    columns = ", ".join(f'"{name}" as "{names.get(name, name)}"' for name in chain.kinds)
    return chain.then(chain.stream.rename(names), f"select {columns} from {chain.last}", kinds=kinds, rounded=rounded)


def _map(draw: st.DrawFn, chain: Chain) -> Chain:
    name, made = draw(st.sampled_from(chain.exact)), f"m{len(chain.steps)}"
    drops = draw(st.booleans())

    def missing(record: dict[str, Any]) -> dict[str, Any] | None:
        if drops and record[name] is None:
            return None
        return {**record, made: int(record[name] is None)}

    where = f'where "{name}" is not null' if drops else ""
    step = f'select *, ("{name}" is null)::bigint as {made} from {chain.last} {where}'
    stream = chain.stream.map(missing, name=f"missing{len(chain.steps)}")
    return chain.then(stream, step, kinds={**chain.kinds, made: "i"}, mapped=True)


# -- by key -----------------------------------------------------------------------------------------------


def _group(draw: st.DrawFn, chain: Chain) -> Chain:
    return _grouped(draw, chain, _some(draw, chain.exact, least=0, most=2))


def _grouped(draw: st.DrawFn, chain: Chain, keys: list[str]) -> Chain:
    asked: dict[str, tuple[str, str]] = {}
    texts, kinds, rounded = [], {key: chain.kinds[key] for key in keys}, set()
    for number in range(draw(st.integers(1, 3))):
        name, column = f"a{len(chain.steps)}_{number}", draw(st.sampled_from([*chain.kinds]))
        function = draw(st.sampled_from(_functions(chain, column)))
        asked[name] = (column, function)
        kinds[name] = _made(function, chain.kinds[column])
        texts.append(f'{_aggregate(function, column, chain.kinds[column])} as "{name}"')
        if function in ("mean", "std") or (column in chain.rounded and function != "count"):
            rounded.add(name)
    by = f"group by {_list(keys)}" if keys else ""
    step = f"select {', '.join([*(_list([key]) for key in keys), *texts])} from {chain.last} {by}"
    return chain.then(chain.stream.group_by(*keys).agg(**asked), step, kinds=kinds, rounded=frozenset(rounded))


def _functions(chain: Chain, column: str) -> list[str]:
    numbers = ["mean", "sum", "std"] if chain.kinds[column] in "if" else []
    return ["count", "min", "max", *(["count_distinct"] if column in chain.exact else []), *numbers]


def _made(function: str, kind: str) -> str:
    return {"count": "i", "count_distinct": "i", "mean": "f", "std": "f"}.get(function, kind)


def _aggregate(function: str, column: str, kind: str) -> str:
    c, is_float = f'"{column}"', kind == "f"
    if function == "count_distinct":
        return f"count(distinct {c})"
    if function in ("min", "max") and is_float:
        return f"coalesce({function}({c}) filter (not isnan({c})), {function}({c}))"
    if function == "std" and is_float:
        known = f"stddev_samp(case when isnan({c}) then null else {c} end)"
        return f"case when not bool_or(isnan({c})) then {known} when count({c}) > 1 then 'nan'::double end"
    made = {"mean": "avg", "std": "stddev_samp"}.get(function, function)
    return f"{made}({c})" + ("::bigint" if function == "sum" and not is_float else "")


def _join(draw: st.DrawFn, chain: Chain) -> Chain:
    """Join with another table."""
    key = draw(st.sampled_from(chain.exact))
    kinds = [chain.kinds[key], *_some(draw, [kind for kind in "ifsbt" if kind != chain.kinds[key]], 0, 2)]
    stream, table, size = _read(draw, kinds, 6)
    name = f"t{len(chain.tables)}"
    chain = replace(chain, tables={**chain.tables, name: table}, splits={**chain.splits, name: size})
    return _joined(draw, chain, key, kinds[0], stream, name, {kind: kind for kind in kinds}, frozenset())


def _join_groups(draw: st.DrawFn, chain: Chain) -> Chain:
    """Join with groups of the same rows."""
    key = draw(st.sampled_from(chain.exact))
    groups = _grouped(draw, chain, [key])
    chain = replace(chain, steps=groups.steps)
    before = replace(chain, steps=(*groups.steps, f"select * from q{len(groups.steps) - 2}"))
    return _joined(draw, before, key, key, groups.stream, groups.last, groups.kinds, groups.rounded)


def _joined(  # noqa: PLR0917
    draw: st.DrawFn, chain: Chain, left: str, right: str, other: Stream, name: str, kinds: Mapping[str, str],
    rounded: frozenset[str],
) -> Chain:  # fmt: skip
    how = draw(st.sampled_from(["inner", "left", "semi", "anti", *([] if chain.mapped else ["right", "outer"])]))
    suffix = f"_{len(chain.steps)}"
    stream = chain.stream.join(other, {left: right}, how=how, suffix=suffix)
    match = f'from {chain.last} l {"full" if how == "outer" else how} join {name} r on l."{left}" = r."{right}"'
    if how in ("semi", "anti"):
        return chain.then(stream, f"select l.* {match}", grown=chain.grown + 1)
    named = {one: one + suffix if one in chain.kinds else one for one in kinds if one != right}
    columns = [f'coalesce(l."{one}", r."{right}") as "{one}"' if one == left else f'l."{one}"' for one in chain.kinds]
    columns += [f'r."{one}" as "{new}"' for one, new in named.items()]
    return chain.then(
        stream, f"select {', '.join(columns)} {match}", grown=chain.grown + 1,
        kinds={**chain.kinds, **{new: kinds[one] for one, new in named.items()}},
        rounded=chain.rounded | {named[one] for one in rounded},
    )  # fmt: skip


def _distinct(draw: st.DrawFn, chain: Chain) -> Chain:
    """Of all columns, or of some, of which only these are kept: which row is the first has no order."""
    some = _some(draw, chain.exact)
    every = not chain.rounded and draw(st.booleans())
    names = [*chain.kinds] if every else some
    stream = chain.stream.distinct() if every else chain.stream.distinct(*some).select(*some)
    kinds = {name: chain.kinds[name] for name in names}
    return chain.then(stream, f"select distinct {_list(names)} from {chain.last}", kinds=kinds)


def _union(draw: st.DrawFn, chain: Chain) -> Chain:
    """With some of the same rows once more."""
    condition, text = _condition(draw, chain)
    stream = _pick(draw, [chain.stream.union, lambda other: other.union(chain.stream)])
    same, part = f"select * from {chain.last}", f"select * from {chain.last} where {text}"
    if draw(st.booleans()):
        return chain.then(stream(chain.stream), f"{same} union all {same}", grown=chain.grown + 1)  # type: ignore[no-untyped-call]
    return chain.then(stream(chain.stream.filter(condition)), f"{same} union all {part}", grown=chain.grown + 1)  # type: ignore[no-untyped-call]


def _repartition(draw: st.DrawFn, chain: Chain) -> Chain:
    return chain.then(chain.stream.repartition(draw(st.integers(1, 5))), f"select * from {chain.last}")


# -- in order ---------------------------------------------------------------------------------------------


def _sort(draw: st.DrawFn, chain: Chain) -> Chain:
    return _sorted(draw, chain, _some(draw, chain.exact, most=3))


def _sorted(draw: st.DrawFn, chain: Chain, names: Sequence[str]) -> Chain:
    order = tuple((name, draw(st.sampled_from(["ascending", "descending"]))) for name in names)
    return chain.then(chain.stream.sort(list(order)), f"select * from {chain.last}", order=order)


def _limit(draw: st.DrawFn, chain: Chain) -> Chain:
    """After a sort by all columns."""
    if set(dict(chain.order)) != set(chain.kinds):
        chain = _sorted(draw, chain, draw(st.permutations(list(chain.kinds))))
    rows = draw(st.integers(0, 30))
    step = f"select * from {chain.last} {_order_by(chain.order)} limit {rows}"
    return chain.then(chain.stream.limit(rows), step, order=chain.order)


def _order_by(order: Sequence[tuple[str, str]]) -> str:
    """NaN has no literal of its own type in all columns, so it is found by its text."""
    keys = [
        f'"{name}" is null, coalesce("{name}"::varchar = \'nan\', false), '
        f'"{name}" {"desc" if direction == "descending" else "asc"}'
        for name, direction in order
    ]
    return f"order by {', '.join(keys)}" if keys else ""


Step = Callable[[st.DrawFn, Chain], Chain]


def _always(chain: Chain) -> bool:
    return bool(chain.exact)


def _may_grow(chain: Chain) -> bool:
    return bool(chain.exact) and chain.grown < _MOST_GROWTH


_STEPS: dict[Step, Callable[[Chain], bool]] = {
    _filter: _always,
    _with_columns: _always,
    _select: lambda chain: True,
    _drop: lambda chain: len(chain.kinds) > 1,
    _rename: lambda chain: True,
    _group: lambda chain: True and bool(chain.exact),
    _join: _may_grow,
    _join_groups: _may_grow,
    _distinct: _always,
    _sort: _always,
    _limit: lambda chain: not chain.rounded,
    _union: _may_grow,
    _map: _always,
    _repartition: lambda chain: True,
}
