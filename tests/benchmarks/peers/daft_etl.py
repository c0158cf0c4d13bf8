"""Daft's own expressions: python -m tests.benchmarks.peers.daft_etl etl DATA OUT ray|native."""

import sys

import daft
from daft import col

from tests.benchmarks import work
from tests.benchmarks.measure import arguments, contend, start_ray


def start(runner):
    if runner == "ray":
        start_ray()
        daft.set_runner_ray()
    else:
        daft.set_runner_native()


def run(data, out):
    trips = daft.read_parquet(work.inputs(data, "etl")).where((col("distance") > 1) & (col("fare") > 0))
    trips = trips.with_columns({"tip_rate": col("tip") / col("fare"), "hour": col("pickup_us").hour()})
    trips.write_parquet(str(out))


if __name__ == "__main__":
    _, data, out = arguments()
    contend((lambda: start(sys.argv[4]), lambda: run(data, out)))
