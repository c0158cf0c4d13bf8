"""How a contender measures itself and tells the runner; the same code for all of them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_S = 0.25

Steps = tuple[Callable[[], object], Callable[[], object]]
"""What starts a contender up, and its work, which may return measurements of its own."""


def contend(steps: Steps) -> None:
    """Start up, work, and print one line of JSON.

    `seconds` is everything after the start-up, by this clock for all; `workers_s` is how much of it went by
    until a worker was ready, where a contender can tell. `sync_s` is how long it then takes until all that was
    written is on the disk, where raflow has it already.
    """
    start_up, work = steps
    began = time.perf_counter()
    start_up()
    ready = time.perf_counter()
    with Peak() as peak:
        own = work()
        took = time.perf_counter() - ready
    os.sync()
    synced = time.perf_counter() - ready - took
    told = own if isinstance(own, dict) else {}
    found = {"start_up_s": ready - began, "seconds": took, "sync_s": synced, "peak_mb": peak.mb, **told}
    print(json.dumps(found), flush=True)


def start_ray() -> None:
    """Start a Ray with the settings that all contenders on Ray get."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)


def arguments() -> tuple[str, Path, Path]:
    """Return workload, data folder and output folder."""
    workload, data, out = sys.argv[1:4]
    return workload, Path(data), Path(out)


class Peak:
    """The largest high-water mark of memory among the processes that do the work.

    These are Ray's workers (`ray::…`) if there are any, else this process and its children. The kernel
    keeps the mark (VmHWM), so that looking now and then misses nothing but the last quarter second.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._marks: dict[tuple[int, bool], float] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._look()
        self._over.set()
        self._thread.join()

    @property
    def mb(self) -> float:
        """In MiB."""
        workers = [mark for (_, is_worker), mark in self._marks.items() if is_worker]
        return max(workers or self._marks.values(), default=0.0)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        marks: dict[int, float] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                lines = (entry / "status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines)
                parents[int(entry.name)] = int(status["PPid"])
                marks[int(entry.name)] = int(status.get("VmHWM", "0 kB").split()[0]) / 1024
            except OSError:
                continue  # it ended meanwhile
        for pid in _family(parents):
            self._marks[pid, _is_worker(pid)] = marks[pid]


def _family(parents: dict[int, int]) -> set[int]:
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False
