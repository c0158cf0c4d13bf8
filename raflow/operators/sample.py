"""Keep some of the rows, by chance."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from raflow.errors import InvalidOption
from raflow.operators.contract import Narrow, Place


@dataclass(frozen=True)
class Sample(Narrow):
    """Keep each row with the same probability, whatever becomes of the others.

    Whether a row is kept depends on the seed, its unit of work and its number in it: a unit that is
    repeated gives the same rows, also when it is cut into other batches.

    Raises:
        InvalidOption: The fraction is not between 0 and 1.
    """

    fraction: float
    seed: int = 0
    by_place = True

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            msg = f"sample: fraction is {self.fraction!r}; it must be from 0 to 1"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """The fraction."""
        return f"sample {self.fraction:.4g}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the same fields."""
        return given

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the chosen rows, in their order."""
        unit = blake2b(f"{self.seed} {place.unit}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
        bits = np.random.PCG64(int.from_bytes(unit, "little")).advance(place.row)
        chances = (bits.random_raw(batch.num_rows) >> np.uint64(11)) * 2.0**-53  # one draw per row, in [0, 1)
        return batch.filter(pa.array(chances < self.fraction))
