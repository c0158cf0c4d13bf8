"""wait, first, finish_order, parallel_reduce and restart, on plain values and on results."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raflow.workflows.inferred import LocalWorkflow, TaskError, finish_order, first, parallel_reduce, restart, wait
from raflow.workflows.inferred.lazy import is_result
from raflow.workflows.inferred.operations import Restart
from raflow.workflows.inferred.workflow import InferredWorkflow


class Gates:
    """Activities that end when the test says so, one after the other."""

    def __init__(self, *names: str) -> None:
        self.gates = {name: threading.Event() for name in names}

    def __call__(self, name: str) -> str:
        assert self.gates[name].wait(10)
        if name.startswith("bad"):
            raise ValueError(name)
        return name


def run(body: Callable[..., Any], gates: Gates, **dependencies: Any) -> Any:
    """Run a body that gets the gated activity, a function that opens a gate, and further dependencies."""

    def factory(gated: Any, **others: Any) -> Callable[[], Any]:
        return lambda: body(gated, lambda name: gates.gates[name].set(), **others)

    made = LocalWorkflow(factory)
    made.conf_activity("gated", gates)
    for name, each in dependencies.items():
        made.conf_activity(name, each)
    return made.run()


# -- plain values, without raflow ------------------------------------------------------------------------


def test_everything_works_on_plain_values() -> None:
    assert wait(5) == 5
    assert first(1, 2) == 1
    assert first([3, 2]) == 3
    assert list(finish_order(1, 2)) == [1, 2]
    assert list(finish_order(each for each in (1, 2))) == [1, 2]
    assert parallel_reduce(operator.add, range(5)) == 10
    assert parallel_reduce(operator.add, [1], 2) == 3
    assert parallel_reduce(operator.add, [7]) == 7
    assert restart(1, a=2) == Restart((1,), {"a": 2})


def test_nothing_to_choose_from_or_to_reduce_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"parallel_reduce\(\) got nothing to reduce; give it an initializer"):
        parallel_reduce(operator.add, [])
    with pytest.raises(ValueError, match=r"first\(\) got nothing"):
        first([])
    assert list(finish_order([])) == []
    assert parallel_reduce(operator.add, [], 4) == 4


# -- completion order -----------------------------------------------------------------------------------------


def test_finish_order_yields_plain_values_first_and_results_as_they_finish() -> None:
    def body(gated: Any, open_gate: Any) -> Any:
        order = finish_order(gated("a"), "plain", gated("b"), gated("c"))
        seen = [next(order)]
        for name in "cab":
            open_gate(name)
            seen.append(str(next(order)))
        return seen

    assert run(body, Gates("a", "b", "c")) == ["plain", "c", "a", "b"]


def test_first_stands_for_the_result_that_finishes_first_without_waiting() -> None:
    def body(gated: Any, open_gate: Any) -> Any:
        a, b = gated("a"), gated("b")
        fastest = first(a, b)
        open_gate("b")
        told = [str(fastest), str(first([a, b]))]
        open_gate("a")
        return [*told, first(a, b, "plain")]

    assert run(body, Gates("a", "b")) == ["b", "b", "plain"]


def test_first_gives_the_error_of_the_first_to_finish() -> None:
    def body(gated: Any, open_gate: Any) -> Any:
        fastest = first(gated("bad"), gated("b"))
        open_gate("bad")
        wait(fastest)

    with pytest.raises(TaskError, match=r"ValueError: bad \(task gated#1\)"):
        run(body, Gates("bad", "b"))


# -- reducing --------------------------------------------------------------------------------------------------


def test_parallel_reduce_calls_an_activity_as_soon_as_any_two_are_there() -> None:
    joined = {name: threading.Event() for name in ("bc", "bcd", "abcd")}

    def join(x: str, y: str) -> str:
        both = "".join(sorted(x + y))
        joined[both].set()
        return both

    def body(gated: Any, open_gate: Any, join: Any) -> Any:
        whole = parallel_reduce(join, [gated(name) for name in "abcd"])
        assert is_result(whole)
        for names, expected in (("cb", "bc"), ("d", "bcd"), ("a", "abcd")):
            for name in names:
                open_gate(name)
            assert joined[expected].wait(10)
        return whole

    assert run(body, Gates(*"abcd"), join=join) == "abcd"


def add(x: Any, y: Any) -> Any:
    return x + y


def test_parallel_reduce_takes_plain_functions_and_activities_on_results(
    workflow: Callable[..., InferredWorkflow],
) -> None:
    class Sums:
        def __init__(self, add: Any) -> None:
            self.add = add

        def __call__(self) -> Any:
            numbers = [self.add(n, 0) for n in range(10)]
            return [
                parallel_reduce(operator.add, numbers),
                parallel_reduce(self.add, numbers),
                parallel_reduce(lambda x, y: self.add(y, x), [*numbers, 100]),
                parallel_reduce(self.add, [1, 2, 3]),
                parallel_reduce(self.add, numbers[4:5]),
            ]

    made = workflow(Sums, add=add)
    assert made.run() == [45, 45, 145, 6, 4]
    assert made.trace is not None
    reductions = [row.id for row in made.trace.rows if row.id.startswith("parallel_reduce#1/")]
    assert len(reductions) == 9


def test_a_failing_reduction_fails_the_whole() -> None:
    class Bad:
        def __init__(self, add: Any) -> None:
            self.add = add

        def __call__(self) -> Any:
            return parallel_reduce(self.add, [self.add(1, 1), self.add("a", "b")])

    made = LocalWorkflow(Bad)
    made.conf_activity("add", add)
    with pytest.raises(TaskError, match="TypeError: unsupported operand"):
        made.run()


# -- restart ------------------------------------------------------------------------------------------------------


class Counting:
    def __init__(self, add: Any) -> None:
        self.add = add

    def __call__(self, n: int, total: int = 0) -> Any:
        if n == 0:
            return total
        return restart(n - 1, total=self.add(total, 10))


def test_restart_runs_again_with_a_fresh_history(workflow: Callable[..., InferredWorkflow]) -> None:
    made = workflow(Counting, add=add)
    assert made.run(3) == 30
    assert made.trace is not None
    assert made.trace.rows == ()


def test_two_thousand_restarts_are_a_loop() -> None:
    made = LocalWorkflow(Counting)
    made.conf_activity("add", add)
    assert made.run(2000) == 20_000


def test_a_failed_argument_of_restart_fails_the_workflow() -> None:
    made = LocalWorkflow(lambda bad: lambda: restart(bad("x")))
    made.conf_activity("bad", int)
    with pytest.raises(TaskError, match="invalid literal"):
        made.run()
