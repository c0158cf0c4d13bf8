"""Ray Data: python -m tests.benchmarks.peers.ray_data WORKLOAD DATA OUT [actors|tasks]."""

import sys
import tempfile

import ray

from tests.benchmarks import work
from tests.benchmarks.measure import arguments, contend, start_ray


class Etl:
    def __call__(self, trips):
        return work.etl(trips)


def rate(row):
    return {"zone": row["zone"], "rate": row["tip"] / row["fare"] if row["fare"] else 0.0}


def run(workload, data, out, kind):
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if workload == "record":
        rows = ray.data.read_parquet(work.inputs(data, workload), columns=["zone", "fare", "tip"]).map(rate)
    else:
        trips = ray.data.read_parquet(work.inputs(data, workload))
        # Two actors of a whole CPU each would leave none for reading and writing.
        how = {"fn": Etl, "concurrency": 2, "num_cpus": 0.5} if kind == "actors" else {"fn": work.etl}
        rows = trips.map_batches(batch_format="pyarrow", batch_size=None, **how)
    rows.write_parquet(str(out))


def start():
    """Start Ray and have Ray Data start its workers, so that their start is in nobody's time."""
    start_ray()
    with tempfile.TemporaryDirectory() as out:
        ray.data.range(1000, override_num_blocks=4).map(lambda row: row).write_parquet(out)


if __name__ == "__main__":
    workload, data, out = arguments()
    contend((start, lambda: run(workload, data, out, sys.argv[4])))
