"""`raflow run --reload`, as its users see it: what is saved is served, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from raflow.loading import folder_of
from tests.runtime.serving.conftest import until

PROGRAM = """
from raflow import Flow
from version import VERSION

app = Flow()

@app.service().endpoint("/")
def root() -> str:
    return VERSION
"""
AGAIN = "it is started again"


class Reloading:
    """The command on a fixed port, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "raflow", "run", "program.py", "--reload", "--engine", "local"]
        command += ["--port", str(self.port)]
        environment = {**os.environ, "RAFLOW_LEDGER": str(folder.parent / "ledger"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as printed:
            self.lines.extend(printed)

    def said(self, text: str) -> int:
        return sum(text in line for line in self.lines)

    def save(self, version: str) -> None:
        """Save the module that the program imports, in two steps as editors do."""
        (self.folder / "new").write_text(version)
        os.replace(self.folder / "new", self.folder / "version.py")

    def serves(self, text: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=30, verify=False).json() == text
        except httpx.TransportError:
            return False

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        for one in [*self.children, psutil.Process(self.process.pid)] if self.process.poll() is None else []:
            one.kill()
        self.process.wait()
        self._reading.join()


@pytest.fixture
def reloading(tmp_path: Path) -> Iterator[Reloading]:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "version.py").write_text("VERSION = 'one'")
    made = Reloading(folder)
    yield made
    made.end()


def test_what_is_saved_is_served_and_a_mistake_is_shown_until_it_is_mended(reloading: Reloading) -> None:
    until(lambda: reloading.serves("one"))
    for name in ("data.csv", "notes.txt", ".hidden.py.swp"):
        (reloading.folder / name).write_text("no source")
    (reloading.folder / "__pycache__").mkdir(exist_ok=True)
    (reloading.folder / "__pycache__" / "version.py").write_text("no source")
    with httpx.Client() as idle:  # a connection that stays open must not hold anything up
        idle.get(f"http://127.0.0.1:{reloading.port}/")
        reloading.save("VERSION = 'two'")
        until(lambda: reloading.serves("two"))
    assert [line.strip() for line in reloading.lines if AGAIN in line] == [f"changed: version.py; {AGAIN}"]

    reloading.save("VERSION = 'thr")
    until(lambda: reloading.said("ended with exit code 2"))
    assert reloading.said("version.py, line 1: SyntaxError: unterminated string literal")
    assert not reloading.serves("two")
    reloading.save("VERSION = 'three'")
    until(lambda: reloading.serves("three"))

    children = reloading.children
    reloading.process.send_signal(signal.SIGINT)
    assert reloading.process.wait(30) == 0
    assert [one for one in children if one.is_running()] == []


def test_many_saves_at_once_are_one_restart(reloading: Reloading) -> None:
    until(lambda: reloading.serves("one"))
    for number in range(50):
        reloading.save(f"VERSION = '{number}'")
    until(lambda: reloading.serves("49"))
    assert reloading.said(AGAIN) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_however_it_is_ended(reloading: Reloading, number: int) -> None:
    until(lambda: reloading.serves("one"))
    children = reloading.children
    reloading.process.send_signal(number)
    assert reloading.process.wait(30) == (0 if number == signal.SIGTERM else -number)
    psutil.wait_procs(children, timeout=30)
    assert [one for one in children if one.is_running()] == []


def test_the_folder_that_is_watched_is_that_of_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "one.py").touch()
    monkeypatch.chdir(tmp_path)
    assert folder_of("flows/one.py:app") == tmp_path / "flows"
    assert folder_of("flows.one:app") == tmp_path
