"""Keep the rows for which an expression is true."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import SchemaError
from raflow.operators.contract import Narrow, Place
from raflow.operators.expressions import columns_of, evaluate, type_of


@dataclass(frozen=True, eq=False)
class Filter(Narrow):
    """Keep the rows for which the expression is true; where it is null they are dropped, as in SQL."""

    expression: pc.Expression

    @property
    def label(self) -> str:
        """The expression."""
        return f"filter {textwrap.shorten(str(self.expression), 60, placeholder=' …')}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the same fields; the expression must be boolean, or null, which keeps nothing."""
        self._check(type_of(self.expression, given))
        return given

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        return wanted | set(columns_of(self.expression, given[side]))

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the rows for which the expression is true, in their order."""
        del place
        (chosen,) = evaluate([self.expression], batch)
        self._check(chosen.type)
        return batch.filter(chosen.cast(pa.bool_()))

    def _check(self, kind: pa.DataType) -> None:
        if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            msg = f"filter needs a boolean expression, but {self.expression} is {kind}; compare it with something"
            raise SchemaError(msg)
