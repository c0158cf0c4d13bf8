"""Measures HTTP beside plain uvicorn and Ray Serve: python -m tests.benchmarks.http [--seconds S] [--rounds N].

Load comes from `wrk` (a Debian package), 32 connections that are kept alive, on the same cores as the
servers. Plain uvicorn and Ray Serve serve the same function with FastAPI; figures are medians of rounds in turn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.json as pj

from raflow import Flow
from tests.benchmarks import http_flow, http_load, run
from tests.benchmarks.http_flow import ready

BODY = json.dumps({"id": 7, "name": "a name", "value": 0.5})
SCRIPT = 'wrk.method="POST"; wrk.headers["Content-Type"]="application/json"; wrk.body=[[{body}]]'
Row = tuple[str, str, str, str, str]
PACKAGES = ("raflow", "ray", "fastapi", "uvicorn", "pyarrow")
LINES = 200_000


class Load(NamedTuple):
    """What `wrk` tells."""

    per_s: float
    p99_ms: float
    failed: int


def load(url: str, seconds: int, connections: int = 32) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(body=BODY))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    per_s = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    amount, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    errors = re.findall(r"(?:Non-2xx or 3xx responses: |connect |read |write |timeout )(\d+)", text)
    return Load(per_s, float(amount) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit], sum(map(int, errors)))


@contextmanager
def plain(module: str = "tests.benchmarks.http_flow") -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", module, str(port)]) as process:
        url = f"http://127.0.0.1:{port}"
        ready(f"{url}/openapi.json")
        yield url
        process.terminate()


@contextmanager
def served(flow: Flow, out: Path) -> Iterator[str]:
    shutil.rmtree(out, ignore_errors=True)
    running = flow.start(engine="ray", port=0)
    assert running.url
    ready(f"{running.url}/readyz")
    yield running.url
    running.drain()
    running.wait()


def measured(urls: dict[str, str], seconds: int, rounds: int) -> dict[str, Load]:
    found: dict[str, list[Load]] = {name: [] for name in urls}
    for _ in range(rounds):
        for name, url in urls.items():
            found[name].append(load(url, seconds))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return {name: Load(*map(statistics.median, zip(*loads, strict=True))) for name, loads in found.items()}


def row(work: str, ours: Load, theirs: Load, least: float, p99: float | None = None) -> Row:
    ratio = ours.per_s / theirs.per_s
    mine = f"{ours.per_s:,.0f}/s, p99 {ours.p99_ms:.1f} ms" + (f", {ours.failed} failed" if ours.failed else "")
    peer = f"{theirs.per_s:,.0f}/s, p99 {theirs.p99_ms:.1f} ms"
    reached = ratio >= least and (p99 is None or ours.p99_ms <= p99 * theirs.p99_ms)
    target = f"≥ {least:g} ×" + (f", p99 ≤ {p99:g} ×" if p99 else "")
    told = f"{ratio:.2f} × its rate, p99 {ours.p99_ms / theirs.p99_ms:.2f} ×"
    return (work, mine, peer, told, f"{target}: {'reached' if reached else 'MISSED'}")


def per_replica(seconds: int, rounds: int) -> Iterator[Row]:
    with ExitStack() as stack:
        base = stack.enter_context(plain())
        own = stack.enter_context(served(http_flow.made(num_replicas=1), http_flow.OUT))
        urls = {"uvicorn": f"{base}/echo"} | {
            name: f"{own}/{name}" for name in ("echo", "accepted", "written", "parquet")
        }
        found = measured(urls, seconds, rounds)
    alone = found["uvicorn"]
    yield row("endpoint, JSON, one replica", found["echo"], alone, 0.85, 1.3)
    yield row("collector, accepted", found["accepted"], alone, 0.85, 1.3)
    yield row("collector, written to JSON Lines with fsync", found["written"], alone, 0.6)
    yield row("collector, written to Parquet, 50 ms linger", found["parquet"], alone, 0.0)


def ray_serve(seconds: int, rounds: int) -> Iterator[Row]:
    with ExitStack() as stack:  # apart from uvicorn: Ray Serve's controller and proxy take time also when idle
        theirs = stack.enter_context(plain("tests.benchmarks.peers.ray_serve"))
        own = stack.enter_context(served(http_flow.made(num_replicas=1), http_flow.OUT))
        found = measured({"Ray Serve": f"{theirs}/echo", "echo": f"{own}/echo"}, seconds, rounds)
    yield row("endpoint, JSON, one replica, beside Ray Serve", found["echo"], found["Ray Serve"], 1.0)


def two_replicas(seconds: int, rounds: int) -> Iterator[Row]:
    found = []
    for replicas in (1, 2):
        flow = http_flow.made(num_replicas=replicas, num_cpus=0.5)
        with served(flow, http_flow.OUT) as url:
            found.append(measured({f"{replicas} replicas": f"{url}/echo"}, seconds, rounds).popitem()[1])
    yield row("endpoint, two replicas against one", found[1], found[0], 1.4)


def bulk(seconds: int, rounds: int) -> Iterator[Row]:
    del seconds
    lines = (BODY + "\n").encode() * LINES
    flow = http_flow.made(num_replicas=1, num_cpus=2)  # `read_json` alone has both, too
    mb = len(lines) / 1e6
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile())
        file.write(lines)
        file.flush()
        address = stack.enter_context(served(flow, http_flow.OUT)).removeprefix("http://")
        client = stack.enter_context(closing(http.client.HTTPConnection(address, timeout=120)))

        def send(route: str) -> None:
            client.request("POST", route, lines, {"Content-Type": "application/x-ndjson"})
            reply = client.getresponse().read()
            assert json.loads(reply) == {"success": True, "records": LINES}, reply[:200]

        def alone() -> None:
            pj.read_json(file.name)

        for route, sink in (("/bulk_parquet", "Parquet"), ("/bulk", "JSON Lines")):
            send(route)  # the first one makes the replica import what it needs
            turns = [(timed(partial(send, route)), timed(alone)) for _ in range(10 * rounds)]
            ours, theirs = map(statistics.median, zip(*turns, strict=True))
            yield (
                f"NDJSON bulk, {LINES:,} lines, {mb:.0f} MB, to {sink}", f"{mb / ours:.0f} MB/s",
                f"{mb / theirs:.0f} MB/s (pyarrow.json.read_json alone)", f"{theirs / ours:.2f} × its rate",
                f"≥ 0.6 ×: {'reached' if theirs / ours >= 0.6 else 'MISSED'}",
            )  # fmt: skip


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def scale_up(seconds: int, rounds: int) -> Iterator[Row]:
    del seconds, rounds
    flow = http_flow.made(min_replicas=1, max_replicas=2, num_cpus=0.5, target_ongoing_requests=8)
    shutil.rmtree(http_flow.OUT, ignore_errors=True)
    running = flow.start(engine="ray", port=0)
    ready(f"{running.url}/readyz")
    process = subprocess.Popen(["wrk", "-t1", "-c32", "-d30s", f"{running.url}/slow"], stdout=subprocess.DEVNULL)
    began = time.monotonic()
    while (http := running.stats().http) and http.replicas < 2 and time.monotonic() < began + 30:
        time.sleep(0.01)
    took = time.monotonic() - began
    process.terminate()
    process.wait()
    running.drain()
    running.wait()
    yield ("scale-up from 1 to 2 replicas", f"{took:.1f} s", "", "", f"≤ 3 s: {'reached' if took <= 3 else 'MISSED'}")


CASES = {
    "replica": per_replica,
    "serve": ray_serve,
    "two": two_replicas,
    "bulk": bulk,
    "scale": scale_up,
    "load": http_load.load,
    "idle": http_load.idle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        said = [("HTTP", "not measured: wrk is not installed (apt-get install wrk)", "", "", "")]
        print(json.dumps(said) if options.json else said[0][1])
        return
    rows = [row for name in options.names or CASES for row in CASES[name](options.seconds, options.rounds)]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"\n{run._machine()}\n{run._versions(PACKAGES)}")
    run.show(rows)


if __name__ == "__main__":
    main()
