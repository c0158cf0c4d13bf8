"""HTTP that goes on: a minute of load while replicas die, join and leave, and websockets that do nothing."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from websockets.asyncio.client import connect

from raflow.runtime.run import Run
from tests.benchmarks import http_flow

Row = tuple[str, str, str, str, str]
LOAD_S, CONNECTIONS = 60, 32
WEBSOCKETS, MOST_MB = 1_000, 100
NUMBERED = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() number, acked = 0, 0 end
function request()
  number = number + 1
  local body = '{"id":' .. number .. ',"name":"n","value":0.5}'
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
function response(status) if status == 200 then acked = acked + 1 end end
function done(summary)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('{"acked": %d, "failed": %d}\\n', threads[1]:get("acked"), failed))
end
"""
"""Counts in its one thread; the last line that it prints is what has become of its requests."""


def load(seconds: int, rounds: int) -> Iterator[Row]:
    """A collector under load: one of two replicas is killed, a third one joins, one leaves."""
    del seconds, rounds
    shutil.rmtree(http_flow.OUT, ignore_errors=True)
    flow = http_flow.made(min_replicas=2, max_replicas=3, num_cpus=0.5, target_ongoing_requests=1000)
    run = flow.start(engine="ray", port=0)
    http_flow.ready(f"{run.url}/readyz")
    serving(run, 2)
    acked, failed, in_time = shaken(run)
    run.drain()
    run.wait()
    rows = Counter(line for path in written() for line in path.read_text().splitlines())
    twice, total = sum(count > 1 for count in rows.values()), rows.total()
    # What wrk had under way when it ended, at most one per connection, is written and not told.
    whole = not twice and acked <= total <= acked + failed + CONNECTIONS
    late = "" if in_time else ", the machine was too slow to do it all under load"
    reached = "reached" if whole and in_time and failed <= CONNECTIONS else "MISSED"
    yield (
        f"collector, {LOAD_S} s: a replica is killed, one joins, one leaves",
        f"{acked:,} acknowledged, {failed} failed, {total:,} rows, {twice} twice{late}", "", "",
        f"failed ≤ {CONNECTIONS} in flight, rows as acknowledged: {reached}",
    )  # fmt: skip


def shaken(run: Run) -> tuple[int, int, bool]:
    """Returns how many requests were acknowledged, how many failed, and whether all was done while it lasted."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(NUMBERED)
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LOAD_S}s", "-s", script.name, f"{run.url}/written"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            time.sleep(LOAD_S / 12)
            os.kill(httpx.get(f"{run.url}/pid", timeout=60).json(), signal.SIGKILL)
            for replicas in (3, 2):
                time.sleep(LOAD_S / 12)
                serving(run, 5 - replicas)
                run.scale(replicas)
            serving(run, 2)
            in_time = process.poll() is None
            printed, _ = process.communicate()
    told = json.loads(printed.splitlines()[-1])
    return told["acked"], told["failed"], in_time


def written() -> list[Path]:
    return list((http_flow.OUT / "written").glob("[!.]*.jsonl"))


def serving(run: Run, replicas: int) -> None:
    """Wait until so many replicas answer, and no others are there."""
    until(
        lambda: (
            (http := run.stats().http) is not None and (http.replicas, http.starting, http.leaving) == (replicas, 0, 0)
        )
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def idle(seconds: int, rounds: int) -> Iterator[Row]:
    """The memory that websockets take in which nothing happens."""
    del seconds, rounds
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * WEBSOCKETS + 500), most))
    shutil.rmtree(http_flow.OUT, ignore_errors=True)
    run = http_flow.made(num_replicas=1).start(engine="ray", port=0)
    http_flow.ready(f"{run.url}/readyz")
    taken = asyncio.run(taken_mb(run.url or "", httpx.get(f"{run.url}/pid").json()))
    run.drain(1.0)
    run.wait()
    reached = "reached" if taken < MOST_MB else "MISSED"
    yield (f"{WEBSOCKETS:,} idle websockets", f"{taken:.0f} MB more", "", "", f"< {MOST_MB} MB: {reached}")


async def taken_mb(url: str, pid: int) -> float:
    before = resident_mb(pid)
    many = [connect(f"{url.replace('http', 'ws', 1)}/talk", ping_interval=None) for _ in range(WEBSOCKETS)]
    opened = [await one for one in many]
    for one in opened:
        await one.send("hello")
        await one.recv()
    after = resident_mb(pid)
    await asyncio.gather(*(one.close() for one in opened))
    return after - before


def resident_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
