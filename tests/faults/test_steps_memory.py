"""Map and reduce over large results on Ray: they go through the object store, never through the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

ROOT = Path(__file__).parents[2]
LIMIT_MB = 300

PROGRAM = """
import json
import numpy as np
import pyarrow as pa
from raflow import FlowSpec, RayWorkflow, Workflow, action, foreach, join, needs, step

ITEMS = 20

def made(seed):
    values = np.full(12_500_000, float(seed))  # 100 MB
    return pa.table({"n": values}) if seed == ITEMS - 1 else values

def reduced(items):
    arrays = [each["n"].chunk(0).to_numpy() if isinstance(each, pa.Table) else each for each in items]
    return {
        "tables": sum(isinstance(each, pa.Table) for each in items),
        "bytes": sum(each.nbytes for each in arrays),
        "writeable": sum(each.flags.writeable for each in arrays),
        "shared": sum(is_shared(each.ctypes.data) for each in arrays),
        "own_mb": status("RssAnon"),
        "total": sum(float(each[::1000].sum()) for each in arrays),
    }

def is_shared(address):
    # Whether the memory there is a part of the object store that this process shares with all others.
    for line in open("/proc/self/maps"):
        region, access = line.split()[:2]
        first, last = (int(each, 16) for each in region.split("-"))
        if first <= address < last:
            return access.endswith("s")

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

class Sums(FlowSpec):
    @foreach
    @step
    def seeds(number):
        return range(number)

    @needs(predecessors=[seeds])
    @step
    def make(seed):
        return made(seed)

    @join
    @needs(predecessors=[make])
    @step
    def reduce(items):
        return reduced([item for (item,) in items])

def by_class():
    flow = Sums("sums", ITEMS)
    flow.run()
    return flow.get_result(flow.reduce)

def inferred():
    workflow = RayWorkflow(lambda make, reduce: lambda number: reduce([make(seed) for seed in range(number)]))
    workflow.conf_activity("make", made)
    workflow.conf_activity("reduce", reduced)
    return workflow.run(ITEMS)

def chain():
    @action
    def make():
        return [made(seed) for seed in (0, 1, ITEMS - 1)]

    @action(num_cpus=0.5)  # a Ray task of its own: one that runs both steps keeps what they share to itself
    def reduce(previous_context):
        return reduced(previous_context.storage)

    workflow = Workflow()
    workflow.task.add(make).add(reduce)
    workflow.start(engine="ray")
    return workflow.result_task()[-1].current_context.storage

print(json.dumps({"class": by_class(), "inferred": inferred(), "chain": chain(), "peak_mb": status("VmHWM")}))
"""


def test_results_of_100_mb_reach_the_reducer_without_a_copy_and_without_the_driver(tmp_path: Path) -> None:
    script = tmp_path / "sums.py"
    script.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for way, seeds in {"class": range(20), "inferred": range(20), "chain": (0, 1, 19)}.items():
        result = told[way]
        assert result["tables"] == 1
        assert result["bytes"] == len(seeds) * 100_000_000
        assert result["total"] == sum(seeds) * 12_500
        assert result["writeable"] == 0
        assert result["shared"] == len(seeds)
        assert result["own_mb"] < LIMIT_MB
    assert told["peak_mb"] < LIMIT_MB
