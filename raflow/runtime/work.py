"""What passes between driver and replica: orders out, outcomes back. Small and picklable."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from raflow.metrics import Counts
from raflow.operators.contract import Hash, Range, Route
from raflow.plan import Exchange, Stage
from raflow.runtime.failure import Failure, portable
from raflow.sinks import Part, SinkContext
from raflow.sources import Split


@dataclass(frozen=True)
class Job:
    """What every replica of a stage needs; shipped once."""

    stage: Stage
    context: SinkContext
    partitions: Mapping[str, int] = field(default_factory=dict)
    """By name of a wide op: the partitions of its exchange."""
    log_level: str = "INFO"
    limit: int | None = None
    """Dry run: stop after so many records."""

    def pieces(self, exchange: Exchange) -> int:
        """Return into how many pieces a unit's results are cut for an exchange.

        A range exchange is cut later, when all keys have been seen.
        """
        return 1 if isinstance(route_of(self.stage, exchange), Range) else self.partitions[exchange.taker]

    @property
    def payloads(self) -> int:
        """Payloads that come with the end of a unit: a block per op that emits, and the exchanges' pieces."""
        return len(self.stage.emits) + sum(map(self.pieces, self.stage.exchanges))


@dataclass(frozen=True)
class Order:
    """One unit of work: where it begins, and what was agreed so far."""

    entry: str
    """Name of the op at which it begins."""
    unit: int
    attempt: int
    split: Split
    names: Mapping[str, str] = field(default_factory=dict)
    """By op that writes: the unit's name in its sinks."""
    columns: bytes | None = None
    """Agreed schema of the source, serialised."""
    agreed: Mapping[str, bytes] = field(default_factory=dict)
    """By op that writes: agreed output schema, serialised; absent before the first unit has told one."""
    silent: bool = False
    """Whether it has been written already, and is done again for an exchange only."""
    sides: tuple[int, ...] = ()
    """After an exchange: how many payloads of each input come with the order."""
    schemas: tuple[bytes | None, ...] = ()
    """After an exchange: the schema of each input."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Tells the attempt from all others."""
        return self.entry, self.unit, self.attempt


@dataclass(frozen=True)
class Pieces:
    """What a unit gave to one exchange; the payloads come beside it."""

    exchange: Exchange
    rows: tuple[int, ...]
    """Per partition."""
    sizes: tuple[int, ...]
    """Bytes per partition."""
    schema: bytes | None
    """None if there was not even an empty batch."""
    sample: bytes | None = None
    """Of a range exchange: some of the keys, as IPC."""


@dataclass(frozen=True)
class Block:
    """Batches of a unit on their way to another stage; the payload comes beside it."""

    key: tuple[str, int, int]
    channel: str
    """Name of the op that gave them."""
    number: int
    """Counts the unit's blocks of the channel in the replica."""
    rows: int
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Outcome:
    """What became of an order, or of a part of it."""

    key: tuple[str, int, int]
    parts: Mapping[str, tuple[tuple[Part, ...], ...]] = field(default_factory=dict)
    """By op that writes: what was staged, per sink, the error sink last."""
    counts: Counts = field(default_factory=Counts)
    failed: Mapping[str, int] = field(default_factory=dict)
    """By op: its failing records."""
    schemas: Mapping[str, bytes] = field(default_factory=dict)
    """By op that writes: output schema with which it was written; absent if nothing was."""
    failure: Failure | None = None
    widened: tuple[str, bytes] | None = None
    """Not done: this op needs this wider schema."""
    pieces: tuple[Pieces, ...] = ()
    """Per exchange of the stage."""
    blocks: tuple[Block, ...] = ()
    """That come with it; their payloads are the first ones."""
    emitted: Mapping[str, int] = field(default_factory=dict)
    """By channel: the blocks of the unit that are or were to be taken by `next_block`."""

    @property
    def is_over(self) -> bool:
        """Whether the unit cannot go on."""
        return self.failure is not None or self.widened is not None

    def with_blocks(self, blocks: Sequence[Block]) -> Outcome:
        """Return it with blocks."""
        return replace(self, blocks=tuple(blocks))

    def with_pieces(self, pieces: Sequence[Pieces]) -> Outcome:
        """Return it with what was given to exchanges."""
        return replace(self, pieces=tuple(pieces))


def route_of(stage: Stage, exchange: Exchange) -> Route:
    """Return how rows are spread for an exchange."""
    wide = stage.takers[exchange.taker]
    return Hash(None) if exchange.by_content else wide.routes[exchange.side]


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
