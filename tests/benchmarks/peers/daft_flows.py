"""Daft on Ray: python -m tests.benchmarks.peers.daft_flows groupby DATA SCALE."""

import daft
from daft import col

from tests.benchmarks import flow_work as work


def start():
    """Start Ray and have Daft start its workers, so that their start is in nobody's time."""
    work.start_ray()
    daft.set_runner_ray()
    daft.from_pydict({"n": [1, 2]}).groupby("n").agg(col("n").sum().alias("sum")).collect()


def run(data):
    fare = col("fare")
    trips = daft.read_parquet(work.files(data, "trips-*")).groupby("zone")
    found = trips.agg(fare.mean().alias("mean"), fare.sum().alias("sum"), fare.count().alias("count")).to_arrow()
    columns = found.select(["zone", "mean", "sum", "count"])
    return sorted(list(row.values()) for row in columns.to_pylist())


if __name__ == "__main__":
    _, data, _ = work.arguments()
    work.contend((start, lambda: run(data)))
