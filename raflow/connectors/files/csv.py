"""CSV files: splits are byte ranges, types are inferred, declared or decided by the record type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from raflow.connectors.files.documents import Document
from raflow.connectors.files.files import Path
from raflow.connectors.files.formats import CsvFormat
from raflow.connectors.files.inference import Declared, declared
from raflow.connectors.files.lines import Quotes
from raflow.connectors.files.listing import DataFile
from raflow.connectors.files.misfits import Parser, bisect_misfits
from raflow.connectors.files.text import TextFiles, encoding_name
from raflow.convert.json_values import converted
from raflow.errors import InvalidOption, SchemaError, SourceError
from raflow.foreign import foreign_errors

NULL_VALUES = ("", "NA", "NULL", "null", "NaN", "N/A")
"""Unquoted text that stands for null."""

_NO_COLUMN = "\0"
"""A column that no file has: asking for it alone counts rows."""


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    quote_char: str | None
    escape_char: str | None
    newlines_in_values: bool
    null_values: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote_char", "escape_char"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                msg = f"{name} is {value!r}; it must be one ASCII character"
                raise InvalidOption(msg)
        if self.newlines_in_values and not self.quote_char:
            msg = "newlines_in_values needs a quote_char"
            raise InvalidOption(msg)

    def parsing(self, **more: Any) -> pyarrow.csv.ParseOptions:
        return pyarrow.csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote_char or False,
            escape_char=self.escape_char or False,
            newlines_in_values=self.newlines_in_values,
            **more,
        )

    def quotes(self) -> Quotes | None:
        return self.joining() if self.newlines_in_values else None

    def joining(self) -> Quotes | None:
        """Return the quotes inside of which Arrow takes newlines for a part of values, whether they may be or not."""
        if not self.quote_char:
            return None
        escape = self.escape_char.encode() if self.escape_char else None
        return Quotes(self.quote_char.encode(), escape, self.delimiter.encode(), not self.newlines_in_values)

    def first_row(self, record: bytes) -> list[str]:
        if not record:
            return []
        table = pyarrow.csv.read_csv(pa.BufferReader(record), parse_options=self.parsing())
        return list(table.column_names)


class CsvFiles(TextFiles):
    """CSV files, split by byte ranges and parsed by Arrow.

    Example:
        >>> from raflow.connectors.files import CsvFiles
        >>> flights = CsvFiles("flights/*.csv", null_values=["", "NA"], schema={"tailnum": "string"})
    """

    def __init__(  # noqa: PLR0913 - one keyword per option of the format
        self,
        path: Path,
        *,
        storage_options: Mapping[str, Any] | None = None,
        schema: Declared | None = None,
        header: bool = True,
        column_names: Sequence[str] | None = None,
        delimiter: str = ",",
        quote_char: str | None = '"',
        escape_char: str | None = None,
        null_values: Sequence[str] = NULL_VALUES,
        encoding: str = "utf8",
        newlines_in_values: bool = False,
        skip_rows: int = 0,
        partition_by: str | Sequence[str] | None = None,
        compression: str | None = None,
        max_rows_per_file: int | None = None,
        if_exists: str = "error",
    ) -> None:
        """Describe the files; nothing is opened.

        Args:
            path: File, glob, directory (path or any fsspec URL), or a list of them; a sink's folder.
            storage_options: Keyword arguments for fsspec, instead of the Flow's credentials.
            schema: Types of some or all columns, e.g. `{"zip": "string"}`; the others are inferred.
            header: Whether the first line holds the column names; also of the output.
            column_names: Names to use instead of the header's; without both, columns are f0, f1, ….
            delimiter: Between the columns; also of the output.
            quote_char: Around values that hold delimiters; None: quotes have no meaning.
            escape_char: Before a character that is meant literally; None: there is none.
            null_values: Text that stands for null; in string columns only where it is not quoted.
            encoding: Of the text, by Python's name.
            newlines_in_values: Whether quoted values hold newlines; such a file is read as a whole.
            skip_rows: Lines before the header that are no data.
            partition_by: Columns whose values become `key=value` folders of the output.
            compression: Of the output: gzip, bz2, zstd or "none" (default).
            max_rows_per_file: Rows after which a new output file begins.
            if_exists: What happens to data in the output folder: "error", "overwrite" or "append".

        Raises:
            InvalidOption: A value cannot be used.
        """
        super().__init__(
            path,
            CsvFormat(header=header, delimiter=delimiter, compression=compression),
            storage_options=storage_options,
            partition_by=partition_by,
            max_rows_per_file=max_rows_per_file,
            if_exists=if_exists,
        )
        self._declared = declared(schema)
        self._all_is_text = True
        self._encoding = encoding_name(encoding)
        self._dialect = _Dialect(delimiter, quote_char, escape_char, newlines_in_values, tuple(null_values))
        self._quotes = self._dialect.quotes()
        self._joining = self._dialect.joining()
        self._header = header
        self._column_names = None if column_names is None else list(column_names)
        self._skip_rows = skip_rows

    def _parser(self, document: Document, stream: BufferedReader) -> tuple[Parser | None, int]:
        if not self._header:
            names = self._column_names or self._numbered(document)
            return (_CsvParser(names, self._dialect) if names else None), self._skip(stream)
        skipped = self._skip(stream)
        header, header_bytes = _first_record(stream, self._quotes)
        if not header:
            return None, 0
        names = self._column_names or self._names(header, document.shown)
        return _CsvParser(names, self._dialect), skipped + header_bytes

    def _named(self, file: DataFile) -> list[str]:
        if self._column_names or not self._header:
            return self._column_names or []
        location = self._locations[file.root]
        with foreign_errors(f"reading {file.shown}", SourceError, location):
            return [name for one in self._documents(location, file.path) for name in self._header_of(one)]

    def _header_of(self, document: Document) -> list[str]:
        with closing(self._opened(document)[0]) as stream:
            self._skip(stream)
            header, _ = _first_record(stream, self._quotes)
        return self._names(header, document.shown)

    def _skip(self, stream: BufferedReader) -> int:
        return sum(len(stream.readline()) for _ in range(self._skip_rows))

    def _names(self, header: bytes, shown: str) -> list[str]:
        if b"\r" in header.rstrip(b"\r\n") and self._quotes is None:
            msg = f"{shown}: lines end with a carriage return alone; convert them to newlines"
            raise SourceError(msg)
        names = self._dialect.first_row(self._as_utf8(header))
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"{shown}: the header names column {twice[0]!r} twice; give column_names"
            raise SourceError(msg)
        return names

    def _numbered(self, document: Document) -> list[str]:
        with closing(self._opened(document)[0]) as stream:
            self._skip(stream)
            first, _ = _first_record(stream, self._quotes)
        return [f"f{index}" for index, _ in enumerate(self._dialect.first_row(self._as_utf8(first)))]


@dataclass(frozen=True)
class _CsvParser:
    names: list[str]
    dialect: _Dialect
    all_is_text: ClassVar[bool] = True

    def parse(self, text: bytes, columns: pa.Schema) -> pa.Table:
        wanted = pa.schema([field for field in columns if field.name in self.names])
        for field in wanted:
            if pa.types.is_nested(field.type):
                msg = f"column {field.name!r} should be {field.type}, which CSV cannot hold; take it as string"
                raise SchemaError(msg)
        texts = pa.schema([field for field in wanted if _is_text(field.type)])
        if not texts.names:
            return self._read(text, wanted, quoted_nulls=True)
        try:
            return self._read(text, wanted, quoted_nulls=False)
        except pa.ArrowInvalid:
            # Quotes mean that a string is no null, but some writers quote empty numbers, too.
            others = pa.schema([field for field in wanted if not _is_text(field.type)])
            if not others.names:
                raise
            table = self._read(text, others, quoted_nulls=True)
            for column, field in zip(self._read(text, texts, quoted_nulls=False).columns, texts, strict=True):
                table = table.append_column(field, column)
            return table

    def infer(self, text: bytes) -> pa.Schema:
        found = self._read(text, None, quoted_nulls=True).schema
        return pa.schema([(f.name, pa.string() if pa.types.is_binary(f.type) else f.type) for f in found])

    def suspects(self, texts: Sequence[bytes], columns: pa.Schema) -> dict[int, list[pa.Field]]:
        malformed: list[int] = []

        def skip(row: pyarrow.csv.InvalidRow) -> str:
            malformed.append(row.number - 1)
            return "skip"

        wanted = [field for field in columns if field.name in self.names]
        raw = pa.schema([field.with_type(pa.binary()) for field in wanted])
        table = self._read(b"".join(texts), raw, quoted_nulls=True, invalid_row_handler=skip)
        if table.num_rows + len(malformed) != len(texts):
            return {}  # a quote that nothing closes made one row of several lines: which is of which is not known
        found: dict[int, list[pa.Field]] = {index: [] for index in malformed}
        rows = [index for index in range(len(texts)) if index not in found]
        for field in wanted:
            for row in _unfit(table.column(field.name).combine_chunks(), field.type):
                found.setdefault(rows[row], []).append(field)
        return found

    def value(self, record: bytes, name: str) -> str:
        column = self._read(record, pa.schema([(name, pa.binary())]), quoted_nulls=False).column(name)
        return repr((column[0].as_py() or b"").decode(errors="replace"))

    def _read(self, text: bytes, columns: pa.Schema | None, *, quoted_nulls: bool, **parsing: Any) -> pa.Table:
        converting = pyarrow.csv.ConvertOptions(
            column_types=columns,
            include_columns=None if columns is None else columns.names or [_NO_COLUMN],
            include_missing_columns=True,
            null_values=self.dialect.null_values,
            strings_can_be_null=True,
            quoted_strings_can_be_null=quoted_nulls,
        )
        reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self.names)
        return pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=reading,
            parse_options=self.dialect.parsing(**parsing),
            convert_options=converting,
        )


def _unfit(values: pa.Array, kind: pa.DataType) -> list[int]:
    """Return which values do not convert; they are parsed as Arrow's CSV reader does."""

    def convert(start: int, stop: int) -> None:
        text = values.slice(start, stop - start).cast(pa.string())
        if not _is_text(kind):
            converted(pc.utf8_trim_whitespace(text), kind)

    if pa.types.is_binary(kind) or pa.types.is_null(kind):
        return []
    try:
        return bisect_misfits(len(values), convert)
    except pa.ArrowNotImplementedError:
        return []


def _first_record(stream: BufferedReader, quotes: Quotes | None) -> tuple[bytes, int]:
    """Return the first record that is no empty line, and the bytes up to its end."""
    taken = 0
    while line := stream.readline():
        taken += len(line)
        if line.strip(b"\r\n"):
            break
    while quotes is not None and quotes.are_open(line) and (more := stream.readline()):
        line, taken = line + more, taken + len(more)
    return line, taken


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))
