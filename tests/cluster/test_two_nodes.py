"""One Flow on two nodes: both work, a local folder must be a shared one, and a node may die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

pytestmark = pytest.mark.ray

CLUSTER = Path(__file__).parents[2] / "cluster"
RECORDS = 4000

STAY = "import os; print(os.environ['RAY_ADDRESS'], flush=True); input()"
"""The command of the cluster under test: says where it is, and ends when its input is closed."""


class Cluster(NamedTuple):
    address: str
    raylets: dict[str, int]
    """Process ids by node id; the first node is the driver's."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    command = [sys.executable, str(CLUSTER / "two_nodes.py"), sys.executable, "-c", STAY]
    folder = tmp_path_factory.mktemp("cluster")
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdin
        assert script.stdout
        nodes = [script.stdout.readline().split() for _ in range(2)]
        yield Cluster(script.stdout.readline().strip(), {words[1]: int(words[3]) for words in nodes})
        script.stdin.close()
        script.wait(60)


def start(cluster: Cluster, output: Path, **env: str) -> subprocess.Popen[str]:
    """Start the Flow with the output folder as its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "raflow", "run", str(CLUSTER / "spread.py")],
        env={**os.environ, "RAY_ADDRESS": cluster.address, "OUTPUT": str(output), **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == code, printed
    return printed


def rows(output: Path) -> pa.Table:
    table = ds.dataset(output).to_table()
    assert sorted(table["n"].to_pylist()) == list(range(RECORDS))
    return table


def test_replicas_on_both_nodes_share_the_work(cluster: Cluster, tmp_path: Path) -> None:
    finish(start(cluster, tmp_path / "out"))
    table = rows(tmp_path / "out")
    assert set(table["node"].to_pylist()) == set(cluster.raylets)
    assert len(set(table["process"].to_pylist())) == 2


def test_a_local_folder_is_refused_unless_all_nodes_share_it(cluster: Cluster, tmp_path: Path) -> None:
    printed = finish(start(cluster, tmp_path / "out", SHARED="no"), code=1)
    assert f"'{tmp_path / 'out'}'" in printed
    assert "is a local path, but the cluster has 2 nodes" in printed
    assert "FlowOptions(shared_path=True)" in printed
    assert list((tmp_path / "out").glob("*.parquet")) == []


def test_a_node_that_dies_costs_no_row_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    # The last test of this file: the cluster has one node afterwards.
    process = start(cluster, tmp_path / "out", SECONDS="0.2")
    first, lost = cluster.raylets
    while not (nodes := seen(tmp_path / "out")) >= {first, lost}:
        assert process.poll() is None, f"the run ended with {nodes} before the node was ended"
        time.sleep(0.05)
    raylet = psutil.Process(cluster.raylets[lost])
    for dying in [raylet, *raylet.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            dying.kill()
    printed = finish(process)
    assert "1 lost" in printed
    table = rows(tmp_path / "out")
    assert set(table["node"].to_pylist()) == {first, lost}


def seen(output: Path) -> set[str]:
    """The nodes of which a reader sees rows."""
    files = [str(path) for path in output.glob("*.parquet")]
    return set(ds.dataset(files).to_table(columns=["node"])["node"].to_pylist()) if files else set()
