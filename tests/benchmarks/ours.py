"""raflow on the workloads: python -m tests.benchmarks.ours WORKLOAD DATA OUT."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raflow import Flow, FlowOptions
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from tests.benchmarks import work
from tests.benchmarks.measure import arguments, contend, start_ray

_LOOK_S = 0.01
_CODE: dict[str, Callable[..., Any]] = {"etl": work.etl, "record": work.rate, "documents": work.measured}


def run(workload: str, data: Path, out: Path) -> dict[str, float]:
    """Run, and return what went by until the first replica was ready; the clock is that of all contenders."""
    with tempfile.TemporaryDirectory() as ledgers:
        flow = Flow("benchmark", FlowOptions(ledger_url=ledgers))
        source = ParquetFiles(work.inputs(data, workload))
        flow.consumer(source=source, sink=ParquetFiles(out))(_CODE[workload])
        began = time.perf_counter()
        run = flow.start(engine="ray")
        while not run.stats().stages[0].replicas and not run.wait(_LOOK_S):
            pass
        workers_s = time.perf_counter() - began
        run.wait()
        return {"workers_s": workers_s}


def first_record() -> float:
    """Return the seconds from `flow.run` on the local engine to the first call of the processor."""
    calls: list[float] = []
    with tempfile.TemporaryDirectory() as ledgers:
        flow = Flow("benchmark", FlowOptions(ledger_url=ledgers))

        @flow.consumer(source=MemorySource([{"n": 1}]), sink=MemorySink())
        def note(record: dict[str, Any]) -> dict[str, Any]:
            calls.append(time.perf_counter())
            return record

        began = time.perf_counter()
        flow.run(engine="local")
    return calls[0] - began


if __name__ == "__main__":
    workload, data, out = arguments()
    if workload == "first_record":
        print(json.dumps({"seconds": first_record()}))
    else:
        contend((start_ray, lambda: run(workload, data, out)))
