"""What passes between driver and replica: orders out, outcomes back. Small and picklable."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from raflow.metrics import Counts
from raflow.options import ProcessorOptions
from raflow.plan import Stage
from raflow.runtime.failure import Failure, portable
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


def portable_answer(answer: Any, pickle: Any) -> Any:
    """Return a replica's answer with an error that can travel; see `portable`.

    Args:
        answer: What a method of the replica returned.
        pickle: The module by which it travels.
    """
    if isinstance(answer, Outcome) and answer.failure:
        return replace(answer, failure=portable(answer.failure, pickle))
    return portable(answer, pickle) if isinstance(answer, Failure) else answer
