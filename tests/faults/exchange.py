"""A slow job with an exchange, that the fault tests kill on either side of it; configured by the environment."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pyarrow as pa

from raflow import Flow, FlowOptions
from raflow.connectors.files import ParquetFiles

CONFIG = json.loads(os.environ["PROGRAM"])

app = Flow("faults", FlowOptions(num_replicas=2, shared_path=True))


def mark(what: str, number: int) -> None:
    """Leave a trace, then work."""
    Path(CONFIG["seen"], f"{what}-{number}-{random.random()}").touch()
    time.sleep(CONFIG.get("work_s", 0.1))


def keyed(batch: pa.RecordBatch) -> pa.RecordBatch:
    mark("given", batch.column("n")[0].as_py())
    return batch.append_column("key", pa.array([n % 20 for n in batch.column("n").to_pylist()]))


def total(group: pa.Table) -> dict[str, int]:
    key = group["key"][0].as_py()
    mark("group", key)
    return {"n": key, "total": sum(group["n"].to_pylist())}


aside = ParquetFiles(CONFIG["output"] + "/aside")
groups = ParquetFiles(CONFIG["output"] + "/groups")
given = app.read(ParquetFiles(CONFIG["input"])).map_batches(keyed)
given.write(aside)
given.map_groups(total, by="key").write(groups)
