"""Byte ranges give each line exactly once, whatever the bytes and the ranges are."""

from __future__ import annotations

import io
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from raflow.connectors.files.lines import LineNumbers, Quotes, blocks, records

TEXTS = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bc,d", b'"', b"\xc3\xa9", b""]), max_size=60).map(b"".join)


def stream(text: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(text), 3)


@given(TEXTS, st.lists(st.integers(0, 80), max_size=6), st.integers(1, 9), st.integers(0, 4))
def test_ranges_that_cover_a_text_give_each_line_once_and_in_order(
    text: bytes, cuts: list[int], size: int, header: int
) -> None:
    first = min(header, len(text))
    bounds = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})

    found = []
    for start, stop in pairwise(bounds):
        opened = stream(text)
        opened.seek(first)
        found += list(blocks(opened, first, start, stop, size=size))

    assert b"".join(block for _, block in found) == text[first:]
    assert all(text[position:].startswith(block) for position, block in found)
    assert all(block.endswith(b"\n") for _, block in found[:-1])


QUOTED = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b",", b'"', b'""', b'\\"']), max_size=40).map(b"".join)


def ends_of_records(text: bytes, escape: bytes | None) -> list[int]:
    """Return where records end."""
    return parsed(text, escape)[0]


def parsed(text: bytes, escape: bytes | None) -> tuple[list[int], bool]:
    """Go through a text as Arrow's parser does; returns where records end, and whether quotes are open at the end."""
    found, state, position = [], "begin", 0
    while position < len(text):
        char, position = text[position : position + 1], position + 1
        if escape is not None and char == escape:
            position, state = position + 1, "quoted" if state in ("begin quoted", "quoted") else "field"
        elif state == "quoted":
            if char == b'"' and text[position : position + 1] == b'"':
                position += 1
            elif char == b'"':
                state = "field"
        elif char == b'"' and state == "begin":
            state = "quoted"
        elif char in (b",", b"\n", b"\r"):
            state = "begin"
            if char == b"\n":
                found.append(position)
        else:
            state = "field"
    return found, state == "quoted"


@given(QUOTED, st.integers(1, 9), st.sampled_from([None, b"\\"]))
def test_a_newline_inside_of_quotes_does_not_end_a_record(text: bytes, size: int, escape: bytes | None) -> None:
    found = list(blocks(stream(text), 0, 0, None, size=size, cut=Quotes(b'"', escape).cut))

    assert b"".join(block for _, block in found) == text
    ends = {position + len(block) for position, block in found[:-1]}
    assert ends <= set(ends_of_records(text, escape))
    assert Quotes(b'"', escape).cut(text) == max(ends_of_records(text, escape), default=0)


@given(QUOTED, QUOTED, st.integers(1, 30), st.sampled_from([None, b"\\"]))
def test_the_last_lines_show_whether_a_text_ends_inside_of_quotes_or_do_not_show_it(
    before: bytes, text: bytes, tail: int, escape: bytes | None
) -> None:
    quotes = Quotes(b'"', escape)
    _, is_open = parsed(before + text, escape)

    with patch("raflow.connectors.files.lines.TAIL_BYTES", tail):
        assert quotes.are_open(before + text) == is_open
        assert quotes.seem_open(text) in (None, is_open)


def test_few_lines_are_enough_to_show_whether_a_text_ends_inside_of_quotes() -> None:
    quotes, lines = Quotes(b'"'), b'1,"a, ""b""","",5" pipe,"c\nd"\n' * 9
    for end in (b"", b'"c', b'2,"c\n', b'"c\n""'):
        assert quotes.seem_open(b'd"\n' + lines + end) == (end != b"")


def test_a_quote_within_a_field_opens_nothing() -> None:
    text = b'size 5",n\n5" pipe,1\n"a\n5"" b",2\n'
    assert Quotes(b'"').cut(text) == len(text)
    assert [record for _, record in records(text, Quotes(b'"'))] == [b'size 5",n\n', b'5" pipe,1\n', b'"a\n5"" b",2\n']


@given(TEXTS, st.lists(st.integers(0, 80), max_size=5))
def test_line_numbers_are_absolute(text: bytes, positions: list[int]) -> None:
    numbers = LineNumbers(lambda: stream(text))

    for position in sorted(min(position, len(text)) for position in positions):
        assert numbers.at(position) == 1 + text[:position].count(b"\n")


def test_records_know_their_line_and_empty_lines_are_none() -> None:
    assert records(b'a\n\n"b\n\nc"\r\nd', Quotes(b'"')) == [(0, b"a\n"), (2, b'"b\n\nc"\r\n'), (5, b"d")]


def test_a_last_line_without_a_newline_is_in_the_block_before_it() -> None:
    assert list(blocks(stream(b"a\nb\nc"), 0, 0, None, size=64)) == [(0, b"a\nb\nc")]
    assert list(blocks(stream(b"a\nb\nc"), 0, 2, 5, size=64)) == [(2, b"b\n"), (4, b"c")]
