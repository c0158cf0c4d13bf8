"""A Flow that tells on which node and in which process each record was processed.

    python cluster/two_nodes.py raflow run cluster/spread.py

The environment may set OUTPUT, the folder; SECONDS of work per batch; and SHARED=no, with which the run
is refused on two nodes: a local folder is a place of its own on each of them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
from places import here

from raflow import Flow, FlowOptions
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySource

OUTPUT = Path(os.environ.get("OUTPUT", "demo-output/spread")).absolute()
SECONDS = float(os.environ.get("SECONDS", "0.1"))
SHARED = os.environ.get("SHARED", "yes") == "yes"

app = Flow("spread", FlowOptions(shared_path=SHARED))


@app.consumer(
    source=MemorySource(pa.table({"n": range(4000)}), rows_per_split=100),
    sink=ParquetFiles(OUTPUT, if_exists="overwrite"),
)
def spread(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add where this batch was processed."""
    time.sleep(SECONDS)  # the work
    for name, value in here().items():
        batch = batch.append_column(name, pa.array([value] * batch.num_rows))
    return batch


if __name__ == "__main__":
    app.run()
