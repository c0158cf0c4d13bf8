"""A slow ETL job that the fault tests start, kill and resume; configured by the environment."""

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


@app.consumer(
    source=ParquetFiles(CONFIG["input"]),
    sink=ParquetFiles(CONFIG["output"], storage_options=CONFIG.get("storage"), partition_by=CONFIG.get("partition_by")),
)
def work(batch: pa.RecordBatch) -> pa.RecordBatch:
    Path(CONFIG["pids"], str(os.getpid())).touch()
    Path(CONFIG["seen"], f"{batch.column('n')[0].as_py()}-{random.random()}").touch()
    time.sleep(CONFIG.get("work_s", 0.2))  # the work
    while "gate" in CONFIG and not Path(CONFIG["gate"]).exists():
        time.sleep(0.02)
    chance = pa.array([random.choice("abc") for _ in range(batch.num_rows)])
    return batch.append_column("chance", chance)
