"""A cluster of two nodes on this machine, and commands that use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

CLUSTER = Path(__file__).parents[2] / "cluster"
BIN = Path(sys.executable).parent
STAY = "import json, os; print(json.dumps(dict(os.environ)), flush=True); input()"
"""The command of the cluster: says how commands find it, and ends when its input is closed."""


class Cluster(NamedTuple):
    env: dict[str, str]
    """For commands that use it."""
    processes: list[int]
    """One per node; the second node has neither the driver nor the cluster's own services."""

    def kill_second(self) -> None:
        """End the second node at once."""
        second = psutil.Process(self.processes[1])
        for dying in [second, *second.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                dying.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "OUTPUT": str(folder / "out"),
        "SECONDS": "0.3",  # longer in all than a second replica may need to start
        "RAFLOW_LEDGER": str(folder / "ledger"),
    }
    command = [sys.executable, str(CLUSTER / "two_nodes.py"), sys.executable, "-c", STAY]
    with subprocess.Popen(command, env=env, stdin=-1, stdout=-1, text=True, cwd=folder) as script:
        assert script.stdin
        assert script.stdout
        processes = [int(script.stdout.readline().split()[-1]) for _ in range(2)]
        yield Cluster(json.loads(script.stdout.readline()), processes)
        script.stdin.close()
        script.wait(60)


def start(*command: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == code, printed
    return printed
