"""Flows on a cluster of two nodes: as jobs, on both nodes, and on what is left when one dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.cluster.conftest import CLUSTER, Cluster, finish, start

pytestmark = pytest.mark.ray

RECORDS = 4000
FAILING = """
from places import here
from raflow import Flow
from raflow.connectors.memory import MemorySource

app = Flow("failing")


@app.consumer(source=MemorySource([{"n": 1}]), num_cpus=0)
def fail(record: dict) -> None:
    raise ValueError(f"no such luck in {here()['code']}")
"""
STEPS = """
import json
import os
import ray
from places import here
from raflow import Workflow, action


@action(num_cpus=0)
def place(initial_context):
    return {**here(), "cluster": ray.get_runtime_context().gcs_address, "driver": initial_context.storage}


def make():
    workflow = Workflow()
    workflow.task.add(place, initial_context=os.getpid())
    return workflow
"""


def rows(output: str | Path) -> pa.Table:
    table = ds.dataset(output).to_table()
    assert sorted(table["n"].to_pylist()) == list(range(RECORDS))
    return table


def seen(output: Path) -> set[str]:
    """The nodes of which a reader sees rows."""
    files = [str(path) for path in output.glob("*.parquet")]
    return set(ds.dataset(files).to_table(columns=["node"])["node"].to_pylist()) if files else set()


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.Popen[str]]:
    """Three jobs, submitted at the same time with a folder that only they know."""
    code = tmp_path_factory.mktemp("code")
    for name in ("spread.py", "places.py"):
        shutil.copy(CLUSTER / name, code)
    (code / "failing.py").write_text(FAILING)
    (code / "steps.py").write_text(STEPS)
    submit = ("ray", "job", "submit", "--working-dir", str(code), "--", "raflow")
    lines = {
        "spread": ["run", "spread.py"],
        "failing": ["run", "failing.py"],
        "steps": ["start", "--workflow", "steps:make", "--mode", "parallel"],
    }
    return {name: start(*submit, *line, env=cluster.env) for name, line in lines.items()}


def test_a_flow_runs_as_a_job_on_both_nodes_and_its_code_travels(
    cluster: Cluster, jobs: dict[str, subprocess.Popen[str]]
) -> None:
    printed = finish(jobs["spread"])
    assert "succeeded in" in printed
    assert "on the ray engine" in printed
    table = rows(cluster.env["OUTPUT"])
    assert len(set(table["node"].to_pylist())) == 2
    assert len(set(table["process"].to_pylist())) == 2
    assert all("runtime_resources" in folder for folder in set(table["code"].to_pylist()))


def test_a_flow_that_fails_makes_its_job_fail_with_the_users_traceback(
    jobs: dict[str, subprocess.Popen[str]],
) -> None:
    printed = finish(jobs["failing"], code=1)
    assert "ValueError: no such luck in" in printed
    assert 'failing.py", line' in printed
    assert "processor fail, replica fail[0]" in printed


def test_steps_of_a_job_run_in_its_cluster_and_their_code_travels(
    cluster: Cluster, jobs: dict[str, subprocess.Popen[str]]
) -> None:
    printed = finish(jobs["steps"])
    result = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    assert result["cluster"].rpartition(":")[2] == cluster.env["RAY_ADDRESS"].rpartition(":")[2]
    assert result["process"] != result["driver"]
    assert "runtime_resources" in result["code"]
    assert "Completed (1 Completed)" in printed


def test_a_local_folder_is_refused_unless_all_nodes_share_it(cluster: Cluster, tmp_path: Path) -> None:
    env = {**cluster.env, "OUTPUT": str(tmp_path / "out"), "SHARED": "no"}
    printed = finish(start("raflow", "run", str(CLUSTER / "spread.py"), env=env), code=1)
    assert f"'{tmp_path / 'out'}'" in printed
    assert "is a local path, but the cluster has 2 nodes" in printed
    assert "FlowOptions(shared_path=True)" in printed
    assert list((tmp_path / "out").glob("*.parquet")) == []


def test_a_node_that_dies_costs_no_row_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    # The last test of this file: the cluster has one node afterwards.
    env = {**cluster.env, "OUTPUT": str(tmp_path / "out"), "SECONDS": "0.2"}
    process = start("raflow", "run", str(CLUSTER / "spread.py"), env=env)
    while len(nodes := seen(tmp_path / "out")) < 2:
        assert process.poll() is None, f"the run ended with rows of {nodes} before a node was ended"
        time.sleep(0.2)
    cluster.kill_second()
    printed = finish(process)
    assert "1 lost" in printed
    assert set(rows(tmp_path / "out")["node"].to_pylist()) == nodes
