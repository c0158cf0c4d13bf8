"""What CSV and JSON Lines share: byte ranges, inference from samples, lines that do not fit.

Blocks of whole lines go to Arrow's parsers; only a block that fails is looked at line by line, in
`misfits.py`.
"""

from __future__ import annotations

import codecs
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from io import BufferedReader

import pyarrow as pa

from raflow.connectors.files.documents import Document, documents, is_packed
from raflow.connectors.files.files import Files
from raflow.connectors.files.inference import agree, with_declared
from raflow.connectors.files.lines import (
    BLOCK_BYTES,
    TAIL_BYTES,
    LineNumbers,
    Quotes,
    blocks,
    cut_at_newline,
    records,
)
from raflow.connectors.files.listing import THREADS, DataFile
from raflow.connectors.files.misfits import TEXT_LENGTH, UNFIT, Parser, salvage, sift
from raflow.connectors.files.splitting import Piece, byte_ranges
from raflow.errors import InvalidOption, SourceError
from raflow.foreign import foreign_errors
from raflow.places import Location
from raflow.sources import Reject, Rejected

_SAMPLED_FILES = 16
_SAMPLE_BYTES = 1 << 20
_UTF8 = "utf-8"
_ASCII = bytes(range(128))
_BOM = b"\xef\xbb\xbf"


class TextFiles(Files):
    """Files of lines, each of which is a record."""

    _unit = "bytes"
    _all_is_text: bool
    """Whether a column of mixed types can be read as strings."""
    _encoding: str = _UTF8
    _quotes: Quotes | None = None
    """Inside of which newlines belong to values, if they may."""
    _joining: Quotes | None = None
    """Inside of which the parser takes newlines for a part of values all the same, if all of it is in a block."""

    def typed_by_record(self, column: str) -> bool:
        """Whether the record type may decide a column's type: it may."""
        del column
        return True

    @abstractmethod
    def _parser(self, document: Document, stream: BufferedReader) -> tuple[Parser | None, int]:
        """Return what reads the records, and the length of the header; None if there are no records."""

    def _pieces(self, files: Sequence[DataFile]) -> list[Piece]:
        ranges: dict[DataFile, list[Piece]] = {}
        for piece in byte_ranges([file for file in files if file.is_sized and self._can_cut(file.path)]):
            ranges.setdefault(piece.file, []).append(piece)
        return [piece for file in files for piece in ranges.get(file, [Piece(file, 0, None, file.size)])]

    def _can_cut(self, path: str) -> bool:
        return not is_packed(path) and self._quotes is None and keeps_ascii(self._encoding)

    def _documents(self, location: Location, path: str) -> Iterator[Document]:
        return documents(location, path, None if keeps_ascii(self._encoding) else self._encoding)

    # types

    def _file_schema(self, files: Sequence[DataFile]) -> pa.Schema:
        step = -(-len(files) // _SAMPLED_FILES)
        with ThreadPoolExecutor(THREADS) as threads:
            sampled = [sample for samples in threads.map(self._sample, files[::step]) for sample in samples]
            named = [name for names in threads.map(self._named, files) for name in names]
        return with_declared(_with_named(agree(sampled, all_is_text=self._all_is_text), named), self._declared)

    def _named(self, file: DataFile) -> list[str]:
        """Return the columns that a file has by its header, even without records."""
        del file
        return []

    def _sample(self, file: DataFile) -> list[tuple[str, pa.Schema]]:
        location = self._locations[file.root]
        with foreign_errors(f"reading {file.shown}", SourceError, location):
            found: list[pa.Schema] = []
            for document in self._documents(location, file.path):
                for start, stop in self._sample_ranges(file):
                    found += self._sample_range(document, start, stop)
        return [(f"earlier records of {file.shown} or files before it", schema) for schema in found]

    def _sample_ranges(self, file: DataFile) -> list[tuple[int, int | None]]:
        if file.size <= 4 * _SAMPLE_BYTES or not self._can_cut(file.path):
            return [(0, None)]
        middle, end = file.size // 2, file.size - _SAMPLE_BYTES // 2
        return [(0, None), (middle, middle + _SAMPLE_BYTES // 2), (end, None)]

    def _sample_range(self, document: Document, start: int, stop: int | None) -> list[pa.Schema]:
        for parser, _, text in self._texts(document, start, stop, is_sample=True):
            try:
                return [self._inferred(parser, text)]
            except UNFIT:
                found = [record for _, record in records(text, self._joining)]
                return sift(found, partial(self._inferred, parser))[0]
        return []

    def _inferred(self, parser: Parser, text: bytes) -> pa.Schema:
        return parser.infer(self._as_utf8(text))

    # records

    def _read(
        self, location: Location, path: str, start: int, stop: int | None, columns: pa.Schema, reject: Reject
    ) -> Iterator[pa.RecordBatch]:
        for document in self._documents(location, path):
            with closing(LineNumbers(document.open)) as numbers:
                for parser, position, text in self._texts(document, start, stop):
                    try:
                        tables = [parser.parse(self._as_utf8(text), columns)]
                    except UNFIT:
                        self._require_outside(document, start)
                        line = numbers.at(position)
                        found = [(line + n, record) for n, record in records(text, self._joining)]
                        good = list(self._decoded(found, document.shown, reject))
                        tables = salvage(good, document.shown, parser, columns, reject) if good else []
                    for table in tables:
                        yield from table.to_batches()

    def _texts(
        self, document: Document, start: int, stop: int | None, *, is_sample: bool = False
    ) -> Iterator[tuple[Parser, int, bytes]]:
        """Yield blocks of whole records as they are, with what parses them and their position.

        Raises:
            SourceError: A block ends within a record; but of a sample it may.
        """
        cut = self._quotes.cut if self._quotes else cut_at_newline
        size = _SAMPLE_BYTES if is_sample else BLOCK_BYTES
        stream, bom_bytes = self._opened(document)
        with closing(stream):
            parser, header_bytes = self._parser(document, stream)
            if parser is None:
                return
            found = blocks(stream, bom_bytes + header_bytes, start, stop, size=size, cut=cut)
            for position, text in found:
                # At the end of a document a quote may stay open, and ends with it.
                if not is_sample and self._ends_inside(text) and (next(found, None) or stream.peek(1)):
                    raise _torn(document, position + len(text))
                yield parser, position, text

    def _ends_inside(self, text: bytes) -> bool:
        return self._joining is not None and self._quotes is None and self._joining.are_open(text)

    def _require_outside(self, document: Document, start: int) -> None:
        """Raise if a range seems to begin inside of quotes: what does not fit in it may be right."""
        if self._joining is None or self._quotes is not None or start == 0:
            return
        with closing(document.open()) as stream:
            stream.seek(max(start - TAIL_BYTES, 0))
            before = stream.read(min(start, TAIL_BYTES) - 1) + stream.readline()
        if self._joining.seem_open(before):
            raise _torn(document, start)

    def _opened(self, document: Document) -> tuple[BufferedReader, int]:
        """Return the text after its byte order mark, and the bytes of the mark."""
        stream = document.open()
        has_mark = stream.peek(len(_BOM)).startswith(_BOM)
        return stream, len(stream.read(len(_BOM))) if has_mark else 0

    def _decoded(self, found: Sequence[tuple[int, bytes]], shown: str, reject: Reject) -> Iterator[tuple[int, bytes]]:
        """Yield the records as UTF-8, each with its line; one that its encoding does not have goes to `reject`."""
        for line, record in found:
            try:
                yield line, self._as_utf8(record)
            except UnicodeDecodeError as exc:
                text = record.decode(self._encoding, errors="replace").rstrip("\r\n")[:TEXT_LENGTH]
                where, bad = f"{shown} line {line}", record[exc.start : exc.end].hex(" ")
                reject(Rejected(where, text, SourceError(f"{where}: {self._encoding} has no byte {bad}: {text}")))

    def _as_utf8(self, text: bytes) -> bytes:
        is_utf8 = self._encoding == _UTF8 or not keeps_ascii(self._encoding)
        return text if is_utf8 else text.decode(self._encoding).encode()


def _torn(document: Document, position: int) -> SourceError:
    msg = (
        f"{document.shown}: a value in quotes goes on past a newline around byte {position:,}, where the file is cut "
        "to be read in pieces; set newlines_in_values=True, or quote_char=None if quotes are text (or close the quote)"
    )
    return SourceError(msg)


def _with_named(found: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the schema with columns that no sample has, whose types are seen when values come."""
    missing = [name for name in dict.fromkeys(names) if name not in found.names]
    return pa.schema([*found, *(pa.field(name, pa.null()) for name in missing)])


def keeps_ascii(encoding: str) -> bool:
    """Return whether text can be cut at the byte of a newline: ASCII stands for itself."""
    try:
        return _ASCII.decode(encoding) == _ASCII.decode("ascii")
    except UnicodeError:
        return False


def encoding_name(encoding: str) -> str:
    """Return an encoding by its proper name.

    Raises:
        InvalidOption: There is none.
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError as exc:
        msg = f"encoding is {encoding!r}, which Python does not know; write e.g. 'utf8' or 'latin-1'"
        raise InvalidOption(msg) from exc
