"""Requests of collectors into what their functions get: records with what is wrong with the others.

A body comes from anyone. What cannot be parsed is 400, an unknown media type 415, and what can be parsed
but does not fit the record type 422, which names the field; in bulk each record has its own verdict.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException

from raflow.batch import one_batch
from raflow.convert import Shape, encode
from raflow.convert.json_lines import read_many_lines
from raflow.errors import SchemaError
from raflow.http.ingest.arrow_bounds import Claim, claim_of
from raflow.http.ingest.arrow_sizes import WrittenOut
from raflow.letters import as_json, row_as_json
from raflow.schema import without_values

JSON, LINES, ARROW = "application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"
_TAKEN = f"send {JSON}, {LINES} or {ARROW}"
_MOST_UNPACKED = 4
"""Times `max_body_bytes` that an Arrow stream may take when its buffers are not compressed, and when what it repeats
is written out."""
_LINES = {LINES, "application/ndjson", "application/jsonl", "application/json-lines"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record was refused."""

    message: str
    """For the client."""
    status: int = 422
    """Of the reply, if the request has this record alone."""
    detail: Any = None
    """What the reply says instead if the request has this record alone: which fields are wrong, in the form of
    FastAPI's errors, or what user code has raised."""
    error_id: str | None = None
    """Under which the log has the traceback, if user code raised."""
    error: BaseException | None = field(default=None, repr=False)
    """What it raised."""
    headers: Mapping[str, str] | None = None
    """Of the reply, if the request has this record alone."""
    line: bytes = field(default=b"", repr=False)
    """What could not be parsed, where that stands in the place of a record."""


@dataclass
class Brought:
    """What one request brought."""

    values: Any
    """The good records, or the one batch that the function takes."""
    rows: Sequence[int]
    """For each good record its place in the request."""
    total: int
    """Records in the request, good or not."""
    is_bulk: bool
    """Whether the request could have held several records."""
    sent: Sequence[Any] | pa.RecordBatch
    """All records of the request, parsed or not."""
    problems: dict[int, Problem] = field(default_factory=dict)
    """By the place in the request."""

    def text(self, row: int) -> str:
        """Return a record as the client sent it, with the parameters of the path: JSON, or the text of its own."""
        if isinstance(self.sent, pa.RecordBatch):
            return row_as_json(self.sent, row)
        one = self.sent[row]
        one = one.line if isinstance(one, Problem) else one
        return one.decode(errors="backslashreplace") if isinstance(one, bytes) else as_json(one)


class Reader:
    """Reads requests for one function.

    Args:
        shape: What the function gets.
        max_bytes: Of a body; what is bounded beyond that are Arrow streams, which can be far smaller than
            what they stand for.
        max_records: Of a body, in all forms: a record takes far more memory than the byte or two of a short one.
    """

    def __init__(self, shape: Shape, max_bytes: int, max_records: int) -> None:
        self._shape = shape
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._raw = shape.record if shape.record in (str, bytes) else None
        kind = dict[str, Any] if shape.record in (dict, None) else shape.record
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._lists = {one.name for one in shape.columns or () if pa.types.is_list(one.type)}

    def fields(self, path: Mapping[str, Any], query: Iterable[tuple[str, str]]) -> Brought:
        """Return the one record of a request without body.

        Args:
            path: The path's parameters; they win.
            query: All of the query; what comes several times, or what the record type says, is a list.
        """
        record: dict[str, Any] = {}
        for name, value in query:
            record.setdefault(name, []).append(value)
        single = {name: each[0] for name, each in record.items() if len(each) == 1 and name not in self._lists}
        return self._records([{**record, **single, **path}], is_bulk=False)

    def body(self, body: bytes, media_type: str, path: Mapping[str, Any]) -> Brought:
        """Return the records of a body.

        Args:
            body: All of it.
            media_type: Without parameters, in small letters; empty if the client gave none.
            path: The path's parameters, which every record gets.

        Raises:
            HTTPException: Nothing of it can be used.
        """
        if media_type in _LINES:
            return self._lines(body, path)
        if media_type == ARROW:
            return self._arrow(body, path)
        if self._raw is not None:
            return self._texts([body], is_bulk=False)
        if media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
            raise HTTPException(415, f"the content type is {media_type or 'not given'!r}; {_TAKEN}")
        return self._json(body, path)

    def _json(self, body: bytes, path: Mapping[str, Any]) -> Brought:
        if self._shape.per_record and not path and not body.lstrip().startswith(b"["):
            problem, value = _tried(self._adapter.validate_json, body)
            if problem and problem.status == 400:
                raise HTTPException(400, problem.message)
            good, bad = ([], {0: problem}) if problem else ([value], {})
            return Brought(good, range(len(good)), 1, False, [body], bad)
        try:
            found = from_json(body)
        except ValueError as error:
            raise HTTPException(400, f"malformed JSON: {error}") from None
        is_bulk = isinstance(found, list)
        if is_bulk:
            self._check_records(len(found))
        return self._records([_with(one, path) for one in (found if is_bulk else [found])], is_bulk)

    def _lines(self, body: bytes, path: Mapping[str, Any]) -> Brought:
        if self._shape.frame and not path and (table := _flat(body)) is not None:
            self._check_records(table.num_rows)
            return self._table(table)
        if body.count(b"\n") >= self._max_records:  # blank ones do not count
            self._check_records(sum(1 for line in BytesIO(body) if line.strip()))
        lines = [line for line in body.split(b"\n") if line.strip()]
        if self._raw is not None:
            return self._texts(lines, is_bulk=True)
        if self._shape.per_record and not path:
            return self._each(self._adapter.validate_json, lines, is_bulk=True)
        return self._records([_parsed(line, path) for line in lines], is_bulk=True)

    def _arrow(self, body: bytes, path: Mapping[str, Any]) -> Brought:
        try:
            self._check_claim(claim_of(body), len(body), path)
            reader = pa.ipc.open_stream(body)
            if unknown := without_values(reader.schema):
                raise HTTPException(422, f"columns of these types are not read: {unknown}")
            table = reader.read_all()
            table.validate()
            self._check_written_out(table)
            table.validate(full=True)  # a client may have written anything
        except (pa.ArrowException, ValueError, OSError, struct.error) as error:
            raise HTTPException(400, f"malformed Arrow stream: {error}") from None
        if len(set(table.schema.names)) < table.num_columns:
            raise HTTPException(422, f"several columns have one name: {', '.join(table.schema.names)}")
        for name, value in path.items():
            column = pa.array([value] * table.num_rows)
            index = table.schema.get_field_index(name)
            table = table.append_column(name, column) if index < 0 else table.set_column(index, name, column)
        return self._table(table)

    def _check_records(self, count: int) -> None:
        if count > self._max_records:
            said = f"the body holds {count:,} records; at most {self._max_records:,} are taken at once"
            raise _too_large(said)

    def _check_claim(self, claim: Claim, sent: int, path: Mapping[str, Any]) -> None:
        """Refuse what would not fit into memory, before anything is unpacked."""
        self._check_records(claim.rows)
        most = _MOST_UNPACKED * self._max_bytes
        # Not compressed, a value takes a bit of what was sent, or more, and compressed ones that take a byte each
        # are bounded by their bytes. Beyond both are values of no bytes at all, and bits that are much the same.
        values = max(most, 8 * sent)
        given = sum(len(str(value)) for value in path.values())
        if claim.size_bytes > most:
            said = f"the body holds {claim.size_bytes:,} bytes when it is not compressed; at most {most:,} are taken"
        elif claim.values > values:
            said = f"the body holds {claim.values:,} values; at most {values:,} are taken"
        elif claim.rows * given > most:
            said = f"the path's parameters, {given:,} characters, are too long for {claim.rows:,} records"
        else:
            return
        raise _too_large(said)

    def _check_written_out(self, table: pa.Table) -> None:
        """Refuse a few bytes that stand for many, such as a long text to which each row refers."""
        most = _MOST_UNPACKED * self._max_bytes
        size = WrittenOut(most).size
        if (total := sum(size(chunk) for column in table.columns for chunk in column.chunks)) > most:
            said = f"the body holds {total:,} bytes when each value is written out; at most {most:,} are taken"
            raise _too_large(said)

    def _table(self, table: pa.Table) -> Brought:
        batch = one_batch(table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)])
        return self._batch(batch, Brought(None, range(batch.num_rows), batch.num_rows, True, batch))

    def _records(self, found: list[Any], is_bulk: bool) -> Brought:
        if not self._shape.frame:
            return self._each(self._validated, found, is_bulk)
        rows = [row for row, one in enumerate(found) if isinstance(one, dict)]
        problems = {row: _not_an_object(one) for row, one in enumerate(found) if not isinstance(one, dict)}
        encoded = encode([found[row] for row in rows], None)
        bad = {position: Problem(said(error)) for position, error in encoded.rejected}
        problems |= {rows[position]: problem for position, problem in bad.items()}
        kept = [row for position, row in enumerate(rows) if position not in bad]
        brought = Brought(None, kept, len(found), is_bulk, found, problems)
        if encoded.batch is None:
            brought.rows = []
            return brought
        return self._batch(encoded.batch, brought)

    def _validated(self, value: Any) -> Any:
        """Return the record of parsed JSON. A strict type takes a date as text from JSON itself only."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError:
            return self._adapter.validate_json(to_json(value, inf_nan_mode="constants"))

    def _batch(self, batch: pa.RecordBatch, brought: Brought) -> Brought:
        try:
            decoded = self._shape.decode(batch)
        except SchemaError as error:
            raise HTTPException(422, said(error)) from None
        brought.values = decoded.values
        if decoded.rejected:
            rows = brought.rows
            brought.problems |= {rows[row]: Problem(said(error)) for row, error in decoded.rejected}
            brought.rows = [rows[row] for row in decoded.rows]
        return brought

    def _each(self, validate: Callable[[Any], Any], found: Sequence[Any], is_bulk: bool) -> Brought:
        brought = Brought([], [], len(found), is_bulk, found)
        rows: list[int] = []
        for row, one in enumerate(found):
            problem, value = (one, None) if isinstance(one, Problem) else _tried(validate, one)
            if problem:
                # A reply to several records has no room for details, and these take most of a problem's memory.
                brought.problems[row] = replace(problem, detail=None) if is_bulk else problem
            else:
                brought.values.append(value)
                rows.append(row)
        brought.rows = rows
        return brought

    def _texts(self, found: list[bytes], is_bulk: bool) -> Brought:
        return self._each(bytes if self._raw is bytes else _as_text, found, is_bulk)


def _too_large(said: str) -> HTTPException:
    return HTTPException(413, f"{said}; send it in several requests")


def _tried(validate: Callable[[Any], Any], value: Any) -> tuple[Problem | None, Any]:
    """Return what validation makes of a value, or why it refuses it."""
    try:
        return None, validate(value)
    except ValidationError as error:
        return _refused(error), None
    except UnicodeDecodeError as error:
        return Problem(f"the text is not UTF-8 at byte {error.start}", 400), None


def _refused(error: ValidationError) -> Problem:
    issues = error.errors(include_url=False, include_context=False, include_input=False)
    if issues[0]["type"] == "json_invalid":
        return Problem(f"malformed JSON: {issues[0]['msg'].removeprefix('Invalid JSON: ')}", 400)
    detail = [{"type": one["type"], "loc": ["body", *one["loc"]], "msg": one["msg"]} for one in issues]
    said = (f"field {'.'.join(map(str, one['loc']))!r}: {one['msg']}" if one["loc"] else one["msg"] for one in issues)
    return Problem("; ".join(said), 422, detail)


def _as_text(value: bytes) -> str:
    return value.decode()


def _parsed(line: bytes, path: Mapping[str, Any]) -> Any:
    try:
        return _with(from_json(line), path)
    except ValueError as error:
        return Problem(f"malformed JSON: {error}", 400, line=line)


def _with(record: Any, path: Mapping[str, Any]) -> Any:
    return {**record, **path} if path and isinstance(record, dict) else record


def _not_an_object(found: Any) -> Problem:
    return found if isinstance(found, Problem) else Problem(f"a record is a JSON object, not {found!r:.60}")


def _flat(text: bytes) -> pa.Table | None:
    """Return lines of flat objects as Arrow's own parser reads them, by far the fastest; None for all others.

    Lists are no gain: where their types are inferred, all of the text is parsed twice.
    """
    if b"[" in text:
        return None
    try:
        table = read_many_lines(text)
        table.validate(full=True)
    except (pa.ArrowException, ValueError):
        return None
    return table if table.num_rows else None


def said(error: Exception) -> str:
    """Return what a client may know of an error of conversion: not the record, which a function made."""
    return str(error).partition("; the record:")[0]
