"""The slow path of text: finds the records of a block that cannot be read, and says why.

Good records of the block are delivered all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa

from raflow.connectors.files.inference import agree
from raflow.convert.arrays import widen
from raflow.convert.decided import decided
from raflow.convert.nested import is_untyped
from raflow.errors import RaflowError, RecordError, SourceError
from raflow.schema import SchemaWidened, holds, is_fixed, merge
from raflow.sources import Reject, Rejected

UNFIT = (pa.ArrowInvalid, UnicodeDecodeError)
"""What parsers raise for text that does not fit."""

TEXT_LENGTH = 200
"""Characters of a record that are shown."""
_TOLD_LENGTH = 20
_ANY = pa.schema([])
_FINER = {"s": ("us", "ns"), "ms": ("us", "ns"), "us": ("ns",), "ns": ()}

Found = TypeVar("Found")


class Parser(Protocol):
    """Reads the records of one document."""

    @property
    def all_is_text(self) -> bool:
        """Whether a column of mixed types can be read as strings."""

    def parse(self, text: bytes, columns: pa.Schema) -> pa.Table:
        """Return the wanted columns that the document has; without any, just the right number of rows."""

    def infer(self, text: bytes) -> pa.Schema:
        """Return the types that the text seems to have."""

    def suspects(self, texts: Sequence[bytes], columns: pa.Schema) -> dict[int, list[pa.Field]]:
        """Return quickly which records do not fit, and the columns why; none if malformed.

        It may overlook some, but names none that fits.
        """

    def value(self, record: bytes, name: str) -> str:
        """Return one value of a well-formed record as it stands there."""


@dataclass(frozen=True)
class Misfit:
    """A record that cannot be read."""

    record: bytes
    position: str
    fields: Sequence[pa.Field]
    """Columns whose values do not fit; empty if the record is malformed."""

    @property
    def text(self) -> str:
        """The record as far as it is shown."""
        return self.record.decode(errors="replace").rstrip("\r\n")[:TEXT_LENGTH]


def salvage(
    records: Sequence[tuple[int, bytes]], shown: str, parser: Parser, columns: pa.Schema, reject: Reject
) -> list[pa.Table]:
    """Return what can be read of a block; each record that cannot goes to `reject`.

    Args:
        records: Line and text of each.
        shown: The document.
        parser: Reads them.
        columns: What is wanted.
        reject: Takes what cannot be read.

    Raises:
        SchemaWidened: Values show that a type has to widen.
    """
    texts = [text for _, text in records]
    _widen_untyped(texts, parser, columns)
    suspects = parser.suspects(texts, columns)
    others = [index for index in range(len(texts)) if index not in suspects]
    tables, overlooked = sift([texts[index] for index in others], lambda text: parser.parse(text, columns))
    suspects |= {others[index]: _misfitting(texts[others[index]], parser, columns) for index in overlooked}
    misfits = [
        Misfit(texts[index], f"{shown} line {records[index][0]}", fields) for index, fields in sorted(suspects.items())
    ]
    _widen_known(misfits, parser, columns)
    for misfit in misfits:
        reject(Rejected(misfit.position, misfit.text, _why(misfit, parser)))
    return tables


def sift(texts: Sequence[bytes], parse: Callable[[bytes], Found]) -> tuple[list[Found], list[int]]:
    """Return what was parsed, in order, and the indexes of the texts that could not be."""
    parsed: list[Found] = []

    def attempt(start: int, stop: int) -> None:
        parsed.append(parse(b"".join(texts[start:stop])))

    return parsed, bisect_misfits(len(texts), attempt)


def bisect_misfits(count: int, attempt: Callable[[int, int], None]) -> list[int]:
    """Return the items for which an attempt at a range that holds them fails, down to the item alone."""
    bad: list[int] = []
    waiting = [(0, count)] if count else []
    while waiting:
        start, stop = waiting.pop()
        try:
            attempt(start, stop)
        except UNFIT:
            if stop - start == 1:
                bad.append(start)
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
    return bad


def _widen_untyped(texts: Sequence[bytes], parser: Parser, columns: pa.Schema) -> None:
    untyped = pa.schema([field for field in columns if is_untyped(field.type) and not is_fixed(field)])
    if not untyped.names:
        return
    samples = [
        pa.schema([_completed(untyped.field(field.name), field) for field in schema if field.name in untyped.names])
        for schema in sift(texts, parser.infer)[0]
    ]
    seen = agree([("earlier records", schema) for schema in [untyped, *samples]], all_is_text=parser.all_is_text)
    if not holds(untyped, seen):
        raise SchemaWidened(_replaced(columns, seen))


def _completed(known: pa.Field, found: pa.Field) -> pa.Field:
    """Return what was found of a known column; the parts of it that a record type has decided stay."""
    if widen(known.type, found.type) is not None:
        return found
    return found.with_type(decided(found.type, known.type))


def _widen_known(misfits: Sequence[Misfit], parser: Parser, columns: pa.Schema) -> None:
    wider = [_widened(misfit.record, parser, field) for misfit in misfits for field in misfit.fields]
    if found := [schema for schema in wider if schema is not None]:
        raise SchemaWidened(_replaced(columns, merge(found)))


def _widened(record: bytes, parser: Parser, field: pa.Field) -> pa.Schema | None:
    """Return the narrowest wider type that a column's value fits; None if there is none, or a record type decides."""
    kinds = [] if is_fixed(field) else _wider(field.type)
    schemas = (pa.schema([field.with_type(kind)]) for kind in kinds)
    return next((schema for schema in schemas if _fits(record, parser, schema)), None)


def _wider(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_integer(kind):
        return [pa.float64()]
    if pa.types.is_time32(kind):
        return [pa.time64("us")]
    return [pa.timestamp(unit, kind.tz) for unit in _FINER[kind.unit]] if pa.types.is_timestamp(kind) else []


def _replaced(columns: pa.Schema, wide: pa.Schema) -> pa.Schema:
    return pa.schema([wide.field(field.name) if field.name in wide.names else field for field in columns])


def _misfitting(record: bytes, parser: Parser, columns: pa.Schema) -> list[pa.Field]:
    if not _fits(record, parser, _ANY):
        return []
    return [field for field in columns if not _fits(record, parser, pa.schema([field]))]


def _fits(record: bytes, parser: Parser, columns: pa.Schema) -> bool:
    try:
        parser.parse(record, columns)
    except UNFIT:
        return False
    return True


def _why(misfit: Misfit, parser: Parser) -> RaflowError:
    if misfit.fields:
        values = [(parser.value(misfit.record, field.name), field) for field in misfit.fields]
        found = "; ".join(f"column {f.name!r} is {v[:TEXT_LENGTH]}, not {f.type}" for v, f in values)
        return RecordError(f"{misfit.position}: {found}")
    try:
        parser.parse(misfit.record, _ANY)
    except UNFIT as exc:
        reason = re.sub(r"[.]? in row \d+$|Row #\d+: ", "", str(exc).splitlines()[0])[:TEXT_LENGTH]
        told = f": {misfit.text[:_TOLD_LENGTH]}" in reason  # as Arrow's CSV reader does
        return SourceError(f"{misfit.position}: {reason}" + ("" if told else f": {misfit.text}"))
    return SourceError(f"{misfit.position}: the record cannot be read")
