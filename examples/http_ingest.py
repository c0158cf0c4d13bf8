"""Readings over HTTP into Parquet files: what was acknowledged is on the disk.

    raflow run examples/http_ingest.py
    curl localhost:8000/readings -H 'Content-Type: application/json' -d '{"station": "EWR", "fahrenheit": 50}'

The same route takes a list of readings, one per line (`application/x-ndjson`) or an Arrow stream.
"""

from dataclasses import dataclass
from datetime import datetime, timezone

from raflow import Flow
from raflow.connectors.files import ParquetFiles
from raflow.http import HTTPException

app = Flow("ingest")


@dataclass
class Reading:
    station: str
    fahrenheit: float


@dataclass
class Stored:
    station: str
    celsius: float
    at: datetime


# A file per flush: 200 ms of readings share one, and their replies wait for it.
@app.collector("/readings", sink=ParquetFiles("demo-output/readings/", if_exists="append"), linger_ms=200)
def reading(record: Reading) -> Stored:
    if record.fahrenheit < -459.67:
        raise HTTPException(422, "that is below absolute zero")
    return Stored(record.station, round((record.fahrenheit - 32) / 1.8, 2), datetime.now(timezone.utc))


if __name__ == "__main__":
    app.run()
