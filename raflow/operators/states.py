"""What is kept of a column per group while rows come in parts: one Arrow value that can be merged.

Each state is made of the rows of a table, and merged with its like, by Arrow's kernels in the one pass that
groups. What there is no kernel for (lists, distinct values, moments) works on the row numbers of the groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raflow.operators.grouping import Ask, Numbers, firsts, positions, rows_of
from raflow.schema import decoded

_WIDE_INTEGER = pa.decimal128(38, 0)


class State(ABC):
    """What is kept of a column per group. A frozen dataclass."""

    @abstractmethod
    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Return what is to be asked of the values of each group."""

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the states of the groups."""
        del values
        return answers[0]

    def merge_asks(self, states: pa.ChunkedArray) -> list[Ask]:
        """Return what is to be asked of the states of each group."""
        return self.asks(states)

    def merged(self, states: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the merged states of the groups."""
        return self.made(states, answers)


@dataclass(frozen=True)
class Rows(State):
    """The number of rows."""

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(positions(len(values)), "count")]

    def merge_asks(self, states: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the merged state is made of."""
        return [Ask(states, "sum")]


@dataclass(frozen=True)
class Count(Rows):
    """The number of values that are not null."""

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(values, "count")]


@dataclass(frozen=True)
class Sum(State):
    """The sum: int64, or decimal128 where integers might not fit; float64; decimal256 of decimals."""

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        if pa.types.is_float16(values.type):
            values = values.cast(pa.float32())
        if pa.types.is_decimal(values.type):
            precision = min(76, values.type.precision + 19)
            values = values.cast(pa.decimal256(precision, values.type.scale))
        return self.merge_asks(values)

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        found = answers[0]
        if pa.types.is_null(values.type):
            return pa.nulls(len(found))
        if pa.types.is_decimal(values.type):
            return found.cast(pa.decimal256(min(76, values.type.precision + 19), values.type.scale))
        return found.cast(pa.int64()) if pa.types.is_integer(found.type) else found

    def merge_asks(self, states: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the merged state is made of."""
        return [Ask(states.cast(_WIDE_INTEGER) if _may_overflow(states) else states, "sum")]

    def merged(self, states: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        return answers[0].cast(states.type) if pa.types.is_decimal(states.type) else self.made(states, answers)


def _may_overflow(values: pa.ChunkedArray) -> bool:
    """Return whether the sum of integers might not fit into int64."""
    if not pa.types.is_integer(values.type) or values.type.bit_width <= 32:
        return False
    found = pc.min_max(values).as_py()
    largest: int = max(abs(found["min"] or 0), abs(found["max"] or 0))
    return largest * len(values) >= 1 << 63


@dataclass(frozen=True)
class Extreme(State):
    """The least ("min") or the greatest ("max") value; NaN only where there is nothing else."""

    kernel: str

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(values.cast(_kernel_type(plain_type(values.type))), self.kernel)]

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        return answers[0].cast(plain_type(values.type))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type of the same values that Arrow's kernels know: of categories that of their values."""
    kind = decoded(kind)
    return pa.float32() if pa.types.is_float16(kind) else kind


def _kernel_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


@dataclass(frozen=True)
class Picked(State):
    """The value of the first row ("min") or the last one ("max"), null or not."""

    kernel: str

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(positions(len(values)), self.kernel)]

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        return _taken(values, answers[0])


@dataclass(frozen=True)
class Truth(State):
    """Whether any value is true ("any"), or all are ("all"); nulls do not count."""

    kernel: str

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(values.cast(pa.bool_()), self.kernel)]


@dataclass(frozen=True)
class Moments(State):
    """Number, mean and sum of squared differences from the mean; merged as Chan et al. (1979) do."""

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        floats = values.cast(pa.float64(), safe=False)
        return [Ask(floats, "count"), Ask(floats, "mean"), Ask(floats, "variance", pc.VarianceOptions(ddof=0))]

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        count, mean, variance = (pc.fill_null(one, 0) for one in answers)
        return _moments(count, mean, pc.multiply(variance, count.cast(pa.float64())))

    def merge_asks(self, states: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the merged state is made of."""
        return [Ask(positions(len(states)), "list")]

    def merged(self, states: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        rows = rows_of(answers[0])
        groups, number = rows.groups, len(rows.lengths)
        count, mean, squares = (part.to_numpy()[rows.order] for part in moments(states))
        total = np.bincount(groups, count, number)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no variance: NaN
            average = np.bincount(groups, count * mean, number) / np.maximum(total, 1)
            squares = squares + count * (mean - average[groups]) ** 2
        counts = pa.array(total.astype(np.int64))
        return _moments(counts, pa.array(average), pa.array(np.bincount(groups, squares, number)))


def _moments(count: pa.Array, mean: pa.Array, squares: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([count, mean, squares], ["count", "mean", "squares"])


def moments(states: pa.ChunkedArray | pa.Array) -> list[pa.Array]:
    """Return the counts, means and sums of squares of states."""
    return [pc.fill_null(pc.struct_field(states, part), 0) for part in ("count", "mean", "squares")]


@dataclass(frozen=True)
class Listed(State):
    """All values, nulls included, in order of the rows; with `distinct` each once, without nulls."""

    distinct: bool = False

    def asks(self, values: pa.ChunkedArray) -> list[Ask]:
        """Ask for what the state is made of."""
        return [Ask(positions(len(values)), "list")]

    def made(self, values: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        rows = rows_of(answers[0])
        return self._lists(_taken(values, pa.array(rows.order)), rows.groups, len(rows.lengths))

    def merged(self, states: pa.ChunkedArray, answers: Sequence[pa.Array]) -> pa.Array:
        """Return the answers as states."""
        rows = rows_of(answers[0])
        lists = _taken(states, pa.array(rows.order))
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        return self._lists(pc.list_flatten(lists), np.repeat(rows.groups, lengths), len(rows.lengths))

    def _lists(self, values: pa.Array, groups: Numbers, number: int) -> pa.Array:
        if self.distinct:
            known = np.asarray(values.is_valid())
            values, groups = values.filter(pa.array(known)), groups[known]
            kept = firsts([pa.chunked_array([pa.array(groups)]), pa.chunked_array([values])])
            values, groups = values.take(kept), groups[kept.to_numpy(zero_copy_only=False)]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=number))])
        return pa.ListArray.from_arrays(pa.array(offsets).cast(pa.int32()), values)


def _taken(values: pa.ChunkedArray, rows: pa.Array) -> pa.Array:
    chunks = values.take(rows).chunks or [pa.array([], values.type)]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
