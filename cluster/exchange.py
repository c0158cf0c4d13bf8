"""A Flow with an exchange between two nodes, which tells where each group was put together.

    python cluster/two_nodes.py raflow run cluster/exchange.py

The environment may set OUTPUT, the folder; MARKS, a folder in which each call leaves a file that names its
node; and GATE, a file for which the groups wait.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from places import here

from raflow import Flow, FlowOptions
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySource

OUTPUT = Path(os.environ.get("OUTPUT", "demo-output/exchange")).absolute()
MARKS = os.environ.get("MARKS")
GATE = os.environ.get("GATE")

app = Flow("exchange", FlowOptions(shared_path=True, num_cpus=0.6, num_replicas=2))


def mark(what: str) -> str:
    """Tell the node, also in a file if asked."""
    node = str(here()["node"])
    if MARKS:
        Path(MARKS, f"{what} {node} {uuid4()}").touch()
    return node


def keyed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add the column to group by, and a load: Ray keeps what is small with the driver."""
    time.sleep(0.1)  # the work
    node = mark("given")
    keys = pa.array([n % 20 for n in batch.column("n").to_pylist()])
    return batch.append_column("key", keys).append_column("load", pa.array([node * 100] * batch.num_rows))


def total(group: pa.Table) -> dict[str, object]:
    """Sum up one group."""
    node = mark("group")
    while GATE and not Path(GATE).exists():
        time.sleep(0.02)
    return {"key": group["key"][0].as_py(), "total": sum(group["n"].to_pylist()), "node": node}


source = MemorySource(pa.table({"n": range(4000)}), rows_per_split=200)
groups = app.read(source).map_batches(keyed).map_groups(total, by="key")
groups.write(ParquetFiles(OUTPUT, if_exists="overwrite"))

if __name__ == "__main__":
    app.run()
