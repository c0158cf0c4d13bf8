"""Page 001: complete programs as its readers would write them; only the import line differs.

The page's remote engine is a cloud service; its place is taken by `RayWorkflow`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import raflow.workflows.inferred as flowy
from raflow.workflows.inferred.workflow import InferredWorkflow


@pytest.fixture
def engine_workflow(engine: str) -> Any:
    return flowy.LocalWorkflow if engine == "local" else flowy.RayWorkflow


# -- the page's own example --------------------------------------------------------------------------------


def sum_activity(a: Any, b: Any) -> Any:
    return a + b


def square_activity(n: Any) -> Any:
    return n**2


class ExampleWorkflow(object):  # noqa: UP004 - as on the page
    def __init__(self, square: Any, sum: Any) -> None:  # noqa: A002 - as on the page
        self.square = square
        self.sum = sum

    def __call__(self, a: Any, b: Any) -> Any:
        a_squared = self.square(a)
        b_squared = self.square(b)
        return self.sum(a_squared, b_squared)


def test_the_toy_example(engine_workflow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    w = engine_workflow(ExampleWorkflow)
    w.conf_activity("square", square_activity)
    w.conf_activity("sum", sum_activity)
    print(w.run(2, 10))
    assert capsys.readouterr().out.splitlines()[-1] == "104"


def test_a_workflow_runs_as_single_threaded_python_without_the_library() -> None:
    assert ExampleWorkflow(square_activity, sum_activity)(2, 10) == 104


def test_the_local_engine_uses_threads_or_processes() -> None:
    for executor in ("threads", "processes", ThreadPoolExecutor):
        w = flowy.LocalWorkflow(ExampleWorkflow, activity_workers=2, workflow_workers=1, executor=executor)
        w.conf_activity("square", square_activity)
        w.conf_activity("sum", sum_activity)
        assert w.run(3, 4) == 25


def test_tracing_and_visualisation_as_dot_graphs(engine_workflow: Any) -> None:
    w = engine_workflow(ExampleWorkflow)
    w.conf_activity("square", square_activity)
    w.conf_activity("sum", sum_activity)
    w.run(2, 10, _wait=True, _trace=True)
    dot = w.trace.to_dot()
    assert dot.startswith("digraph")
    assert '"square#1" -> "sum#1"' in dot
    assert '"square#2" -> "sum#1"' in dot


def test_the_same_workflow_is_configured_for_different_engines(engine_workflow: Any) -> None:
    for square in (square_activity, lambda n: n * n):
        w = engine_workflow(ExampleWorkflow)
        w.conf_activity("square", square)
        w.conf_activity("sum", sum_activity)
        assert w.run(5, 6) == 61


# -- a shop's nightly report: fan-out, order, decisions, errors, sub-workflows ---------------------------------


def fetch_orders(shop: str) -> list[int]:
    if shop == "closed":
        raise ConnectionError("no answer from closed")
    return [len(shop) * n for n in range(1, 4)]


def total(orders: list[int]) -> int:
    return sum(orders)


def render(lines: list[str], grand_total: int) -> str:
    return "\n".join([*lines, f"total {grand_total}"])


class ShopTotal:
    def __init__(self, fetch: Any, total: Any) -> None:
        self.fetch = fetch
        self.total = total

    def __call__(self, shop: str) -> Any:
        return self.total(self.fetch(shop))


class Report:
    def __init__(self, shop_total: Any, add: Any, render: Any) -> None:
        self.shop_total = shop_total
        self.add = add
        self.render = render

    def __call__(self, shops: list[str]) -> Any:
        totals = {shop: self.shop_total(shop) for shop in shops}
        good = {}
        for shop, result in totals.items():
            try:
                flowy.wait(result)
            except flowy.TaskError as error:
                good[shop] = f"{shop}: {type(error.__cause__).__name__}"
            else:
                good[shop] = f"{shop}: {result}"
        succeeded = [totals[shop] for shop in shops if "Error" not in good[shop]]
        return self.render(list(good.values()), flowy.parallel_reduce(self.add, succeeded, 0))


def report(make: Any) -> InferredWorkflow:
    shop: InferredWorkflow = make(ShopTotal)
    shop.conf_activity("fetch", fetch_orders, retry=(0, 0.01), timeout=30)
    shop.conf_activity("total", total)
    whole: InferredWorkflow = make(Report)
    whole.conf_workflow("shop_total", shop)
    whole.conf_activity("add", sum_activity)
    whole.conf_activity("render", render)
    return whole


def test_a_report_over_shops_of_which_one_does_not_answer(engine_workflow: Any) -> None:
    text = report(engine_workflow).run(["a", "bcd", "closed"])
    assert text == "a: 6\nbcd: 18\nclosed: ConnectionError\ntotal 24"


# -- a search that stops at the first good answer ---------------------------------------------------------------


def ask(mirror: str) -> str:
    return f"answer of {mirror}"


class FastestMirror:
    def __init__(self, ask: Any) -> None:
        self.ask = ask

    def __call__(self, *mirrors: str) -> Any:
        return flowy.first([self.ask(mirror) for mirror in mirrors])


def test_the_fastest_mirror_answers(engine_workflow: Any) -> None:
    w = engine_workflow(FastestMirror)
    w.conf_activity("ask", ask)
    assert w.run("m1", "m2") in ("answer of m1", "answer of m2")
    assert FastestMirror(ask)("m1", "m2") == "answer of m1"


# -- a loop with a fresh history, as a closure -------------------------------------------------------------------


def Countdown(decrement: Any, log: Any) -> Any:
    def run(n: int, lines: tuple[str, ...] = ()) -> Any:
        if n == 0:
            return list(lines)
        line = log(n)
        return flowy.restart(decrement(n), (*lines, line))

    return run


def test_a_closure_that_restarts(engine_workflow: Any) -> None:
    w = engine_workflow(Countdown)
    w.conf_activity("decrement", lambda n: n - 1)
    w.conf_activity("log", lambda n: f"{n} left")
    assert w.run(3) == ["3 left", "2 left", "1 left"]


# -- the history of a run is kept, so that it can go on ------------------------------------------------------------


class Kept:
    """Records in the memory of this process."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}

    def read(self, key: str) -> Any:
        return self.records.get(key)

    def write(self, key: str, value: Any) -> None:
        self.records[key] = value


def interrupted(folder: str, n: int) -> int:
    with (Path(folder) / "calls").open("a") as calls:
        calls.write(f"{n}\n")
    if n == 3 and not (Path(folder) / "mended").exists():
        raise OSError("the disk is full")
    return n * 10


class Import:
    def __init__(self, load: Any) -> None:
        self.load = load

    def __call__(self, folder: str) -> Any:
        return [flowy.wait(self.load(folder, n)) for n in range(1, 6)]


def test_a_run_goes_on_where_it_failed(engine_workflow: Any, tmp_path: Path) -> None:
    w = engine_workflow(Import, storage=Kept(), workflow_id="import")
    w.conf_activity("load", interrupted)
    with pytest.raises(flowy.TaskError, match="the disk is full"):
        w.run(str(tmp_path))
    (tmp_path / "mended").touch()
    assert w.run(str(tmp_path), _resume=True) == [10, 20, 30, 40, 50]
    assert (tmp_path / "calls").read_text().split() == ["1", "2", "3", "3", "4", "5"]
