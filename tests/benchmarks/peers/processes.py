"""Two plain pyarrow processes, writer as it comes: python -m tests.benchmarks.peers.processes etl DATA OUT."""

import multiprocessing
import os

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


class Pool:
    def start(self):
        self.pool = multiprocessing.get_context("spawn").Pool(2)
        self.pool.map(os.path.basename, ["a", "b"], chunksize=1)

    def run(self, data, out):
        out.mkdir()
        files = work.inputs(data, "etl")
        pairs = [(file, str(out / os.path.basename(file))) for file in files]
        list(self.pool.imap_unordered(convert, pairs))


if __name__ == "__main__":
    _, data, out = arguments()
    pool = Pool()
    contend((pool.start, lambda: pool.run(data, out)))
    pool.pool.terminate()
