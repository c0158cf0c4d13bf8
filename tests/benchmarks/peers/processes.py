"""Two plain pyarrow processes, writer as it comes: python -m tests.benchmarks.peers.processes etl DATA OUT."""

import multiprocessing
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import work
from tests.benchmarks.measure import arguments, contend


def convert(paths):
    source, target = paths
    pa.set_cpu_count(1)
    parquet = pq.ParquetFile(source)
    writer = None
    for group in range(parquet.num_row_groups):
        table = work.etl(parquet.read_row_group(group, use_threads=False))
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
    writer.close()


def run(data, out):
    began = time.perf_counter()
    out.mkdir()
    files = work.inputs(data, "etl")
    pairs = [(file, str(out / os.path.basename(file))) for file in files]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(pa.table, [{}, {}], chunksize=1)
        workers_s = time.perf_counter() - began
        list(pool.imap_unordered(convert, pairs))
        return {"workers_s": workers_s}


if __name__ == "__main__":
    _, data, out = arguments()
    contend((lambda: None, lambda: run(data, out)))
