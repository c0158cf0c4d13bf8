"""What every contender does with flows of several stages: sizes, inputs, functions and the traces they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import generate
from tests.benchmarks.measure import Steps

TRIPS, WORDS, IMAGES = 20_000_000, 10_000_000, 5_000
HOPS, MEMORY_HOPS, HOP_ROWS = 10_000, 100_000, 1_000
SLOTS, BATCH_ROWS = 12, 10
TRIES = 3
FAST_S, SLOW_S, MIDDLE_S = 0.05, 0.25, 0.1
SLEEPS: dict[str, tuple[int, list[float], list[float]]] = {
    "robber2": (1200, [FAST_S, SLOW_S], []),
    "robber3": (900, [FAST_S, SLOW_S, MIDDLE_S], []),
    "robber4": (800, [FAST_S, SLOW_S, MIDDLE_S, FAST_S], []),
    "robber_moves": (1200, [FAST_S, SLOW_S], [SLOW_S, FAST_S]),
}
"""Batches, what each stage sleeps, and what it does from the middle on if that is different. Ideal: 30 s each."""
WINDOW_S, STEP_S, BUSY = 3.0, 0.5, 0.85
"""Sizes are good once so much of all slots is busy in every such window."""
SIDE, SMALL, CLASSES = 224, 56, 128
TEXT_FILES, LINE_WORDS, VOCABULARY = 16, 10, 10_000
IMAGE_FILES, IMAGE_GROUP_ROWS = 8, 50


def arguments() -> tuple[str, Path, float]:
    """Return workload, folder of data and traces, and scale."""
    return sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])


def contend(steps: Steps) -> None:
    """Start up, work, and print one line of JSON.

    Unlike `measure.contend` it does not watch the memory: that would be in the CPU time of the driver.
    """
    start_up, work = steps
    began = time.perf_counter()
    start_up()
    ready, cpu = time.perf_counter(), time.process_time()
    own = work()
    took, used = time.perf_counter() - ready, time.process_time() - cpu
    told = own if isinstance(own, dict) else {"answer": own}
    print(json.dumps({"start_up_s": ready - began, "seconds": took, "driver_cpu_s": used, **told}), flush=True)


def start_ray(num_cpus: int = 2, **options: Any) -> None:
    """Start a Ray with the settings that all contenders on Ray get."""
    import ray

    quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    for tries_left in reversed(range(TRIES)):
        try:
            ray.init(address="local", num_cpus=num_cpus, **{**quiet, **options})
            return
        except Exception:  # on a busy machine Ray gives its own start too little time, and has no better error
            if not tries_left:
                raise
            ray.shutdown()


def cpus(workload: str) -> int:
    """Return what the Ray of a workload has; sleeping stages do not need real ones."""
    return SLOTS if workload in SLEEPS else 2


def sized(full: int, scale: float, step: int = 1) -> int:
    """Return a size at a scale, as a multiple of a step."""
    return max(round(full * scale / step), 1) * step


# -- inputs -------------------------------------------------------------------------------------------


def prepare(workload: str, data: Path, scale: float) -> None:
    """Write the input of a workload where it is not there yet."""
    data.mkdir(parents=True, exist_ok=True)
    if workload == "groupby":
        for file in range(generate.FILES):
            rows = sized(TRIPS, scale) // generate.FILES
            generate._write(data / f"trips-{file:02}.parquet", generate.trips, file, rows, generate.ROW_GROUP_ROWS)
    elif workload.startswith("tpch") and not (data / "tpch").exists():
        _tpch(data, scale)
    elif workload == "wordcount":
        for file in range(TEXT_FILES):
            _write_text(data / f"words-{file:02}.txt", file, sized(WORDS, scale) // TEXT_FILES // LINE_WORDS)
    elif workload == "images":
        for file in range(IMAGE_FILES):
            rows = sized(IMAGES, scale, IMAGE_FILES) // IMAGE_FILES
            generate._write(data / f"images-{file}.parquet", _images, file, rows, IMAGE_GROUP_ROWS)


def _tpch(data: Path, scale: float) -> None:
    """Generate tables. Their text comes as string views, for many of which Arrow has no kernels; it becomes strings."""
    program = str(Path(sys.executable).with_name("tpchgen-cli"))
    tables = "--tables=customer,orders,lineitem"
    with tempfile.TemporaryDirectory(dir=data) as folder:
        command = [program, "parquet", "-s", f"{scale:g}", tables, f"--output-dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        (Path(folder) / "plain").mkdir()
        for path in Path(folder).glob("*.parquet"):
            with pq.ParquetFile(path) as file:
                fields = [f.with_type(pa.string()) if pa.types.is_string_view(f.type) else f for f in file.schema_arrow]
                with pq.ParquetWriter(Path(folder) / "plain" / path.name, pa.schema(fields)) as writer:
                    for group in range(file.num_row_groups):
                        writer.write_table(file.read_row_group(group).cast(pa.schema(fields)))
        (Path(folder) / "plain").rename(data / "tpch")


def _write_text(path: Path, file: int, lines: int) -> None:
    """Words as they are in a language: few are frequent, many are rare."""
    if path.exists():
        return
    rng = np.random.default_rng([2, file])
    ranks = np.minimum(rng.zipf(1.3, (lines, LINE_WORDS)), VOCABULARY)
    path.write_text("".join(" ".join(f"w{rank:x}" for rank in line) + "\n" for line in ranks))


def _images(file: int, rows: int) -> pa.Table:
    rng = np.random.default_rng([3, file])
    bodies = [rng.bytes(SIDE * SIDE * 3) for _ in range(rows)]
    return pa.table({"id": np.arange(file * rows, (file + 1) * rows), "body": pa.array(bodies, pa.binary())})


def files(data: Path, pattern: str) -> list[str]:
    """Return the input files of a name."""
    return sorted(str(path) for path in data.glob(pattern))


# -- images -------------------------------------------------------------------------------------------


def small(body: bytes) -> bytes:
    """Decode an image whose pixels are differences to their left neighbours, and shrink it."""
    pixels = np.cumsum(np.frombuffer(body, np.uint8).reshape(SIDE, SIDE, 3), axis=1, dtype=np.uint8)
    step = SIDE // SMALL
    return pixels.reshape(SMALL, step, SMALL, step, 3).mean(axis=(1, 3)).astype(np.uint8).tobytes()


class Model:
    """Takes a second to load, as real ones do, and multiplies matrices."""

    def __init__(self) -> None:
        time.sleep(1.0)
        # Whole numbers: their sums, and so the labels, do not depend on the size of a batch.
        weights = np.random.default_rng(4).integers(-8, 9, (SMALL * SMALL * 3, CLASSES))
        self._weights = weights.astype(np.float32)

    def labels(self, bodies: Sequence[bytes]) -> list[int]:
        """Return a class per image."""
        pixels = np.stack([np.frombuffer(body, np.uint8) for body in bodies]).astype(np.float32) - 128
        return [int(label) for label in (pixels @ self._weights).argmax(axis=1)]


# -- traces -------------------------------------------------------------------------------------------


class Trace:
    """What a replica did, in a file of its own: a line when it was ready, one for each call."""

    def __init__(self, folder: str, stage: int) -> None:
        path = Path(folder) / f"{stage}-{uuid.uuid4().hex}.trace"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._note(time.monotonic())

    def sleep(self, seconds: float, batch: int) -> None:
        """Sleep, and note when."""
        began = time.monotonic()
        time.sleep(seconds)
        self._note(began, time.monotonic(), batch)

    def called(self) -> None:
        """Note that there was a call."""
        os.write(self._file, b"\n")

    def _note(self, *values: float) -> None:
        os.write(self._file, (" ".join(map(repr, values)) + "\n").encode())


@dataclass(frozen=True)
class Call:
    """One batch in one stage; times are of the machine's monotonic clock."""

    stage: int
    began: float
    ended: float
    batch: int


@dataclass(frozen=True)
class Traces:
    """What all replicas of a run did."""

    births: dict[int, list[float]]
    """By stage: when each replica was ready."""
    calls: list[Call]
    counts: dict[int, int]
    """By stage: calls."""

    @classmethod
    def of(cls, folder: Path) -> Traces:
        """Read the files and remove them."""
        births: dict[int, list[float]] = {}
        calls: list[Call] = []
        counts: dict[int, int] = {}
        for path in folder.glob("*.trace"):
            stage = int(path.name.split("-")[0])
            first, *lines = path.read_text().splitlines()
            births.setdefault(stage, []).append(float(first))
            counts[stage] = counts.get(stage, 0) + len(lines)
            for began, ended, batch in (line.split() for line in lines if line):
                calls.append(Call(stage, float(began), float(ended), int(batch)))
            path.unlink()
        return cls(births, calls, counts)

    @property
    def ready(self) -> float:
        """When the first replica of each stage was ready."""
        return max(min(births) for births in self.births.values())


def hops(traces: Traces, ended: float, batches: int) -> dict[str, Any]:
    """Return batches per second since the first replica of each stage was ready; each hop must have been made."""
    return {
        "answer": [traces.counts[stage] for stage in sorted(traces.counts)],
        "batches": batches,
        "batches_per_s": batches / (ended - traces.ready),
    }


# -- sleeping stages ----------------------------------------------------------------------------------


def pause(workload: str, stage: int, batch: int, batches: int) -> float:
    """Return the seconds that a stage sleeps for a batch."""
    _, before, after = SLEEPS[workload]
    return (after if after and batch >= batches // 2 else before)[stage]


def robbed(workload: str, traces: Traces, began: float, ended: float, batches: int) -> dict[str, Any]:
    """Return shares of the ideal, with and without the start, and when nearly all slots were busy and stayed so.

    The ideal has all slots busy all the time. Work done before all stages were ready is not counted.
    """
    _, before, after = SLEEPS[workload]
    stages = range(len(before))
    work = sum(pause(workload, stage, batch, batches) for stage in stages for batch in range(batches))
    early = sum(max(min(call.ended, traces.ready) - call.began, 0.0) for call in traces.calls)
    first = [call for call in traces.calls if call.stage == 0]
    drained = max(call.began for call in first)
    moved = min((call.began for call in first if call.batch >= batches // 2), default=ended) if after else drained
    return {
        "answer": [traces.counts[stage] for stage in stages],
        "ideal_s": work / SLOTS,
        "with_start_s": ended - began,
        "ready_s": ended - traces.ready,
        "share_with_start": work / SLOTS / (ended - began),
        "share": (work - early) / SLOTS / (ended - traces.ready),
        "converged_s": converged(traces.calls, traces.ready, moved),
        "reconverged_s": converged(traces.calls, moved, drained) if after else 0.0,
        "replicas": [len(traces.births[stage]) for stage in stages],
    }


def converged(calls: Sequence[Call], began: float, ended: float) -> float:
    """Return after how many seconds the slots were busy enough, over every window until the end."""
    late = began
    for step in range(int((ended - began - WINDOW_S) / STEP_S) + 1):
        start = began + step * STEP_S
        busy = sum(max(min(call.ended, start + WINDOW_S) - max(call.began, start), 0.0) for call in calls)
        if busy < BUSY * SLOTS * WINDOW_S:
            late = start + STEP_S
    return late - began
