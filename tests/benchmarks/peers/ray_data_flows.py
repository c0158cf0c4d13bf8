"""Ray Data on flows of several stages: python -m tests.benchmarks.peers.ray_data_flows NAME DATA SCALE [PARTITIONS].

Without a number of partitions, groups are dealt out as Ray Data does by default: to 200.
"""

import datetime
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.aggregate import Count, Max, Mean, Sum

from tests.benchmarks import flow_work as work

JOIN_PARTITIONS = 2
"""One for each CPU."""


def partitions():
    """Return the partitions of groups; asked in the driver only."""
    return int(sys.argv[4]) if len(sys.argv) > 4 else None


def rows(dataset, columns):
    found = [[row[column] for column in columns] for row in dataset.take_all()]
    return sorted(found, key=lambda row: row[:2])


# -- tables -------------------------------------------------------------------------------------------


def groupby(data):
    trips = ray.data.read_parquet(work.files(data, "trips-*"), columns=["zone", "fare"])
    found = trips.groupby("zone", num_partitions=partitions()).aggregate(
        Mean("fare", alias_name="mean"), Sum("fare", alias_name="sum"), Count("fare", alias_name="count")
    )
    return rows(found, ["zone", "mean", "sum", "count"])


def number(table, name):
    return pc.cast(table[name], pa.float64())


def table(data, name, columns):
    return ray.data.read_parquet(str(data / "tpch" / f"{name}.parquet"), columns=columns)


def mapped(dataset, function):
    return dataset.map_batches(function, batch_format="pyarrow", batch_size=None)


def tpch_q1(data):
    def charged(items):
        items = items.filter(pc.less_equal(items["l_shipdate"], pa.scalar(datetime.date(1998, 9, 2))))
        price, discount, tax = (number(items, name) for name in ("l_extendedprice", "l_discount", "l_tax"))
        discounted = pc.multiply(price, pc.subtract(1.0, discount))
        return pa.table(
            {
                "flag": items["l_returnflag"],
                "status": items["l_linestatus"],
                "quantity": number(items, "l_quantity"),
                "price": price,
                "discount": discount,
                "discounted": discounted,
                "charge": pc.multiply(discounted, pc.add(1.0, tax)),
            }
        )

    columns = ["l_returnflag", "l_linestatus", "l_quantity", "l_extendedprice", "l_discount", "l_tax", "l_shipdate"]
    aggregates = [
        Sum("quantity", alias_name="a"), Sum("price", alias_name="b"), Sum("discounted", alias_name="c"),
        Sum("charge", alias_name="d"), Mean("quantity", alias_name="e"), Mean("price", alias_name="f"),
        Mean("discount", alias_name="g"), Count(alias_name="h"),
    ]  # fmt: skip
    items = mapped(table(data, "lineitem", columns), charged)
    found = (
        items.groupby(["flag", "status"], num_partitions=partitions()).aggregate(*aggregates).sort(["flag", "status"])
    )
    return rows(found, ["flag", "status", *"abcdefgh"])


def tpch_q3(data):
    day = pa.scalar(datetime.date(1995, 3, 15))

    def building(customers):
        is_building = pc.equal(customers["c_mktsegment"], "BUILDING")
        return customers.filter(is_building).select(["c_custkey"])

    def early(orders):
        return orders.filter(pc.less(orders["o_orderdate"], day))

    def late(items):
        items = items.filter(pc.greater(items["l_shipdate"], day))
        revenue = pc.multiply(number(items, "l_extendedprice"), pc.subtract(1.0, number(items, "l_discount")))
        return pa.table({"l_orderkey": items["l_orderkey"], "revenue": revenue})

    customers = mapped(table(data, "customer", ["c_custkey", "c_mktsegment"]), building)
    orders = mapped(table(data, "orders", ["o_orderkey", "o_custkey", "o_orderdate", "o_shippriority"]), early)
    columns = ["l_orderkey", "l_extendedprice", "l_discount", "l_shipdate"]
    items = mapped(table(data, "lineitem", columns), late)
    how = {"join_type": "inner", "num_partitions": JOIN_PARTITIONS, "aggregator_ray_remote_args": {"num_cpus": 0.1}}
    orders = orders.join(customers, on=("o_custkey",), right_on=("c_custkey",), **how)
    joined = items.join(orders, on=("l_orderkey",), right_on=("o_orderkey",), **how)
    groups = joined.groupby(["l_orderkey", "o_orderdate", "o_shippriority"], num_partitions=partitions())
    found = groups.aggregate(Sum("revenue", alias_name="r"))
    found = found.sort(["r", "o_orderdate"], descending=[True, False]).limit(10)
    return rows(found, ["l_orderkey", "r", "o_shippriority"])


def tpch_q6(data):
    def revenue(items):
        shipped, discount = items["l_shipdate"], number(items, "l_discount")
        kept = pc.and_(
            pc.and_(
                pc.greater_equal(shipped, pa.scalar(datetime.date(1994, 1, 1))),
                pc.less(shipped, pa.scalar(datetime.date(1995, 1, 1))),
            ),
            pc.and_(
                pc.and_(pc.greater_equal(discount, 0.05), pc.less_equal(discount, 0.07)),
                pc.less(number(items, "l_quantity"), 24.0),
            ),
        )
        items = items.filter(kept)
        return pa.table({"r": pc.multiply(number(items, "l_extendedprice"), number(items, "l_discount"))})

    columns = ["l_extendedprice", "l_discount", "l_quantity", "l_shipdate"]
    return [[mapped(table(data, "lineitem", columns), revenue).sum("r")]]


def wordcount(data):
    lines = ray.data.read_text(work.files(data, "words-*"))
    words = lines.flat_map(lambda row: [{"word": word} for word in row["text"].split()])
    found = words.groupby("word", num_partitions=partitions()).count()
    totals = found.aggregate(Count(alias_name="n"), Sum("count()", alias_name="s"), Max("count()", alias_name="m"))
    return [totals["n"], totals["s"], totals["m"]]


# -- images -------------------------------------------------------------------------------------------


class Labels:
    def __init__(self):
        self._model = work.Model()

    def __call__(self, batch):
        return pa.table({"id": batch["id"], "label": self._model.labels(batch["small"].to_pylist())})


def shrink(batch):
    return pa.table({"id": batch["id"], "small": pa.array(map(work.small, batch["body"].to_pylist()))})


def images(data):
    pictures = ray.data.read_parquet(work.files(data, "images-*"))
    how = {"batch_format": "pyarrow", "batch_size": 64}
    found = pictures.map_batches(shrink, **how).map_batches(Labels, concurrency=1, **how)
    totals = found.aggregate(Count(alias_name="n"), Sum("label", alias_name="s"))
    return [totals["n"], totals["s"]]


# -- stages that do nothing, or sleep -----------------------------------------------------------------


class Hop:
    def __init__(self, folder, stage, is_last):
        self._trace, self._is_last = work.Trace(folder, stage), is_last

    def __call__(self, batch):
        self._trace.called()
        return batch.slice(0, 0) if self._is_last else batch


class Sleeper:
    def __init__(self, folder, stage, workload, batches):
        self._trace, self._of = work.Trace(folder, stage), (workload, stage)
        self._batches = batches

    def __call__(self, batch):
        number = int(batch["id"][0]) // work.BATCH_ROWS
        workload, stage = self._of
        self._trace.sleep(work.pause(workload, stage, number, self._batches), number)
        return batch


def consume(dataset):
    for _ in dataset.iter_internal_ref_bundles():
        pass


def hops(data, scale):
    batches = work.sized(work.HOPS, scale)
    dataset = ray.data.range(batches * work.HOP_ROWS, override_num_blocks=batches)
    for stage in range(3):
        given = (str(data), stage, stage == 2)
        dataset = dataset.map_batches(
            Hop,
            fn_constructor_args=given,
            batch_size=work.HOP_ROWS,
            batch_format="pyarrow",
            concurrency=1,
            num_cpus=0.25,
        )
    consume(dataset)
    ended = time.monotonic()
    return work.hops(work.Traces.of(data), ended, batches)


def robber(workload, data, scale):
    full, sleeps, _ = work.SLEEPS[workload]
    batches = work.sized(full, scale)
    dataset = ray.data.range(batches * work.BATCH_ROWS, override_num_blocks=batches)
    for stage in range(len(sleeps)):
        given = (str(data), stage, workload, batches)
        dataset = dataset.map_batches(
            Sleeper, fn_constructor_args=given, batch_size=None, concurrency=(1, work.SLOTS), num_cpus=1
        )
    began = time.monotonic()
    consume(dataset)
    return work.robbed(workload, work.Traces.of(data), began, time.monotonic(), batches)


# -- as a contender -----------------------------------------------------------------------------------

TABLES = {one.__name__: one for one in (groupby, tpch_q1, tpch_q3, tpch_q6, wordcount, images)}


def start(workload):
    """Start Ray and have Ray Data start its workers for tasks, so that their start is in nobody's time."""
    work.start_ray(work.cpus(workload))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if workload in TABLES:
        ray.data.range(1000, override_num_blocks=4).map(lambda row: row).materialize()


def run(workload, data, scale):
    if workload in TABLES:
        return TABLES[workload](data)
    return hops(data, scale) if workload == "hops" else robber(workload, data, scale)


if __name__ == "__main__":
    workload, data, scale = work.arguments()
    work.contend((lambda: start(workload), lambda: run(workload, data, scale)))
