"""Lines of text in byte ranges: who owns which line, blocks of whole lines, absolute line numbers.

What a line holds is up to the formats; where the bytes come from is in `documents.py`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader

BLOCK_BYTES = 8 << 20
"""Bytes that are parsed at once."""
TAIL_BYTES = 32 << 10
"""At the end of a text, which mostly show whether it ends inside of quotes."""

Cut = Callable[[bytes], int]
"""Returns the length of the whole records at the beginning of some bytes."""


def cut_at_newline(text: bytes) -> int:
    """Return the length of the whole lines."""
    return text.rfind(b"\n") + 1


@dataclass(frozen=True)
class Quotes:
    """The quotes inside of which a newline does not end a record.

    As for Arrow's parser, a quote opens only where a field begins: that in `5" pipe` is like any other character.
    """

    quote: bytes
    escape: bytes | None = None
    delimiter: bytes = b","
    only_closed: bool = False
    """Whether a quote that nothing closes opens nothing."""

    @cached_property
    def _quoted(self) -> re.Pattern[bytes]:
        """Finds quoted text from its opening quote to its closing one, its group, or to the end if there is none."""
        quote, begins = re.escape(self.quote), rb"(?:\A|(?<=[" + re.escape(self.delimiter) + rb"\r\n]))"
        plain, special = rb"[^" + quote + rb"]*", quote * 2
        if self.escape is not None:
            escape = re.escape(self.escape)
            begins += rb"(?<!" + escape + re.escape(self.delimiter) + rb")"
            plain, special = rb"[^" + quote + escape + rb"]*", special + rb"|" + escape + rb"(?:.|\Z)"
        inner = plain + rb"(?:(?:" + special + rb")" + plain + rb")*"
        return re.compile(begins + quote + inner + rb"(?:(" + quote + rb")|\Z)", re.DOTALL)

    def spans(self, text: bytes) -> Spans:
        """Return where quoted text is, in a text that begins outside of quotes."""
        starts, ends = [], []
        for found in self._quoted.finditer(text):
            if self.only_closed and not found.group(1):
                continue
            starts.append(found.start())
            ends.append(found.end() if found.group(1) else len(text) + 1)
        return Spans(starts, ends)

    @cached_property
    def _line(self) -> re.Pattern[bytes]:
        return re.compile((rb"(?<!" + re.escape(self.escape) + rb")" if self.escape else b"") + rb"\n")

    def are_open(self, text: bytes) -> bool:
        """Return whether the text, which begins outside of quotes, ends inside of them."""
        seen = self.seem_open(text) if len(text) > TAIL_BYTES else None
        return self._are_open(text) if seen is None else seen

    def seem_open(self, text: bytes) -> bool | None:
        """Return whether the text ends inside of quotes, wherever it begins; None if it does not show.

        Its last lines show it if they end alike from inside of quotes and from outside: one of the two soon meets a
        quote that neither opens nor closes there.
        """
        end = text.rfind(self.quote) + 1
        line = self._line.search(text, max(end - TAIL_BYTES, 0), end)
        if line is None:
            return None
        tail = text[line.end() : end]
        outside, inside = self._are_open(tail), self._are_open(self.quote + tail)
        return outside if outside == inside else None

    def _are_open(self, text: bytes) -> bool:
        is_open = False
        for found in self._quoted.finditer(text, 0, text.rfind(self.quote) + 1):
            is_open = not found.group(1)
        return is_open

    def cut(self, text: bytes) -> int:
        """Return the length of the whole records."""
        spans, end = self.spans(text), cut_at_newline(text)
        while end and (start := spans.around(end - 1)) is not None:
            end = text.rfind(b"\n", 0, start) + 1
        return end


@dataclass(frozen=True)
class Spans:
    """Parts of a text, in order."""

    starts: list[int]
    ends: list[int]

    def around(self, position: int) -> int | None:
        """Return where the part begins that a position is in; None if it is in none."""
        index = bisect_right(self.starts, position) - 1
        return self.starts[index] if index >= 0 and position < self.ends[index] else None


def records(text: bytes, quotes: Quotes | None = None) -> list[tuple[int, bytes]]:
    """Return the records of a block, without empty lines, each with the number of lines before it.

    Args:
        text: Whole records.
        quotes: Inside of which newlines belong to values, if they may.
    """
    spans = quotes.spans(text) if quotes else Spans([], [])
    found: list[tuple[int, bytes]] = []
    is_open, end = False, 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        end += len(line)
        if is_open:
            first, begun = found[-1]
            found[-1] = (first, begun + line)
        elif line.strip(b"\r\n"):
            found.append((number, line))
        else:
            continue
        is_open = spans.around(end - 1) is not None
    return found


def blocks(
    stream: BufferedReader,
    first: int,
    start: int,
    stop: int | None,
    *,
    size: int = BLOCK_BYTES,
    cut: Cut = cut_at_newline,
) -> Iterator[tuple[int, bytes]]:
    """Yield the records that start in a byte range, many at a time, with the position of each block.

    Ranges that cover a file without overlap give each record exactly once.

    Args:
        stream: The text; it stands at `first`.
        first: Where the first record begins, after the header.
        start: First byte of the range.
        stop: The byte after the last one of the range; None: the end of the text.
        size: Bytes of a block, more if a record is longer.
        cut: Finds the end of the last whole record.
    """
    position = first
    if start > first:
        # A record owns its range by its first byte: it begins at `start` only if a newline is before.
        stream.seek(start - 1)
        position = start - 1 + len(stream.readline())
    rest = b""
    while stop is None or position + len(rest) < stop:
        wanted = size if stop is None else min(size, stop - position - len(rest))
        data = stream.read(wanted)
        rest += data
        if len(data) < wanted:
            break  # the text ends here, its last line perhaps without a newline
        end = cut(rest)
        if end:
            yield position, rest[:end]
            position, rest = position + end, rest[end:]
    if rest:
        yield position, rest + stream.readline()


@dataclass
class LineNumbers:
    """Finds the absolute number of a line, by counting from the beginning of the text on first use."""

    open: Callable[[], BufferedReader]
    _stream: BufferedReader | None = field(default=None, init=False)
    _position: int = field(default=0, init=False)
    _line: int = field(default=1, init=False)

    def at(self, position: int) -> int:
        """Return the number, from 1, of the line that begins at a position; positions only grow."""
        if self._stream is None:
            self._stream = self.open()
        while self._position < position:
            text = self._stream.read(min(BLOCK_BYTES, position - self._position))
            if not text:
                break
            self._position += len(text)
            self._line += text.count(b"\n")
        return self._line

    def close(self) -> None:
        """Close the text if it was opened."""
        if self._stream is not None:
            self._stream.close()
