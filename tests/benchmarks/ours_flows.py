"""raflow on flows of several stages: python -m tests.benchmarks.ours_flows WORKLOAD DATA SCALE."""

from __future__ import annotations

import datetime
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import raflow.runtime.stage
from raflow import Flow, FlowOptions, consumer
from raflow.connectors.files import CsvFiles, ParquetFiles
from raflow.connectors.memory import MemorySink
from raflow.sources import Reject, Source, Split
from raflow.stream import Stream
from tests.benchmarks import flow_work as work
from tests.benchmarks.measure import Steps

_LOOK_S = 0.5
_SPLIT_BATCHES = 100
_WARM = 0.2
"""Of the batches, after which memory must not grow any more."""


class Ids(Source):
    """Batches of numbers, made where they are read."""

    def __init__(self, batches: int, rows: int, per_split: int) -> None:
        self._batches, self._rows, self._per_split = batches, rows, per_split

    def schema(self) -> pa.Schema:
        return pa.schema([("id", pa.int64())])

    def splits(self) -> list[Split]:
        starts = range(0, self._batches, self._per_split)
        return [Split(f"from {start}", [start, min(start + self._per_split, self._batches)]) for start in starts]

    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        for batch in range(*split.payload):
            ids = np.arange(batch * self._rows, (batch + 1) * self._rows)
            # `pa.array` would import pandas to look at them, in each process anew.
            column = pa.Array.from_buffers(pa.int64(), self._rows, [None, pa.py_buffer(ids)])
            yield pa.record_batch([column][: len(columns)], schema=columns)


def run(make: Callable[[Flow], Stream], answer: Callable[[pa.Table], Any]) -> dict[str, Any]:
    """Run a stream on Ray; `workers_s` is what went by until the first replica was ready."""
    with tempfile.TemporaryDirectory() as ledgers:
        sink = MemorySink()
        flow = make(Flow("benchmark", FlowOptions(ledger_url=ledgers))).write(sink)
        done = flow.start(engine="ray")
        done.wait()
        return {"workers_s": done.stats().start_up_s, "answer": answer(sink.table())}


def rows(table: pa.Table) -> list[list[Any]]:
    """Return the rows, in the order of their values; keys come first."""
    return sorted([list(row.values()) for row in table.to_pylist()], key=lambda row: row[:2])


# -- streams ------------------------------------------------------------------------------------------


def groupby(data: Path) -> dict[str, Any]:
    def make(flow: Flow) -> Stream:
        trips = flow.read(ParquetFiles(work.files(data, "trips-*")))
        return trips.group_by("zone").agg(mean=("fare", "mean"), sum=("fare", "sum"), count=("fare", "count"))

    return run(make, rows)


def _table(flow: Flow, data: Path, name: str) -> Stream:
    return flow.read(ParquetFiles(str(data / "tpch" / f"{name}.parquet")))


def _one() -> pc.Expression:
    return pc.scalar(1.0)  # not of the module: it imports pandas, which replicas do not need


def _number(name: str) -> pc.Expression:
    return pc.field(name).cast(pa.float64())


def tpch_q1(data: Path) -> dict[str, Any]:
    def make(flow: Flow) -> Stream:
        items = _table(flow, data, "lineitem").filter(pc.field("l_shipdate") <= pc.scalar(datetime.date(1998, 9, 2)))
        items = items.with_columns(
            quantity=_number("l_quantity"), price=_number("l_extendedprice"), discount=_number("l_discount"),
            discounted=_number("l_extendedprice") * (_one() - _number("l_discount")),
            charge=_number("l_extendedprice") * (_one() - _number("l_discount")) * (_one() + _number("l_tax")),
        )  # fmt: skip
        return (
            items.group_by("l_returnflag", "l_linestatus")
            .agg(
                sum_qty=("quantity", "sum"), sum_base_price=("price", "sum"), sum_disc_price=("discounted", "sum"),
                sum_charge=("charge", "sum"), avg_qty=("quantity", "mean"), avg_price=("price", "mean"),
                avg_disc=("discount", "mean"), count_order=("quantity", "count"),
            )
            .sort(["l_returnflag", "l_linestatus"])
        )  # fmt: skip

    return run(make, rows)


def tpch_q3(data: Path) -> dict[str, Any]:
    day = pc.scalar(datetime.date(1995, 3, 15))

    def make(flow: Flow) -> Stream:
        customers = _table(flow, data, "customer").filter(pc.field("c_mktsegment") == "BUILDING").select("c_custkey")
        orders = _table(flow, data, "orders").filter(pc.field("o_orderdate") < day)
        orders = orders.select("o_orderkey", "o_custkey", "o_orderdate", "o_shippriority")
        items = _table(flow, data, "lineitem").filter(pc.field("l_shipdate") > day)
        items = items.with_columns(revenue=_number("l_extendedprice") * (_one() - _number("l_discount")))
        open_ones = orders.join(customers, {"o_custkey": "c_custkey"}, how="semi")
        joined = items.select("l_orderkey", "revenue").join(open_ones, {"l_orderkey": "o_orderkey"})
        grouped = joined.group_by("l_orderkey", "o_orderdate", "o_shippriority").agg(revenue=("revenue", "sum"))
        return grouped.sort([("revenue", "descending"), ("o_orderdate", "ascending")]).limit(10)

    def answer(table: pa.Table) -> list[list[Any]]:
        return rows(table.select(["l_orderkey", "revenue", "o_shippriority"]))

    return run(make, answer)


def tpch_q6(data: Path) -> dict[str, Any]:
    def make(flow: Flow) -> Stream:
        shipped, discount = pc.field("l_shipdate"), _number("l_discount")
        items = _table(flow, data, "lineitem").filter(
            (shipped >= pc.scalar(datetime.date(1994, 1, 1)))
            & (shipped < pc.scalar(datetime.date(1995, 1, 1)))
            & (discount >= 0.05)
            & (discount <= 0.07)
            & (_number("l_quantity") < 24)
        )
        items = items.with_columns(revenue=_number("l_extendedprice") * discount)
        return items.group_by().agg(revenue=("revenue", "sum"))

    return run(make, rows)


def wordcount(data: Path) -> dict[str, Any]:
    lines = CsvFiles(
        work.files(data, "words-*"), header=False, column_names=["text"], delimiter="\t", quote_char=None,
        schema={"text": "string"},
    )  # fmt: skip

    def words(line: str) -> list[dict[str, Any]]:
        return [{"word": word} for word in line.split()]

    def answer(table: pa.Table) -> list[int]:
        return [table.num_rows, pc.sum(table["count"]).as_py(), pc.max(table["count"]).as_py()]

    return run(lambda flow: flow.read(lines).flat_map(words).group_by("word").count(), answer)


def images(data: Path) -> dict[str, Any]:
    def shrink(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"id": batch["id"], "small": pa.array(map(work.small, batch["body"].to_pylist()))})

    class Labels:
        def setup(self) -> None:
            self._model = work.Model()

        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            return pa.record_batch({"id": batch["id"], "label": self._model.labels(batch["small"].to_pylist())})

    def make(flow: Flow) -> Stream:
        pictures = flow.read(ParquetFiles(work.files(data, "images-*"))).map_batches(shrink)
        return pictures.map_batches(Labels, num_replicas=1)

    return run(make, lambda table: [table.num_rows, pc.sum(table["label"]).as_py()])


# -- stages that do nothing, or sleep -----------------------------------------------------------------


def hop(folder: str, number: int, is_last: bool) -> type:
    class Hop:
        """Passes batches on."""

        def setup(self) -> None:
            self._trace = work.Trace(folder, number)

        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
            self._trace.called()
            return None if is_last else batch

    return Hop


def sleeper(folder: str, stage: int, workload: str, batches: int) -> type:
    class Sleeper:
        """Sleeps for each batch, and passes it on."""

        def setup(self) -> None:
            self._trace = work.Trace(folder, stage)

        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            number = batch["id"][0].as_py() // work.BATCH_ROWS
            self._trace.sleep(work.pause(workload, stage, number, batches), number)
            return batch

    return Sleeper


def chain(flow: Flow, source: Any, stages: list[Any], **options: Any) -> None:
    """Add consumers, each of which reads the one before."""
    for number, stage in enumerate(stages):
        source = consumer(source=source, name=f"stage{number}", **options)(stage)
        flow.add_consumer(source)


def hops(data: Path, batches: int) -> dict[str, Any]:
    """Send batches through three pools, one at a time, and look at the driver's memory meanwhile."""
    # There is no option for it: without a time that a call should take, batches are not put together.
    raflow.runtime.stage._TARGET_S = 0.0
    seen: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as ledgers:
        flow = Flow("benchmark", FlowOptions(ledger_url=ledgers))
        stages = [hop(str(data), number, number == 2) for number in range(3)]
        own = {"num_replicas": 1, "num_cpus": 0.25, "batch_rows": work.HOP_ROWS, "fuse": False}
        chain(flow, Ids(batches, work.HOP_ROWS, _SPLIT_BATCHES), stages, **own)
        done = flow.start(engine="ray")
        while not done.wait(_LOOK_S):
            seen.append((done.stats().stages[-1].counts.rows_in // work.HOP_ROWS, _resident_mb()))
        ended = time.monotonic()
    seen.append((batches, _resident_mb()))
    warm = next(mb for count, mb in seen if count >= _WARM * batches)
    told = {
        "warm_mb": warm,
        "end_mb": seen[-1][1],
        "most_mb": max(mb for count, mb in seen if count >= _WARM * batches),
    }
    return {**work.hops(work.Traces.of(data), ended, batches), **told}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def robber(workload: str, data: Path, scale: float) -> dict[str, Any]:
    """Sleep in two or more stages that share the slots."""
    full, sleeps, _ = work.SLEEPS[workload]
    batches = work.sized(full, scale)
    with tempfile.TemporaryDirectory() as ledgers:
        flow = Flow("benchmark", FlowOptions(ledger_url=ledgers))
        stages = [sleeper(str(data), stage, workload, batches) for stage in range(len(sleeps))]
        chain(flow, Ids(batches, work.BATCH_ROWS, 1), stages, batch_rows=work.BATCH_ROWS, fuse=False)
        began = time.monotonic()
        done = flow.start(engine="ray")
        done.wait()
        found = work.robbed(workload, work.Traces.of(data), began, time.monotonic(), batches)
    resized = [f"{one.at_s:.1f} s {one.stage} {one.before} → {one.after}: {one.reason}" for one in done.stats().resized]
    return {**found, "resized": resized}


STREAMS: dict[str, Callable[[Path], dict[str, Any]]] = {
    one.__name__: one for one in (groupby, tpch_q1, tpch_q3, tpch_q6, wordcount, images)
}


def main() -> None:
    workload, data, scale = work.arguments()
    if workload in STREAMS:
        steps: Steps = (work.start_ray, lambda: STREAMS[workload](data))
    elif workload in work.SLEEPS:
        steps = (lambda: work.start_ray(work.SLOTS), lambda: robber(workload, data, scale))
    else:
        batches = work.sized(work.HOPS if workload == "hops" else work.MEMORY_HOPS, scale)
        steps = (work.start_ray, lambda: hops(data, batches))
    work.contend(steps)


if __name__ == "__main__":
    main()
