"""Reading only what is needed: the results are those of reading everything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raflow import Flow, RunFailed, Stream
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySource
from raflow.sources import Reject, Split

TABLE = pa.table({"n": range(100), "twice": range(0, 200, 2), "text": [f"t{n:03}" for n in range(100)]})
n, x, y = pc.field("n"), pc.field("x"), pc.field("y")


class Watched(ParquetFiles):
    """Notes what is read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.columns: list[list[str]] = []
        self.sizes: list[int] = []

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        self.columns.append(columns.names)
        for batch in super().read(split, columns, reject):
            self.sizes.append(batch.num_rows)
            yield batch


def watched(folder: Path) -> tuple[Watched, Stream]:
    pq.write_table(TABLE, folder / "part.parquet", row_group_size=10)
    source = Watched(str(folder))
    return source, Flow().read(source)


def test_row_groups_in_which_a_filter_is_never_true_are_not_read(tmp_path: Path) -> None:
    source, stream = watched(tmp_path)
    kept = stream.filter((n >= 25) & (n < 42)).filter(n != 30).select("n")
    assert [one["n"] for one in kept.collect(engine="local")] == [n for n in range(25, 42) if n != 30]
    assert source.rows == 30
    assert set(map(tuple, source.columns)) == {("n",)}


def test_a_zero_in_a_set_is_found_whatever_sign_the_statistics_give_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [0.0]}), tmp_path / "zeros.parquet")
    found = Flow().read(ParquetFiles(str(tmp_path))).filter(pc.field("x").isin([0.0])).count(engine="local")
    assert found == 1


def test_what_is_compared_with_nan_leaves_out_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([0, None], pa.int32())}), tmp_path / "part.parquet")
    found = Flow().read(ParquetFiles(str(tmp_path))).filter(~(n < pc.scalar(math.nan))).collect(engine="local")
    assert found == [{"n": 0}]


def test_resume_knows_of_files_that_were_left_out(tmp_path: Path) -> None:
    source, _ = watched(tmp_path)
    splits = source.splits_where(n < 0, pa.schema([("n", pa.int64())]))
    assert [(split.rows, [one.name for one in split.inputs]) for split in splits] == [
        (0, [one.name for one in source.inputs()])
    ]


def test_a_file_that_is_left_out_is_not_opened(tmp_path: Path) -> None:
    source, _ = watched(tmp_path)
    columns = pa.schema([("n", pa.int64())])
    (split,) = source.splits_where(n < 0, columns)
    (tmp_path / "part.parquet").unlink()
    assert list(source.read(split, columns, lambda rejected: None)) == []


def test_a_filter_is_not_used_where_others_need_the_records(tmp_path: Path) -> None:
    source, stream = watched(tmp_path)
    both = stream.filter(n < 10).union(stream.filter(n >= 95))
    assert both.count(engine="local") == 15
    assert source.rows == 100
    source, stream = watched(tmp_path)
    assert stream.with_columns(n=n * 2).filter(n < 10).count(engine="local") == 5
    assert source.rows == 100


WHERE: list[tuple[Any, int]] = [
    (lambda s: s.select("n").filter(n < 10), 10),
    (lambda s: s.drop("text").filter(n < 10).select("twice"), 10),
    (lambda s: s.with_columns(m=n * 2).filter(n < 10), 10),
    (lambda s: s.with_columns(m=n * 2).filter(pc.field("m") < 10).filter(n < 10), 10),
    (lambda s: s.rename({"text": "word"}).filter(n < 10), 10),
    (lambda s: s.rename({"n": "twice", "twice": "n"}).filter(n < 10), 100),
    (lambda s: s.with_columns(n=pc.field("twice")).filter(n < 10), 100),
    (lambda s: s.sample(0.5).filter(n < 10), 100),
    (lambda s: s.limit(95).filter(n < 10), 100),
    (lambda s: s.filter(lambda record: True).filter(n < 10), 100),
    (lambda s: s.union(Flow().read(MemorySource(TABLE))).filter(n < 10), 10),
]


@pytest.mark.parametrize("number", range(len(WHERE)))
def test_a_filter_is_used_behind_steps_that_leave_its_columns_as_they_are(tmp_path: Path, number: int) -> None:
    step, rows = WHERE[number]
    source, stream = watched(tmp_path)
    found = step(stream).count(engine="local")
    assert source.rows == rows
    assert rows == 100 or found == step(Flow().read(MemorySource(TABLE))).count(engine="local")


def test_the_plan_says_what_is_read(tmp_path: Path) -> None:
    _, stream = watched(tmp_path)
    drawing = str(stream.drop("text").filter(n < 10).select("twice").explain())
    assert "columns n, twice, where (n < 10)" in drawing
    assert "columns" not in str(stream.explain())
    assert "columns none" in str(stream.group_by().count().explain())


def test_a_dropped_column_that_is_unknown_is_found_behind_user_code(tmp_path: Path) -> None:
    _, stream = watched(tmp_path)
    with pytest.raises(RunFailed, match="no column 'other'"):
        stream.map(lambda record: record).drop("other").collect(engine="local")


COLUMNS: list[tuple[Any, list[str]]] = [
    (lambda s: s, ["n", "twice", "text"]),
    (lambda s: s.select("text", "n"), ["n", "text"]),
    (lambda s: s.drop("text").select("n"), ["n"]),
    (lambda s: s.drop("text", "twice").sort("n"), ["n"]),
    (lambda s: s.with_columns(twice=n).drop("twice"), ["n", "text"]),
    (lambda s: s.with_columns(n=pc.field("twice")), ["n", "twice", "text"]),
    (lambda s: s.with_columns(n=pc.field("twice")).filter(n > 1), ["n", "twice", "text"]),
    (lambda s: s.select("n", "twice").rename({"n": "m"}).select("m"), ["n", "twice"]),
    (lambda s: s.rename({"n": "m"}).group_by("m").count(), ["n"]),
    (lambda s: s.with_columns(m=n + 1).select("m"), ["n"]),
    (lambda s: s.with_columns(m=n + 1), ["n", "twice", "text"]),
    (lambda s: s.with_columns(n=pc.field("twice")).select("twice"), ["twice"]),
    (lambda s: s.filter(n > 1).group_by("text").agg(m=("twice", "max")), ["n", "twice", "text"]),
    (lambda s: s.group_by().agg(m=("twice", "max")), ["twice"]),
    (lambda s: s.sort("n").limit(3).select("text"), ["n", "text"]),
    (lambda s: s.reduce_by_key(max, key="n", value="twice").select("n"), ["n", "twice"]),
    (lambda s: s.distinct("n").select("text"), ["n", "text"]),
    (lambda s: s.distinct().group_by("n").count(), ["n", "twice", "text"]),
    (lambda s: s.map(lambda r: r), ["n", "twice", "text"]),
    (lambda s: s.join(s.select("n"), "n").select("text"), ["n", "text"]),
    (lambda s: s.sample(0.5).repartition(2).union(s.limit(3)).select("n"), ["n"]),
]


@pytest.mark.parametrize("number", range(len(COLUMNS)))
def test_only_columns_that_are_used_are_read(tmp_path: Path, number: int) -> None:
    step, names = COLUMNS[number]
    source, stream = watched(tmp_path)
    result = step(stream).to_arrow(engine="local")
    assert {tuple(one) for one in source.columns} == {tuple(names)}
    memory = step(Flow().read(MemorySource(TABLE))).to_arrow(engine="local")
    assert result.schema == memory.schema
    if "sample" not in step.__code__.co_names:  # which records it keeps depends on the units of work
        assert sorted(map(str, result.to_pylist())) == sorted(map(str, memory.to_pylist()))


def test_a_column_that_is_replaced_without_being_used_keeps_its_place(tmp_path: Path) -> None:
    stream = watched(tmp_path)[1].with_columns(n=pc.field("twice"))
    found = stream.to_arrow(engine="local")
    assert found.schema == stream.schema()
    assert found.column_names == ["n", "twice", "text"]


def test_each_side_of_a_join_reads_what_is_used_of_it(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "right").mkdir()
    (left, one), (right, other) = watched(tmp_path / "left"), watched(tmp_path / "right")
    joined = one.join(other, "n").select("text", "twice_right")
    assert joined.sort("text").collect(engine="local")[1] == {"text": "t001", "twice_right": 2}
    assert {tuple(names) for names in left.columns} == {("n", "twice", "text")}
    assert {tuple(names) for names in right.columns} == {("n", "twice")}
    assert one.join(other, "n").group_by("n").count().count(engine="local") == 100
    assert left.columns[-1] == right.columns[-1] == ["n"]


def test_no_column_is_read_to_count(tmp_path: Path) -> None:
    source, stream = watched(tmp_path)
    assert stream.count(engine="local") == 100
    assert stream.filter(n < 25).count(engine="local") == 25
    assert set(map(tuple, source.columns)) == {(), ("n",)}


def test_folders_names_leave_out_files(tmp_path: Path) -> None:
    for zone in (1, 2, 3):
        (tmp_path / f"zone={zone}").mkdir()
        pq.write_table(pa.table({"n": [zone * 10, zone * 10 + 1]}), tmp_path / f"zone={zone}" / "part.parquet")
    source = Watched(str(tmp_path))
    stream = Flow().read(source).filter((pc.field("zone") >= 2) & (n != 31))
    assert stream.collect(engine="local") == [{"n": 20, "zone": 2}, {"n": 21, "zone": 2}, {"n": 30, "zone": 3}]
    assert source.rows == 4


def test_a_file_whose_types_differ_is_read_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [1.5, 2.5]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"m": [7]}), tmp_path / "c.parquet")
    stream = Flow().read(ParquetFiles(str(tmp_path)))
    assert stream.filter(n > 2).select("n").to_arrow(engine="local")["n"].to_pylist() == [3.0, 2.5]
    assert stream.filter(n.is_null()).select("m").to_arrow(engine="local")["m"].to_pylist() == [7]


NUMBERS = st.one_of(st.none(), st.floats(-3, 3).map(lambda one: round(one, 1)), st.just(math.nan))
TABLES = st.lists(st.tuples(NUMBERS, st.one_of(st.none(), st.integers(-3, 3)), NUMBERS), min_size=1, max_size=40)


def _conditions() -> st.SearchStrategy[pc.Expression]:
    fields = st.sampled_from([x, y, pc.field("k"), x + y, pc.coalesce(x, y)])
    values = st.one_of(st.integers(-3, 3), st.floats(-3, 3).map(lambda one: round(one, 1)), st.just(math.nan))
    compared = st.builds(
        lambda field, value, kind: getattr(field, kind)(value),
        fields,
        values,
        st.sampled_from(["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"]),
    )
    single = st.one_of(
        compared,
        st.builds(lambda field, nan: field.is_null(nan_is_null=nan), st.sampled_from([x, y]), st.booleans()),
        st.builds(pc.is_nan, st.sampled_from([x, y])),
        st.builds(
            lambda field, few: field.isin(pa.array(few, pa.float64())), st.just(x), st.lists(NUMBERS, max_size=3)
        ),
    )
    return st.recursive(
        single,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=4,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(rows=TABLES, condition=_conditions(), size=st.integers(1, 5))
def test_any_filter_gives_what_arrow_gives_for_the_whole_file(
    tmp_path: Path, rows: list[tuple[Any, Any, Any]], condition: pc.Expression, size: int
) -> None:
    xs, ks, ys = zip(*rows, strict=True)
    table = pa.table({"x": pa.array(xs, pa.float64()), "k": pa.array(ks, pa.int32()), "y": pa.array(ys, pa.float32())})
    path = tmp_path / "part.parquet"
    pq.write_table(table, path, row_group_size=size)
    found = Flow().read(ParquetFiles(str(path))).filter(condition).to_arrow(engine="local")
    assert repr(found.to_pylist()) == repr(table.filter(condition).to_pylist())


i, s_ = pc.field("i"), pc.field("s")
STEPS: list[Any] = [
    lambda s: s.filter(i > 0),
    lambda s: s.filter(~(x < 1.0)),
    lambda s: s.filter(x != 1.0),
    lambda s: s.filter(s_.is_null() | (s_ > "a")),
    lambda s: s.with_columns(i=i + 1),
    lambda s: s.with_columns(z=x * 2.0).filter(pc.field("z") > 0).drop("z"),
    lambda s: s.with_columns(x=pc.coalesce(x, 0.0)),
    lambda s: s.rename({"i": "j"}).filter(pc.field("j") != 2).rename({"j": "i"}),
    lambda s: s.rename({"i": "x", "x": "i"}).filter(i > 0).rename({"i": "x", "x": "i"}),
    lambda s: s.drop("s").with_columns(s="c"),
    lambda s: s.select("s", "x", "i"),
    lambda s: s.filter(lambda record: record["i"] != 1),
    lambda s: s.distinct("s").drop("x").with_columns(x=i * 1.0),
    lambda s: s.union(s.filter(i > 1)),
]
ENDS: list[Any] = [
    lambda s: s,
    lambda s: s.select("x"),
    lambda s: s.drop("x", "i"),
    lambda s: s.select("x", "i").filter(x > 0),
    lambda s: s.group_by("s").agg(n=("i", "sum"), rows=("*", "count")),
    lambda s: s.distinct("i").select("i"),
    lambda s: s.join(s.group_by("i").count(), "i").select("count", "x"),
    lambda s: s.join(s.select("i", "x").rename({"x": "y"}), "i", how="left").drop("s"),
    lambda s: s.join(s, "i").group_by("x", "s_right").count(),
    lambda s: s.drop("i").join(s.drop("x"), "s", how="outer").select("x", "i"),
]
MIXED = st.lists(
    st.tuples(
        st.none() | st.integers(-2, 3),
        st.none() | st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.5, math.nan, math.inf]),
        st.none() | st.sampled_from(["", "a", "ab", "é"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(
    rows=MIXED,
    steps=st.lists(st.integers(0, len(STEPS) - 1), max_size=3),
    end=st.integers(0, len(ENDS) - 1),
    size=st.integers(1, 4),
)
def test_any_chain_gives_what_it_gives_when_all_is_read(
    tmp_path: Path, rows: list[tuple[Any, Any, Any]], steps: list[int], end: int, size: int
) -> None:
    columns = {"i": pa.int64(), "x": pa.float64(), "s": pa.string()}
    table = pa.table({name: pa.array([row[n] for row in rows], columns[name]) for n, name in enumerate(columns)})
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=size)

    def chain(stream: Stream) -> Stream:
        for step in steps:
            stream = STEPS[step](stream)
        made: Stream = ENDS[end](stream)
        return made

    lean = chain(Flow().read(ParquetFiles(str(tmp_path / "part.parquet"))))
    # Nothing is known of what a function without annotations needs and gives.
    whole = chain(Flow().read(MemorySource(table)).map_batches(lambda batch: batch))
    found, expected = lean.to_arrow(engine="local"), whole.to_arrow(engine="local")
    assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))
    known = lean.schema()
    assert known is not None
    assert known.names == found.column_names
    assert lean.count(engine="local") == whole.count(engine="local") == found.num_rows
