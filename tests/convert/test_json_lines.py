"""Lines as tables: one object a line, whatever Arrow's parser would make of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raflow.convert.json_lines import read_lines, read_many_lines

TYPES = [None, pa.schema({"a": pa.int64()})]
DEEP = 100_000


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(
    "text", [b'{"a": 1}\n{"a": 2}', b'\n {"a": 1} \r\n\n\t\r\n  {"a": 2}\r\n', b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n']
)
def test_each_line_is_one_row(text: bytes, types: pa.Schema | None) -> None:
    assert read_lines(text, types).to_pylist() == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("types", TYPES)
def test_blank_lines_are_no_rows(types: pa.Schema | None) -> None:
    assert read_lines(b" \n\r\n\n", types).num_rows == 0


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(
    "bad", [b"null", b"nullx", b"{}null", b"{}{}", b"{}\r{}", b"7", b"[]", b'{"a":\n{}}', b'{"a":']
)
def test_other_lines_are_refused_wherever_they_stand(bad: bytes, types: pa.Schema | None) -> None:
    good = b'{"a": 1}'
    for text in (bad, b"\n" + bad, b"\n".join([bad, good]), b"\n".join([good, bad]), b"\n".join([good, bad, good])):
        with pytest.raises(pa.ArrowInvalid):
            read_lines(text, types)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":' + b"[" * DEEP + b'"}',
        b'{"]]]]": ' + b'{"}": ' * DEEP + b"}",
        b'{"a":\n' * DEEP + b"}",
    ],
)
def test_types_are_not_inferred_of_what_is_nested_very_deep(text: bytes) -> None:
    for lines in (text, b'{"b": 1}\n' + text):
        with pytest.raises(pa.ArrowInvalid):
            read_lines(lines)


@pytest.mark.parametrize("is_known", [True, False])
def test_lists_are_whole(is_known: bool) -> None:
    text = b'{"a": [null, 1], "b": [null, null]}\n{"a": null, "b": [[], null]}'
    types = pa.schema({"a": pa.list_(pa.int64()), "b": pa.list_(pa.list_(pa.null()))})

    table = read_lines(text, types if is_known else None)
    table.validate(full=True)
    assert table.schema == types
    assert table.to_pylist() == [{"a": [None, 1], "b": [None, None]}, {"a": None, "b": [[], None]}]


def test_timestamps_keep_their_zones() -> None:
    text = b"""
        {"at": "2024-01-01T10:00:00+02:00", "plain": "2024-01-01", "in": {"at": "2024-01-01T10:00:00.5Z"}, "x": 1}
        {"at": "2024-01-01T10:00:00Z", "both": "2024-01-01T10:00:00", "list": ["2024-01-01T10:00:00Z"]}
        {"both": "2024-01-01T10:00:00Z"}"""
    seconds, fractions = pa.timestamp("s", "UTC"), pa.struct({"at": pa.timestamp("us", "UTC")})
    table = read_lines(text)
    assert table.schema == pa.schema(
        {
            "at": seconds,
            "plain": pa.timestamp("s"),
            "in": fractions,
            "x": pa.int64(),
            "both": pa.string(),
            "list": pa.list_(seconds),
        }
    )
    assert table.column("at").cast(pa.int64()).to_pylist() == [1704096000, 1704103200, None]
    assert table.column("both").to_pylist() == [None, "2024-01-01T10:00:00", "2024-01-01T10:00:00Z"]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(-9, 9),
    st.sampled_from(["", "2026-01-01", "2026-01-01T00:00:00Z", "x"]),
)


@given(lines=st.lists(st.dictionaries(st.sampled_from("ab"), VALUES), max_size=12), size=st.integers(1, 60))
def test_many_lines_read_in_pieces_are_the_table_that_they_are_as_a_whole(lines: list[object], size: int) -> None:
    text = "\n".join(json.dumps(line) for line in lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raflow.convert.json_lines._PIECE_BYTES", size)
        assert _found(read_many_lines, text) == _found(read_lines, text)


def _found(read: Callable[[bytes], pa.Table], text: bytes) -> tuple[pa.Table, int] | str:
    try:
        table = read(text)
    except pa.ArrowInvalid:
        return "invalid"
    return table, table.num_rows
