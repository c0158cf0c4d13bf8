"""Polars' own expressions, streaming: python -m tests.benchmarks.peers.polars_etl etl DATA OUT."""

import polars as pl

from tests.benchmarks import work
from tests.benchmarks.measure import arguments, contend


def run(data, out):
    out.mkdir()
    trips = pl.scan_parquet(work.inputs(data, "etl")).filter((pl.col("distance") > 1) & (pl.col("fare") > 0))
    rate, hour = pl.col("tip") / pl.col("fare"), pl.col("pickup_us").dt.hour()
    trips = trips.with_columns(tip_rate=rate, hour=hour)
    trips.sink_parquet(out / "part.parquet", compression="snappy", engine="streaming")


if __name__ == "__main__":
    _, data, out = arguments()
    contend((lambda: None, lambda: run(data, out)))
