"""What leaves a replica and comes to it: IPC bytes where it has a process of its own, else tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raflow.batch import from_ipc, to_ipc
from raflow.runtime.work import Order, unpack_schema
from raflow.schema import together

Answer = tuple[Any, list[Any]]
"""What a call tells the driver, and the payloads that stay where they are until they are needed."""


def packed(table: pa.Table, *, own_process: bool) -> Any:
    """Return a table as it leaves."""
    return to_ipc(table.to_batches(), table.schema) if own_process else table


def unpacked(payload: Any) -> pa.Table:
    """Return the table of a payload."""
    return payload if isinstance(payload, pa.Table) else from_ipc(payload)


def sides(order: Order, payloads: Sequence[Any]) -> list[pa.Table]:
    """Return per input of a wide op all records of a partition."""
    tables, start = [], 0
    for number, schema in zip(order.sides, order.schemas, strict=True):
        mine = [unpacked(one) for one in payloads[start : start + number] if one is not None]
        tables.append(together(mine, unpack_schema(schema)))
        start += number
    return tables
