"""JSON Lines files that stay open: durable when flushed, visible when whole, rescued when their process dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raflow.connectors.files import JsonLinesFiles, ParquetFiles
from raflow.errors import SinkError
from raflow.sinks import Appender, SinkContext

RUN = SinkContext("20260101-000000-abcdef")


def appender(folder: Path, unit: str = "events.1") -> Appender:
    found = JsonLinesFiles(folder).appender(RUN, unit)
    assert found is not None
    return found


def batch(*ns: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(ns)})


def visible(folder: Path) -> list[int]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [json.loads(line)["n"] for path in files for line in path.read_text().splitlines()]


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_is_seen_when_it_is_rolled_and_the_next_append_begins_another_one(tmp_path: Path) -> None:
    made = appender(tmp_path)
    made.append(batch(1))
    made.append(batch(2, 3))
    made.flush()
    assert (visible(tmp_path), made.size_bytes) == ([], 24)
    assert hidden(tmp_path)[0].read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n'
    made.roll()
    assert (visible(tmp_path), made.size_bytes) == ([1, 2, 3], 0)
    made.append(batch(4))
    made.roll()
    made.roll()
    assert (visible(tmp_path), hidden(tmp_path), len(list(tmp_path.iterdir()))) == ([1, 2, 3, 4], [], 2)
    assert JsonLinesFiles(tmp_path).schema().names == ["n"]


@pytest.mark.parametrize("is_flushed", [False, True])
def test_what_is_abandoned_is_gone_though_it_was_flushed_and_what_was_there_before_is_not(
    tmp_path: Path, is_flushed: bool
) -> None:
    made = appender(tmp_path)
    made.append(batch(1))
    made.flush()
    before = made.size_bytes
    made.append(batch(2))
    if is_flushed:
        made.flush()
    made.abandon(before)
    made.append(batch(3))
    made.flush()
    made.roll()
    assert visible(tmp_path) == [1, 3]


def test_nothing_is_left_of_a_file_that_was_never_flushed(tmp_path: Path) -> None:
    made = appender(tmp_path)
    made.append(batch(1))
    made.abandon(0)
    made.abandon(0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    made = appender(tmp_path)
    made.append(batch(1))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SinkError, match=f"{tmp_path}: no space left"):
        made.flush()
    made.abandon(0)
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import os, sys
import pyarrow as pa
from raflow.connectors.files import JsonLinesFiles
from raflow.sinks import SinkContext

made = JsonLinesFiles(sys.argv[1]).appender(SinkContext("run"), "events.killed")
made.append(pa.record_batch({"n": [1, 2]}))
made.flush()
made._file.write(b'{"n": 3')
print("written", flush=True)
sys.stdin.read()
"""


def killed(folder: Path) -> subprocess.Popen[str]:
    """A process that has an open file with half a line at its end."""
    line = [sys.executable, "-c", PROGRAM, str(folder)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "written\n"
    return process


def test_the_next_appender_publishes_what_a_killed_process_has_left_without_the_half_line(tmp_path: Path) -> None:
    with killed(tmp_path) as process:
        alive = appender(tmp_path, "events.2")
        assert (visible(tmp_path), len(hidden(tmp_path))) == ([], 1), "the file of one that lives is not touched"
        process.send_signal(signal.SIGKILL)
        process.wait()
    alive.append(batch(9))
    appender(tmp_path, "events.3")
    assert visible(tmp_path) == [1, 2]
    alive.roll()
    assert visible(tmp_path) == [9, 1, 2]


@pytest.mark.parametrize("text", [b"", b'{"n": ', b"x" * 200_000])
def test_a_dead_file_without_a_whole_line_goes_away(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ".appending-part-run-unit-0-0.jsonl").write_bytes(text)
    appender(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_long_half_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / ".appending-part-run-unit-0-0.jsonl").write_bytes(b'{"n":1}\n' + b"x" * 200_000)
    appender(tmp_path)
    assert visible(tmp_path) == [1]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("memory://folder", {}),
        ("folder", {"partition_by": "n"}),
        ("folder", {"compression": "gzip"}),
        ("folder", {"max_rows_per_file": 10}),
    ],
)
def test_other_files_have_no_appender(tmp_path: Path, path: str, options: dict[str, Any]) -> None:
    where = path if "://" in path else str(tmp_path / path)
    assert JsonLinesFiles(where, **options).appender(RUN, "u") is None
    assert ParquetFiles(tmp_path).appender(RUN, "u") is None
