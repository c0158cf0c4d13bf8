"""From one S3 folder to another; the credentials are the Flow's and appear nowhere else.

    RAW=s3://raw/trips/*.parquet CLEAN=s3://clean/trips/ raflow run examples/s3_to_s3.py

Without AWS_ACCESS_KEY_ID in the environment, the machine's own AWS configuration is used;
AWS_ENDPOINT_URL points to another S3-compatible store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from raflow import Flow, FlowOptions
from raflow.connectors.files import ParquetFiles

app = Flow(
    "trips",
    FlowOptions(
        aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=os.environ.get("AWS_SESSION_TOKEN"),
    ),
)


@dataclass
class Trip:
    zone: int
    fare: float
    tip: float


@app.consumer(
    source=ParquetFiles(os.environ.get("RAW", "s3://raw/trips/*.parquet")),
    sink=ParquetFiles(os.environ.get("CLEAN", "s3://clean/trips/")),
)
def tip_rate(trip: Trip) -> dict[str, float] | None:
    if trip.fare > 0:
        return {"zone": trip.zone, "rate": trip.tip / trip.fare}
    return None


if __name__ == "__main__":
    app.run()
