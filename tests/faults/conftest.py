"""Input, and a way to start the program in a process of its own and to look at what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FILES, ROWS = 24, 50
PROGRAM = Path(__file__).with_name("program.py")


@dataclass
class Job:
    """The program with its folders."""

    folder: Path
    output: str
    settings: dict[str, Any] = field(default_factory=dict)
    engine: str = "local"
    program: Path = PROGRAM
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """Processes in which the processor has run."""
        return [int(path.name) for path in (self.folder / "pids").iterdir()]

    def seen(self) -> int:
        """How many batches the processor was given, over all attempts."""
        return len(list((self.folder / "seen").iterdir()))

    def marks(self, what: str) -> int:
        """How often a part of the processor was called that leaves such marks."""
        return len(list((self.folder / "seen").glob(f"{what}-*")))

    def environment(self) -> dict[str, str]:
        """The environment of the program's process."""
        config = {
            "input": str(self.folder / "in"), "output": self.output,
            "pids": str(self.folder / "pids"), "seen": str(self.folder / "seen"), **self.settings,
        }  # fmt: skip
        return {**os.environ, "PROGRAM": json.dumps(config), "RAFLOW_LEDGER": str(self.folder / "ledger")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `raflow run` as the leader of a process group."""
        command = [
            sys.executable,
            "-m",
            "raflow",
            "run",
            f"{self.program}:app",
            "--engine",
            self.engine,
            *arguments,
        ]
        process = subprocess.Popen(
            command,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """Wait until the program has ended with that exit code; returns what it printed."""
        text, _ = process.communicate(timeout=120)
        assert process.returncode == code, text
        return text

    def committed(self) -> int:
        """How many units the ledgers say are committed."""
        lines = [line for path in (self.folder / "ledger").rglob("*.jsonl") for line in path.read_text().splitlines()]
        return sum('"event":"committed"' in line for line in lines)

    def end(self) -> None:
        """End what is still running."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
    """Wait until something is true that happens in another process."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s until {what}"
        time.sleep(0.02)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """The program with 24 files of 50 records as input and a local folder as output."""
    for name in ("in", "pids", "seen", "ledger"):
        (tmp_path / name).mkdir()
    for index in range(FILES):
        numbers = pa.array(range(index * ROWS, (index + 1) * ROWS))
        pq.write_table(pa.table({"n": numbers}), tmp_path / "in" / f"{index:02}.parquet")
    made = Job(tmp_path, str(tmp_path / "out"))
    yield made
    made.end()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """The function `until`."""
    return until
