"""Programs and outputs that go wrong while they run, and what the command line says then."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner

from raflow import Flow, FlowOptions, RunFailed, consumer
from raflow.cli import main
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.engines.ray import cluster
from raflow.errors import (
    ClusterUnreachable,
    InvalidOption,
    NoCapacity,
    NotPicklable,
)
from raflow.runtime import dispatch

RECORDS = MemorySource([{"n": n, "text": os.urandom(60).hex()} for n in range(40_000)], rows_per_split=5_000)


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def arrow(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def run(code: Any, source: Any, sink: Any = None, engine: str = "local", **options: Any) -> Any:
    flow = Flow("bad")
    flow.add_consumer(consumer(source=source, sink=sink, name="p", **{"num_replicas": 1, **options})(code))
    return flow.run(engine=engine)


# -- results and errors of user code --------------------------------------------------------------


class Coded(Exception):
    """Cannot be unpickled: its constructor wants what its args do not hold."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class Held(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def returns_lock(record: dict[str, Any]) -> Any:
    return threading.Lock()


def returns_keys(record: dict[str, Any]) -> Any:
    return {1: 2}


def returns_object(record: dict[str, Any]) -> Any:
    return {"x": object()}


def yields_and_raises(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield record
    msg = "midway"
    raise ValueError(msg)


async def raises_later(record: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    msg = "in a coroutine"
    raise ValueError(msg)


def chained(record: dict[str, Any]) -> None:
    try:
        record["nowhere"]
    except KeyError as error:
        raise Coded(7, reason="chained") from error


def in_handler(record: dict[str, Any]) -> None:
    try:
        record["nowhere"]
    except KeyError:
        raise Held("in a handler")  # noqa: B904 - that is the case


def causes_itself(record: dict[str, Any]) -> None:
    error = ValueError("itself")
    raise error from error


def recurses(record: dict[str, Any]) -> None:
    recurses(record)


FAILING = [
    (returns_lock, r"the function returned a lock \(.*\); return a dict, a dataclass", []),
    (returns_keys, r"the function returned a dict with the key 1, which is no str", []),
    (returns_object, r"field 'x' is a object .*; the record: \{'x'", []),
    (yields_and_raises, "ValueError: midway", ["in yields_and_raises"]),
    (raises_later, "ValueError: in a coroutine", ["in raises_later"]),
    (chained, "Coded: 7: chained", ["KeyError: 'nowhere'", "direct cause", "in chained"]),
    (in_handler, "Held: in a handler", ["KeyError: 'nowhere'", "During handling", "in in_handler"]),
    (causes_itself, "ValueError: itself", ["in causes_itself"]),
    (recurses, "RecursionError: maximum recursion depth", ["in recurses", "Previous line repeated"]),
]


@pytest.mark.parametrize(("code", "pattern", "shown"), FAILING)
def test_what_user_code_does_wrong_is_told_with_its_record_and_its_frames_only(
    code: Any, pattern: str, shown: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=rf"^processor 'p' failed in process at record 0: {pattern}") as caught:
        run(code, MemorySource([{"n": 1}]), ParquetFiles(tmp_path / "out"))
    assert [text for text in shown if text not in caught.value.traceback] == []
    assert "raflow/runtime" not in caught.value.traceback
    assert "asyncio" not in caught.value.traceback
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.ray
@pytest.mark.parametrize(("code", "pattern", "shown"), FAILING[5:7])
def test_an_error_that_cannot_travel_is_told_by_type_text_and_traceback(
    code: Any, pattern: str, shown: list[str], ray_session: None
) -> None:
    with pytest.raises(RunFailed, match=rf"^processor 'p' failed in process at record 0: {pattern}") as caught:
        run(code, MemorySource([{"n": 1}]), engine="ray")
    assert [text for text in shown if text not in caught.value.traceback] == []


@pytest.mark.ray
def test_code_that_ends_its_process_fails_the_run_and_says_in_which_split(ray_session: None) -> None:
    def leaves(record: dict[str, Any]) -> None:
        os._exit(3)

    with pytest.raises(RunFailed, match=r"3 replicas of 'p' died in records 0-1; .* called os\._exit"):
        run(leaves, MemorySource([{"n": 1}]), engine="ray")


@pytest.mark.ray
def test_what_a_replica_prints_and_logs_is_shown_with_its_name(
    ray_session: None, capfd: pytest.CaptureFixture[str]
) -> None:
    def talks(record: dict[str, Any]) -> None:
        print("printed", record["n"])
        logging.debug("logged %s", record["n"])

    flow = Flow("talks", FlowOptions(num_replicas=1, log_level="DEBUG"))
    flow.add_consumer(consumer(source=MemorySource([{"n": 1}]), name="p")(talks))
    flow.run(engine="ray")
    told, deadline = "", time.monotonic() + 20
    while ("printed 1" not in told or "logged 1" not in told) and time.monotonic() < deadline:
        told += "".join(capfd.readouterr())
        time.sleep(0.02)
    lines = [line for line in told.splitlines() if "printed" in line or "logged" in line]
    assert len(lines) == 2, told
    assert all("p[0] pid=" in line for line in lines)


@pytest.mark.ray
def test_a_captured_object_that_cannot_travel_is_named(ray_session: None) -> None:
    guard = threading.Lock()

    def locks(record: dict[str, Any]) -> None:
        guard.acquire()

    with pytest.raises(RunFailed, match=r"'p' cannot be sent to a replica: it captures guard \(lock\)") as caught:
        run(locks, RECORDS, engine="ray")
    assert isinstance(caught.value.__cause__, NotPicklable)


@pytest.mark.ray
def test_more_cpus_than_there_are_is_told_with_what_there_is(ray_session: None) -> None:
    began = time.monotonic()
    with pytest.raises(RunFailed, match=r"placed.*: one needs CPU 1000; available: CPU .*B") as caught:
        run(same, RECORDS, engine="ray", num_cpus=1000, start_timeout_s=1)
    assert isinstance(caught.value.__cause__, NoCapacity)
    assert time.monotonic() - began < 10


@pytest.mark.ray
def test_a_pool_that_a_cluster_never_makes_room_for_ends_the_run(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "is_own", lambda: False)  # raflow cannot know that this one does not grow
    monkeypatch.setattr(dispatch, "_LINE", 1)
    half = cluster.capacity().resources["CPU"] / 2
    flow = Flow(flow_options=FlowOptions(start_timeout_s=2))
    stream = flow.read(MemorySource([{"n": n} for n in range(50)], rows_per_split=1))
    for name in ("first", "second", "third"):
        stream = stream.map(lambda record: record, name=name, num_cpus=half, fuse=False)
    stream.write(MemorySink())
    with pytest.raises(RunFailed, match=r"no replica of 'third' could be placed after 2 s: one needs CPU"):
        flow.run(engine="ray")


def test_memory_files_are_refused_on_ray_before_it_starts() -> None:
    with pytest.raises(InvalidOption, match=r"ParquetFiles\('memory://x/y'\) of 'p' lives in the memory of one proc"):
        run(same, RECORDS, ParquetFiles("memory://x/y"), engine="ray")


# -- full disks -----------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


def rows(folder: Path) -> list[int]:
    """What a reader of the folder sees."""
    files = [str(path) for path in folder.glob("[!.]*.parquet")]
    found: list[int] = ds.dataset(files).to_table(columns=["n"])["n"].to_pylist() if files else []
    return sorted(found)


def test_a_full_disk_loses_nothing_that_is_committed_and_a_resume_does_the_rest(disk: Path) -> None:
    flow = Flow("full", FlowOptions(num_replicas=1))
    flow.add_consumer(consumer(source=RECORDS, sink=ParquetFiles(disk / "out"), name="p")(arrow))
    with pytest.raises(RunFailed, match=r"writing to .*/disk/out: no space left on the disk; free some and resume"):
        flow.run(engine="local")
    assert len(rows(disk / "out")) % 5_000 == 0
    enlarge(disk)
    flow.run(engine="local", resume="last")
    assert rows(disk / "out") == list(range(40_000))
    assert [path.name for path in (disk / "out").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("free_kib", [8, 100])
def test_a_full_ledger_disk_stops_the_run_and_a_resume_does_the_rest(disk: Path, tmp_path: Path, free_kib: int) -> None:
    program = """
from raflow.connectors.files import ParquetFiles
app = Flow()
@app.consumer(source=MemorySource([{"n": n} for n in range(300)], rows_per_split=1), sink=ParquetFiles("out"))
def same(record: dict) -> dict:
    return record
"""
    ledger = disk / "ledger"
    (disk / "fill").write_bytes(bytes((1020 - free_kib) << 10))
    code, text = raflow(tmp_path, program, RAFLOW_LEDGER=str(ledger))
    assert code == 1
    assert re.search(rf"the ledger of run \S+ at {ledger} cannot be written .*: no space left on the disk", text)
    (disk / "fill").unlink()
    enlarge(disk)
    resume = ["--resume", "last"] if any(ledger.rglob("log/*.jsonl")) else []
    code, text = raflow(tmp_path, program, "program.py", *resume, RAFLOW_LEDGER=str(ledger))
    assert code == 0, text
    assert rows(tmp_path / "out") == list(range(300))
    assert list((tmp_path / "out").glob(".*")) == []


# -- the command line -----------------------------------------------------------------------------


def write(folder: Path, program: str) -> None:
    (folder / "program.py").write_text(f"from raflow import Flow\nfrom raflow.connectors.memory import *\n{program}")


def raflow(folder: Path, program: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a program by the command line; returns its exit code and what it printed."""
    write(folder, program)
    command = [sys.executable, "-m", "raflow", "run", *(arguments or ["program.py"])]
    ended = subprocess.run(
        command, check=False, cwd=folder, env={**os.environ, "RAFLOW_ENGINE": "local", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    return ended.returncode, ended.stdout


GOOD = """
app = Flow()
@app.consumer(source=MemorySource([{"n": 1}]))
def double(record: dict) -> dict:
    return record
"""
SERVED = "app = Flow()\n@app.service('/prices').endpoint('/now')\ndef price(): return 1\n"
USAGE: list[tuple[str, list[str], str]] = [
    ("", ["nofile.py"], "there is no file nofile.py; targets are"),
    ("", [], "program.py has no Flow; assign one at the top of the module: app = Flow()"),
    (GOOD + "other = Flow()", [], "program.py has several Flows: app, other; add :NAME"),
    (GOOD, ["program.py:ap"], "program has no 'ap'; did you mean 'app'?"),
    ("app = Flow()", [], "has no processors; add one with @flow.consumer"),
    ("def (", [], "program.py, line 3: SyntaxError"),
    (GOOD, ["program.py", "--set", "nonsense"], "'nonsense' is not PROCESSOR.OPTION=VALUE"),
    (GOOD, ["program.py", "--set", "duoble.num_replicas=1"], "no processor 'duoble'; did you mean 'double'?"),
    (SERVED, ["program.py", "--set", "price.linger_ms=1"], "no processor 'price'; did you mean '/prices'?"),
    (GOOD, ["program.py", "--set", "double.nope=1"], "there is no option 'nope'; options are: autoscale, batch_rows"),
    (GOOD, ["program.py", "--set", "double.num_replicas=many"], "num_replicas is 'many'"),
    (GOOD + GOOD.replace("app = Flow()", ""), [], "DuplicateName: flow 'raflow-app' has a processor 'double' already"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder; what the command does to its process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("program", None)


@pytest.mark.parametrize(("program", "arguments", "told"), USAGE)
def test_wrong_usage_exits_with_2_and_one_message_without_a_traceback_of_ours(
    program: str, arguments: list[str], told: str, here: Path
) -> None:
    write(here, program)
    done = CliRunner().invoke(main, ["run", *(arguments or ["program.py"]), "--engine", "local"])
    assert (done.exit_code, told in done.output.replace("\n", " ")) == (2, True), done.output
    assert "Traceback" not in done.output


def test_an_error_in_the_target_shows_the_users_traceback(tmp_path: Path) -> None:
    code, text = raflow(tmp_path, "import json\njson.loads('{')")
    assert code == 2
    assert "json.loads('{')" in text
    assert "program.py, line 4: JSONDecodeError" in text
    assert "loading.py" not in text


def test_a_failed_run_exits_with_1_and_the_message_last(tmp_path: Path) -> None:
    program = GOOD.replace("return record", "return record['m']")
    code, text = raflow(tmp_path, program)
    lines = [line for line in text.splitlines() if line]
    assert code == 1, text
    assert "return record['m']" in text
    assert lines[-1] == "processor 'double' failed in process at record 0: KeyError: 'm'"
    assert "/raflow/" not in text


def test_a_missing_package_of_the_program_is_told_where_it_is_imported(tmp_path: Path) -> None:
    blocker = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name=name)
sys.meta_path.insert(0, Blocker())
"""
    code, text = raflow(tmp_path, f"{blocker}\nimport polars as pl\n{GOOD}")
    assert code == 2
    assert "program.py, line 11: ModuleNotFoundError: No module named 'polars'" in text


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: .*refused; start one, or unset RAY_ADDRESS"),
        ("ray://head:10001", "is a Ray Client address; run the driver inside the cluster: ray job submit"),
        ("http://head:8265", "is the address of Ray's dashboard; run the driver inside the cluster: ray job submit"),
    ],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from raflow.engines.ray.cluster import _init

    began = time.monotonic()
    with pytest.raises(ClusterUnreachable, match=told):
        _init(address, None)
    assert time.monotonic() - began < 10
