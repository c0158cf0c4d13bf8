from __future__ import annotations

import operator
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption, InvalidProcessor, RecordError, SchemaError
from raflow.operators.reduce import MapGroups, ReduceByKey
from tests.operators.harness import run

TRIPS = pa.table({"zone": ["b", "a", "b", None, "a", None], "fare": [1, 2, 3, 4, 5, None]})


@dataclass
class Trip:
    zone: str | None
    fare: int | None


@dataclass
class Total:
    zone: str | None
    total: float


def joined(left: str, right: str) -> str:
    return left + right


def total(trips: list[Trip]) -> Total:
    return Total(trips[0].zone, sum(trip.fare or 0 for trip in trips))


KEYS = st.tuples(st.none() | st.integers(-1, 1), st.none() | st.sampled_from(["", "a", "b"]))
ROWS = st.lists(st.tuples(KEYS, st.text("xyz", max_size=2)), max_size=30)
SCHEMA = pa.schema([("k", pa.int64()), ("q", pa.string()), ("v", pa.string())])


def table_of(rows: list[tuple[tuple[Any, Any], str]]) -> pa.Table:
    return pa.Table.from_pylist([{"k": k, "q": q, "v": v} for (k, q), v in rows], schema=SCHEMA)


def grouped(rows: list[tuple[tuple[Any, Any], str]]) -> dict[tuple[Any, Any], list[str]]:
    found: dict[tuple[Any, Any], list[str]] = {}
    for key, value in rows:
        found.setdefault(key, []).append(value)
    return found


@settings(deadline=None, max_examples=100)
@given(ROWS, st.integers(0, 1000), st.integers(1, 4))
def test_values_are_reduced_as_by_a_dict_and_in_order(rows: list[Any], seed: int, partitions: int) -> None:
    found = run(ReduceByKey(joined, ("k", "q"), "v"), table_of(rows), seed=seed, partitions=partitions)
    expected = {key: "".join(values) for key, values in grouped(rows).items()}
    assert found.schema.names == ["k", "q", "v"]
    assert {(row["k"], row["q"]): row["v"] for row in found.to_pylist()} == expected
    assert found.num_rows == len(expected)


@settings(deadline=None, max_examples=100)
@given(ROWS, st.integers(0, 1000), st.integers(1, 4))
def test_groups_are_mapped_as_by_a_dict_with_rows_in_order(rows: list[Any], seed: int, partitions: int) -> None:
    def gathered(group: Any) -> dict[str, Any]:
        assert len({(row["k"], row["q"]) for row in group}) == 1
        return {"k": group[0]["k"], "q": group[0]["q"], "all": [row["v"] for row in group]}

    found = run(MapGroups(gathered, ("k", "q")), table_of(rows), seed=seed, partitions=partitions)
    assert {(row["k"], row["q"]): row["all"] for row in found.to_pylist()} == grouped(rows)
    assert found.num_rows == len(grouped(rows))


def test_groups_of_many_chunks_come_in_order_of_first_sight_with_their_rows_in_order() -> None:
    keys = np.random.default_rng(5).permutation(np.arange(200_000) % 700)
    numbers = pa.table({"k": keys, "n": np.arange(len(keys))})
    chunked = pa.concat_tables([numbers.slice(start, 7_000) for start in range(0, len(keys), 7_000)])

    def ends(group: pa.Table) -> dict[str, Any]:
        found = group["n"].to_numpy()
        assert (np.diff(found) > 0).all()
        return {"k": group["k"][0].as_py(), "rows": len(found)}

    result = MapGroups(ends, ("k",)).finish(chunked)
    assert result["k"].to_pylist() == list(dict.fromkeys(keys.tolist()))
    assert sum(result["rows"].to_pylist()) == len(keys)


# -- reduce by key --------------------------------------------------------------------------------


def test_one_row_per_key_in_order_of_first_sight() -> None:
    found = ReduceByKey(operator.add, ("zone",), "fare").finish(TRIPS.slice(0, 5))
    assert found.to_pydict() == {"zone": ["b", "a", None], "fare": [4, 7, 4]}


def test_columns_that_are_neither_key_nor_value_are_gone() -> None:
    wide = TRIPS.append_column("x", [range(6)])
    assert ReduceByKey(max, ("zone",), "x").finish(wide).schema.names == ["zone", "x"]


@pytest.mark.parametrize(
    ("values", "function", "result"),
    [
        (pa.array([200, 100], pa.uint8()), operator.add, 300),
        (pa.array([1, 2]), lambda a, b: a / b, 0.5),
        (pa.array([[1], [2]]), operator.add, [1, 2]),
        (pa.array([{"n": 1}, {"n": 2}]), lambda a, b: {"n": a["n"] + b["n"]}, {"n": 3}),
        (pa.array(["a", "b"]).dictionary_encode(), operator.add, "ab"),
        (pa.array([1, None]), lambda a, b: (a, b).index(None), 1),
        (pa.nulls(2), lambda a, b: a or b, None),
    ],
    ids=["wider", "float", "list", "struct", "dictionary", "null", "nothing"],
)
def test_values_of_any_type_are_reduced(values: pa.Array, function: Callable[[Any, Any], Any], result: Any) -> None:
    found = ReduceByKey(function, ("k",), "v").finish(pa.table({"k": [1, 1], "v": values}))
    assert found.to_pylist() == [{"k": 1, "v": result}]


def test_nothing_reduces_to_nothing() -> None:
    reduce = ReduceByKey(operator.add, ("zone",), "fare")
    assert reduce.finish(TRIPS.slice(0, 0)).schema.names == ["zone", "fare"]
    assert reduce.finish(pa.table({})).num_rows == 0


def test_a_failing_function_is_its_own_error_with_the_key() -> None:
    with pytest.raises(TypeError, match="NoneType") as error:
        ReduceByKey(operator.add, ("zone",), "fare").finish(TRIPS)
    assert vars(error.value)["__notes__"] == ["reduce fare by zone with add: failed for zone=None"]


def test_values_that_do_not_fit_are_an_error_that_names_the_key() -> None:
    with pytest.raises(RecordError, match="result for zone='a' does not fit: field 'fare' is string '25'"):
        ReduceByKey(lambda a, b: f"{a}{b}" if a == 2 else a, ("zone",), "fare").finish(TRIPS)


def test_what_cannot_be_reduced_is_refused() -> None:
    with pytest.raises(SchemaError, match="no column 'fair' for reduce fair by zone with add; there are: zone, fare"):
        ReduceByKey(operator.add, ("zone",), "fair").schema(TRIPS.schema)
    with pytest.raises(InvalidOption, match="'zone' is a key as well"):
        ReduceByKey(operator.add, ("zone",), "zone")
    with pytest.raises(InvalidOption, match="no keys"):
        ReduceByKey(operator.add, (), "fare")
    with pytest.raises(InvalidProcessor, match="plain function, not a class or value: 3"):
        ReduceByKey(3, ("zone",), "fare")  # type: ignore[arg-type]


# -- map groups -----------------------------------------------------------------------------------


def of_table(group: pa.Table) -> pa.Table:
    return group.slice(0, 1)


def of_batch(group: pa.RecordBatch) -> pa.RecordBatch:
    return group.slice(0, 1)


def of_pandas(group: pd.DataFrame) -> pd.DataFrame:
    return group.head(1)


def of_polars(group: pl.DataFrame) -> pl.DataFrame:
    return group.head(1)


def of_records(group: list[Trip]) -> Trip:
    return group[0]


def of_dicts(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return group[:1]


def of_anything(group):  # type: ignore[no-untyped-def]
    return group[0]


def generating(group: list[Trip]) -> Iterator[Trip]:
    yield group[0]


def of_tuple(group: list[Trip]) -> tuple[Trip, ...]:
    return tuple(group[:1])


def of_any(group: Any) -> Any:
    return group[0]


def mixed(group: list[dict[str, Any]]) -> Any:
    return pa.table({"zone": ["b"], "fare": [1]}) if group[0]["zone"] == "b" else group[0]


@pytest.mark.parametrize(
    "function",
    [of_table, of_batch, of_pandas, of_polars, of_records, of_dicts, of_anything, of_any, generating, of_tuple, mixed],
    ids=lambda function: function.__name__,
)
def test_a_function_gets_what_it_asks_for_and_returns_what_a_processor_may(function: Callable[[Any], Any]) -> None:
    found = MapGroups(function, ("zone",)).finish(TRIPS.slice(0, 5))
    assert found.to_pydict() == {"zone": ["b", "a", None], "fare": [1, 2, 4]}


def test_none_and_empty_results_leave_nothing() -> None:
    found = MapGroups(lambda group: None if group[0]["zone"] else [], ("zone",)).finish(TRIPS)
    assert found.num_rows == 0


def test_annotated_results_have_their_types_also_where_there_are_none() -> None:
    groups = MapGroups(total, ("zone",))
    found = groups.finish(TRIPS)
    assert found.to_pydict() == {"zone": ["b", "a", None], "total": [4.0, 7.0, 4.0]}
    assert groups.finish(TRIPS.slice(0, 0)).schema == groups.finish(pa.table({})).schema == found.schema


def failing(group: list[Trip]) -> Iterator[Trip]:
    yield group[0]
    if group[0].zone == "a":
        msg = "no a"
        raise ValueError(msg)


def test_a_function_that_fails_is_its_own_error_with_the_key() -> None:
    with pytest.raises(ValueError, match="no a") as error:
        MapGroups(failing, ("zone",)).finish(TRIPS)
    assert vars(error.value)["__notes__"] == ["map groups by zone with failing: failed for zone='a'"]
    assert vars(pickle.loads(pickle.dumps(error.value))) == vars(error.value)


def test_a_stop_iteration_is_an_error_and_no_end() -> None:
    with pytest.raises(StopIteration) as error:
        MapGroups(lambda group: next(iter(())), ("zone",)).finish(TRIPS)
    assert "failed for zone='b'" in vars(error.value)["__notes__"][0]


@pytest.mark.parametrize(
    "function",
    [
        lambda group: object() if group[0]["zone"] is None else group,
        lambda group: pa.table({"x": [1]}) if group[0]["zone"] else [{"x": 1}, object()],
        lambda group: {"x": 1} if group[0]["zone"] else {"x": "one"},
        lambda group: pd.DataFrame({"x": [1] if group[0]["zone"] else [object()]}),
    ],
    ids=["object", "object among tables", "other type", "frame of objects"],
)
def test_a_result_that_does_not_fit_is_an_error_that_names_the_key(function: Callable[[Any], Any]) -> None:
    with pytest.raises(RecordError, match="the result for zone=None does not fit: "):
        MapGroups(function, ("zone",)).finish(TRIPS)


def test_a_row_that_does_not_fit_the_record_type_is_an_error_that_names_the_key() -> None:
    @dataclass
    class Strict:
        fare: int

    def strict(group: list[Strict]) -> None:
        del group

    strict.__annotations__["group"] = list[Strict]
    with pytest.raises(RecordError, match="strict: failed for zone=None: field 'fare' of Strict must be int64 but is"):
        MapGroups(strict, ("zone",)).finish(TRIPS)


def one_at_a_time(trip: Trip) -> Trip:
    return trip


def without_zone(group: list[Trip]) -> list[Trip]:
    return [{"fare": trip.fare} for trip in group]  # type: ignore[misc]


def test_declared_columns_are_there_also_where_no_record_has_them() -> None:
    found = MapGroups(without_zone, ("zone",)).finish(TRIPS)
    assert (found.column_names, set(found["zone"].to_pylist())) == (["zone", "fare"], {None})


async def waiting(group: list[Trip]) -> list[Trip]:
    return group


async def streaming(group: list[Trip]) -> AsyncIterator[Trip]:
    yield group[0]


def test_what_cannot_take_groups_is_refused() -> None:
    with pytest.raises(InvalidProcessor, match=r"gets a whole group; annotate its first parameter with .*list\[T\]"):
        MapGroups(one_at_a_time, ("zone",)).schema(TRIPS.schema)
    for function in (waiting, streaming):
        with pytest.raises(InvalidProcessor, match="plain function, not async code"):
            MapGroups(function, ("zone",))
    with pytest.raises(SchemaError, match="no column 'zones' for map groups by zones with total.*'zone'"):
        MapGroups(total, ("zones",)).schema(TRIPS.schema)
    with pytest.raises(SchemaError, match="field 'fare' must be int64 but the column is string"):
        MapGroups(total, ("zone",)).schema(pa.schema([("zone", pa.string()), ("fare", pa.string())]))


def test_groups_run_python_and_say_what_they_do() -> None:
    groups, reduce = MapGroups(total, ("zone",)), ReduceByKey(joined, ("zone", "day"), "fare")
    assert (groups.label, reduce.label) == ("map groups by zone with total", "reduce fare by zone, day with joined")
    assert groups.runs_python
    assert reduce.runs_python
    assert groups.schema(TRIPS.schema) is None  # type: ignore[func-returns-value]


def test_a_function_of_a_script_travels_without_the_modules_that_its_annotations_name() -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "from __future__ import annotations\nimport pyarrow as arrow\n"
        "def rows(group: arrow.Table) -> dict:\n    return {'rows': group.num_rows}\n",
        script,
    )
    travelled = cloudpickle.dumps(MapGroups(script["rows"], ("key",)))
    del script["arrow"]
    table = pa.table({"key": [1, 2, 1]})
    assert cloudpickle.loads(travelled).finish(table).to_pylist() == [{"rows": 2}, {"rows": 1}]
