"""Operators that stand for what a stream is used for: several that become one, one that is written, a number."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raflow.operators.contract import Narrow, Place


@dataclass(frozen=True)
class Same(Narrow):
    """Lets all records pass."""

    @property
    def label(self) -> str:
        """What it stands for."""
        return type(self).__name__.lower()

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the same."""
        return given

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the same."""
        del place
        return batch


class Union(Same):
    """The records of several inputs."""


class Write(Same):
    """Records for a sink, while others may use what is before it."""


class Result(Same):
    """What a stream gives that is run by itself."""


class Side(Same):
    """What a function pushes into a side output: that comes to its sink, and not what the function returns."""

    @property
    def label(self) -> str:
        """What it stands for."""
        return "side output"

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del wanted, side, given
        return set()


@dataclass(frozen=True)
class Count(Narrow):
    """Makes one row of each batch: how many it had, in a column `rows`."""

    @property
    def label(self) -> str:
        """What it does."""
        return "count"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the one column."""
        del given
        return pa.schema([("rows", pa.int64())])

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del wanted, side, given
        return set()

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the one row."""
        del place
        return pa.record_batch({"rows": pa.array([batch.num_rows], pa.int64())})
