"""A real cluster, started as an operator would, takes Flows as jobs."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.dataset as ds
import pytest

pytestmark = pytest.mark.ray

CLUSTER = Path(__file__).parents[2] / "cluster"
BIN = Path(sys.executable).parent
FAILING = """
from places import here
from raflow import Flow
from raflow.connectors.memory import MemorySource

app = Flow("failing")


@app.consumer(source=MemorySource([{"n": 1}]))
def fail(record: dict) -> None:
    raise ValueError(f"no such luck in {here()['code']}")
"""


class Head:
    """The head node of a cluster, in the foreground of a process of its own."""

    def __init__(self, folder: Path) -> None:
        port, dashboard, agent, client = free_ports(4)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.env = {
            **os.environ,
            # Ray's newer versions take no job without a token.
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAFLOW_LEDGER": str(folder / "ledger"), "OUTPUT": str(folder / "out"), "SECONDS": "0",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [
                BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true",
                f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
                f"--ray-client-server-port={client}", f"--temp-dir={folder}", "--disable-usage-stats",
            ],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def answers(self) -> bool:
        """Whether the dashboard takes requests, if only to ask for the token."""
        assert self.process.poll() is None, "ray start has ended"
        try:
            urllib.request.urlopen(self.dashboard).close()
        except urllib.error.HTTPError:
            return True
        except urllib.error.URLError:
            return False
        return True

    def submit(self, folder: Path, target: str) -> subprocess.Popen[str]:
        """Submit a Flow of the folder as a job, and follow it."""
        line: list[str | Path] = [BIN / "ray", "job", "submit", "--address", self.dashboard, "--working-dir", folder]
        line += ["--", "raflow", "run", target]
        return subprocess.Popen(line, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with tempfile.TemporaryDirectory(prefix="job", ignore_cleanup_errors=True) as folder:
        node = Head(Path(folder))
        deadline = time.monotonic() + 60
        while not node.answers():
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.05)
        yield node
        node.process.terminate()
        node.process.wait(30)


@pytest.fixture(scope="module")
def jobs(head: Head, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and output of two jobs, submitted at the same time from a folder of their own."""
    code = tmp_path_factory.mktemp("code")
    for name in ("spread.py", "places.py"):
        shutil.copy(CLUSTER / name, code)
    (code / "failing.py").write_text(FAILING)
    running = {target: head.submit(code, target) for target in ("spread.py", "failing.py")}
    printed = {target: job.communicate(timeout=150)[0] for target, job in running.items()}
    return {target: (job.returncode, printed[target]) for target, job in running.items()}


def test_a_flow_runs_as_a_job_and_its_code_travels(head: Head, jobs: dict[str, tuple[int, str]]) -> None:
    code, printed = jobs["spread.py"]
    assert code == 0, printed
    assert "succeeded in" in printed
    assert "on the ray engine" in printed
    table = ds.dataset(head.env["OUTPUT"]).to_table()
    assert sorted(table["n"].to_pylist()) == list(range(4000))
    (folder,) = set(table["code"].to_pylist())
    assert "runtime_resources" in folder


def test_a_flow_that_fails_makes_its_job_fail_with_the_users_traceback(jobs: dict[str, tuple[int, str]]) -> None:
    code, printed = jobs["failing.py"]
    assert code == 1, printed
    assert "ValueError: no such luck in" in printed
    assert 'failing.py", line' in printed
    assert "processor fail, replica fail[0]" in printed
