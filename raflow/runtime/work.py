"""What passes between driver and replica: orders out, outcomes back. Small and picklable."""

from __future__ import annotations

import base64
import traceback
from dataclasses import dataclass, field

import pyarrow as pa

from raflow.errors import RaflowError, UserTraceback
from raflow.metrics import Counts
from raflow.options import ProcessorOptions
from raflow.plan import Stage
from raflow.sinks import Part, SinkContext
from raflow.sources import Split


@dataclass(frozen=True)
class Job:
    """What every replica of a stage needs; shipped once."""

    stage: Stage
    columns: pa.Schema
    """Names and types that the source delivers."""
    context: SinkContext
    log_level: str = "INFO"
    limit: int | None = None
    """Dry run: stop after so many records."""

    @property
    def options(self) -> ProcessorOptions:
        """The stage's options."""
        return self.stage.options


@dataclass(frozen=True)
class Order:
    """One unit of work: a split, and what was agreed so far."""

    unit: str
    attempt: int
    split: Split
    columns: bytes
    """Agreed input schema, serialised."""
    agreed: bytes | None = None
    """Agreed output schema, serialised; None before the first unit has told one."""


@dataclass(frozen=True)
class Failure:
    """Why a unit, or a replica's set-up, failed."""

    error: BaseException
    """As raised, or a stand-in with its type and text if it cannot travel."""
    traceback: str
    """The user's frames as text."""
    where: str
    """`setup`, `read`, `process`, `write` or `teardown`."""


@dataclass(frozen=True)
class Outcome:
    """What became of an order."""

    unit: str
    attempt: int
    parts: tuple[tuple[Part, ...], ...] = ()
    """Per sink of the stage, the error sink last."""
    counts: Counts = field(default_factory=Counts)
    schema: bytes | None = None
    """Output schema with which it was written; None if nothing was."""
    failure: Failure | None = None
    widened: bytes | None = None
    """Not done: it needs this wider schema."""
    widened_input: bool = False
    """Whether the wider schema is the source's."""


def pack_schema(schema: pa.Schema | None) -> bytes | None:
    """Return a schema as bytes."""
    return None if schema is None else schema.serialize().to_pybytes()


def unpack_schema(data: bytes | None) -> pa.Schema | None:
    """Return the schema in the bytes."""
    return None if data is None else pa.ipc.read_schema(pa.py_buffer(data))


def pack_text(schema: pa.Schema | None) -> str | None:
    """Return a schema as text for the ledger."""
    data = pack_schema(schema)
    return None if data is None else base64.b64encode(data).decode()


def unpack_text(text: str | None) -> pa.Schema | None:
    """Return the schema in a ledger's text."""
    return None if text is None else unpack_schema(base64.b64decode(text))


def explain(error: BaseException, where: str) -> Failure:
    """Return an error as a value that can travel, with the user's frames as text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_ours(frame.filename)]
    ours = isinstance(error, RaflowError)
    shown = "".join(["Traceback (most recent call last):\n", *traceback.format_list(own)]) if own and not ours else ""
    cause = error.__cause__
    before = f"{explain(cause, where).traceback}\nThe above exception led to:\n\n" if cause and not ours else ""
    text = "".join(traceback.format_exception_only(error)) if not ours else ""
    return Failure(error.with_traceback(None), before + shown + text, where)


def restore(failure: Failure) -> BaseException:
    """Return the error, with its traceback shown above it."""
    error = failure.error
    if failure.traceback and error.__cause__ is None:
        error.__cause__ = UserTraceback(failure.traceback)
    return error


_HERE = __file__.rsplit("/", 2)[0]


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HERE)
