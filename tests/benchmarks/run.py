"""Measures raflow against its peers, side by side: python tests/benchmarks/run.py [--rows N] [--data FOLDER].

Each contender runs in a process of its own, in turn (A B C A B C …), so that drift of the machine hits all
of them; the table has medians. A ratio is printed only if all contenders wrote the same rows. The start of
Ray is start-up, printed apart. So is the start of Ray Data's workers, by a small job before the clock starts.
raflow's replicas start with the run: it is compared once with their start and once, for the targets, without.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

ROOT = Path(__file__).parents[2]
ROWS, ROUNDS, TRIES = 20_000_000, 3, 9
TIMEOUT_S, PATIENCE_S = 1800, 10
FLOWS = ("groupby", "tpch", "hops", "robber", "wordcount", "images", "memory")
PEERS = "tests.benchmarks.peers"
PACKAGES = ("raflow", "ray", "pyarrow", "daft", "polars", "dotflow")
CONTENDERS: dict[str, dict[str, list[str]]] = {
    "etl": {
        "raflow": ["tests.benchmarks.ours"],
        "Ray Data, tasks": [f"{PEERS}.ray_data", "tasks"],
        "Ray Data, actors": [f"{PEERS}.ray_data", "actors"],
        "2 pyarrow processes": [f"{PEERS}.processes"],
        "Daft on Ray": [f"{PEERS}.daft_etl", "ray"],
        "Daft, native": [f"{PEERS}.daft_etl", "native"],
        "Polars, streaming": [f"{PEERS}.polars_etl"],
    },
    "record": {
        "raflow": ["tests.benchmarks.ours"],
        "Ray Data, map": [f"{PEERS}.ray_data", "tasks"],
    },
    "documents": {"raflow": ["tests.benchmarks.ours"]},
}
TITLES = {
    "etl": "Arrow function, Parquet to Parquet",
    "record": "record function, 3 of 8 columns",
    "documents": "records of 100 KB",
}
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "POLARS_MAX_THREADS": "2",
}

Result = dict[str, Any]


class Invalid(Exception):
    """The figures cannot be compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="of the trips; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of generated data, which is kept")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    code = _code()
    with _folder(options.data, options.rows) as data:
        _python("-m", "tests.benchmarks.generate", str(data), str(options.rows))
        rows = [row for workload in CONTENDERS for row in _told(_lines(workload, data, options.rounds))]
        rows += _told(_small(data))
    flows = (["tests.benchmarks.flows", name, "--json"] for name in FLOWS)
    for module in (["tests.benchmarks.steps"], *flows, ["tests.benchmarks.http", "--json"]):
        rows += _told([tuple(row) for row in json.loads(_python("-m", *module).splitlines()[-1])])
    if _code() != code:
        msg = "raflow's code changed while it was measured: the figures are not of one version; run again"
        raise Invalid(msg)
    _print(rows, options)


def _told(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Print rows as soon as they are measured, too: whoever ends the run early keeps them."""
    for row in rows:
        print(" | ".join(row), file=sys.stderr, flush=True)
    return rows


def _code() -> dict[str, int]:
    """Return when each module of raflow was last changed."""
    return {str(path): path.stat().st_mtime_ns for path in (ROOT / "raflow").rglob("*.py")}


@contextmanager
def _folder(kept: Path | None, rows: int) -> Iterator[Path]:
    if kept:
        yield kept / str(rows)
        return
    with tempfile.TemporaryDirectory(prefix="raflow-benchmark-") as folder:
        yield Path(folder)


def _python(*arguments: str, **variables: str) -> str:
    """Run Python in a process group of its own, which is ended if it takes too long; returns what it printed.

    Variables are added to its environment.
    """
    command = [sys.executable, *arguments]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            env={**ENVIRONMENT, **variables},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            _end(process)
            raise
        finally:
            _sweep(process.pid)
        if process.returncode:
            errors.seek(0)
            msg = f"{' '.join(arguments)} ended with {process.returncode}:\n{errors.read().decode()[-4000:]}"
            raise RuntimeError(msg)
    return printed.decode()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group; it may end its own contenders first."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _sweep(session: int) -> None:
    """End what a process has left behind in its session: an actor of Xenna's outlives its Ray."""
    for left in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(left) == session:
                os.kill(left, signal.SIGKILL)


# -- contenders ---------------------------------------------------------------------------------------


def _lines(workload: str, data: Path, rounds: int) -> list[tuple[str, ...]]:
    found = _rounds(workload, data, rounds)
    _check_equal(workload, found)
    medians = {name: _median(results) for name, results in found.items()}
    return [*_ratios(workload, medians), _memory(workload, found["raflow"])]


def _rounds(workload: str, data: Path, rounds: int) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {name: [] for name in CONTENDERS[workload]}
    for number in range(rounds):
        for name, (module, *extra) in CONTENDERS[workload].items():
            result = _contender(module, workload, data, extra)
            found[name].append(result)
            print(f"{workload} {number + 1}/{rounds} {name}: {result['seconds']:.2f} s", file=sys.stderr)
    return found


def _contender(module: str, workload: str, data: Path, extra: list[str]) -> Result:
    out = data / "out"
    shutil.rmtree(out, ignore_errors=True)
    os.sync()  # what the last one wrote is not to be flushed in this one's time
    try:
        printed = _python("-m", module, workload, str(data), str(out), *extra)
        return {**json.loads(printed.splitlines()[-1]), **_checksums(out)}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _checksums(out: Path) -> Result:
    """Return the number of rows and the sum of each numeric column."""
    written = pyarrow.dataset.dataset(out, format="parquet")
    numeric = [f.name for f in written.schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    sums = dict.fromkeys(sorted(numeric), 0.0)
    for batch in written.to_batches(columns=numeric):
        for name in numeric:
            sums[name] += pc.sum(batch[name]).as_py() or 0
    return {"rows": written.count_rows(), "sums": sums}


def _check_equal(workload: str, found: dict[str, list[Result]]) -> None:
    first = found["raflow"][0]
    for name, results in found.items():
        for result in results:
            if result["rows"] != first["rows"] or result["sums"].keys() != first["sums"].keys():
                same = False
            else:
                pairs = zip(result["sums"].values(), first["sums"].values(), strict=True)
                same = all(math.isclose(left, right, rel_tol=1e-9) for left, right in pairs)
            if not same:
                msg = f"{workload}: {name} wrote {_shown(result)}, raflow {_shown(first)}; no ratio is printed"
                raise Invalid(msg)


def _shown(result: Result) -> str:
    return f"{result['rows']} rows with the sums {result['sums']}"


def _median(results: list[Result]) -> Result:
    names = [name for name, value in results[0].items() if isinstance(value, float)]
    return {name: statistics.median(result[name] for result in results) for name in names}


def _ratios(workload: str, medians: dict[str, Result]) -> Iterator[tuple[str, ...]]:
    ours = medians["raflow"]
    ray_data = [name for name in medians if name.startswith("Ray Data")]
    fastest = min(ray_data, key=lambda name: medians[name]["seconds"], default=None)
    for name, peer in medians.items():
        if name == "raflow":
            continue
        all_in = _compared(peer["seconds"] / ours["seconds"])
        yield TITLES[workload], _timed(ours), f"{name} {_timed(peer)}", all_in, ""
        if name != fastest and "workers_s" not in peer:
            continue
        ratio = _working(peer) / _working(ours)
        least = 1 / 0.8 if "workers_s" in peer else 3.2 if workload == "etl" else 12.0
        yield (
            f"{TITLES[workload]}, start of workers excluded", f"{_working(ours):.2f} s",
            f"{name} {_working(peer):.2f} s", _compared(ratio), f"≥ {least:g} × faster: {_verdict(ratio >= least)}",
        )  # fmt: skip
        mine, theirs = (_working(one) + one["sync_s"] for one in (ours, peer))
        title = f"{TITLES[workload]}, start of workers excluded, until all is on the disk"
        yield title, f"{mine:.2f} s", f"{name} {theirs:.2f} s", _compared(theirs / mine), ""


def _compared(ratio: float) -> str:
    return f"{ratio:.2f} × faster, {1 / ratio:.2f} × its time"


def _working(result: Result) -> float:
    return float(result["seconds"] - result.get("workers_s", 0.0))


def _timed(result: Result) -> str:
    return f"{result['seconds']:.2f} s (start-up {result['start_up_s']:.2f} s)"


def _memory(workload: str, results: list[Result]) -> tuple[str, ...]:
    peak = max(result["peak_mb"] for result in results)
    return (
        f"peak memory of a replica: {TITLES[workload]}",
        f"{peak:.0f} MiB",
        "",
        "",
        f"< 1024 MiB: {_verdict(peak < 1024)}",
    )


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "MISSED"


# -- what has no contender ----------------------------------------------------------------------------


def _small(data: Path) -> list[tuple[str, ...]]:
    loaded = _python("-c", "import sys, raflow; print(*{'ray', 'pandas'} & sys.modules.keys())").split()
    heavy = f"loads {', '.join(loaded)}" if loaded else "without ray and pandas"
    bare, used = _import_s("import raflow"), _import_s("from raflow import Flow")
    is_light = bare < 0.15 and not loaded
    first = _median([json.loads(_first_record(data).splitlines()[-1]) for _ in range(TRIES)])["seconds"]
    return [
        ("import raflow", f"{bare:.3f} s, {heavy}", "", "", f"< 0.15 s: {_verdict(is_light)}"),
        ("from raflow import Flow", f"{used:.3f} s", "", "", ""),
        ("local engine: run() to first record", f"{first:.3f} s", "", "", f"< 0.3 s: {_verdict(first < 0.3)}"),
    ]


def _first_record(data: Path) -> str:
    return _python("-m", "tests.benchmarks.ours", "first_record", str(data), "-")


def _import_s(statement: str) -> float:
    code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    return statistics.median(float(_python("-c", code)) for _ in range(TRIES))


# -- the table ----------------------------------------------------------------------------------------


def _print(rows: list[tuple[str, ...]], options: argparse.Namespace) -> None:
    print(f"\n{_machine()}\n{_versions(PACKAGES)}")
    print(f"{options.rows:,} trips, median of {options.rounds} ({TRIES} for the last two), 2 CPUs each")
    if options.rows < ROWS:
        print(f"Not the size that the targets are for ({ROWS:,}): fixed costs weigh more here")
    show(rows)


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print the rows as a table."""
    print()
    head = ("work", "raflow", "peer", "raflow is", "target")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, tuple("-" * width for width in widths), *rows]:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f} at the end"


def _versions(packages: Sequence[str]) -> str:
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


if __name__ == "__main__":
    main()
