"""What every contender does with the trips: the same two functions, and the workloads by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

RECORD_FILES = 6
"""Of the 20 files of trips, those that the record function reads."""


@dataclass
class Trip:
    zone: int
    fare: float
    tip: float


@dataclass
class Document:
    id: int
    body: bytes


def etl(trips: pa.Table) -> pa.Table:
    """Keep the trips that went somewhere and cost something; add two columns."""
    trips = trips.filter(pc.and_(pc.greater(trips["distance"], 1.0), pc.greater(trips["fare"], 0.0)))
    trips = trips.append_column("tip_rate", pc.divide(trips["tip"], trips["fare"]))
    return trips.append_column("hour", pc.hour(trips["pickup_us"]))


def rate(trip: Trip) -> dict[str, Any]:
    return {"zone": trip.zone, "rate": trip.tip / trip.fare if trip.fare else 0.0}


def measured(document: Document) -> dict[str, Any]:
    return {"id": document.id, "size": len(document.body), "body": document.body}


def inputs(data: Path, workload: str) -> list[str]:
    """Return the files that a workload reads."""
    files = sorted(str(path) for path in data.glob("documents-*" if workload == "documents" else "trips-*"))
    return files[:RECORD_FILES] if workload == "record" else files
