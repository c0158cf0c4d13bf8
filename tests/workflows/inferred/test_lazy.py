"""The lazy result: behaves as the value, and where it cannot."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raflow.workflows.inferred import LocalWorkflow, TaskError, wait
from raflow.workflows.inferred.lazy import is_result
from raflow.workflows.inferred.workflow import InferredWorkflow


def given(value: Any) -> Any:
    return value


def within(body: Callable[..., Any], *values: Any) -> Any:
    """Run a body in a workflow, with lazy results of these values."""

    def factory(give: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: body(*map(give, values))

    made = LocalWorkflow(factory)
    made.conf_activity("give", given)
    return made.run()


def added(x: Any) -> Any:
    x += 1
    return x if type(x) is int else "still lazy"


def matched(x: Any) -> Any:
    match x:
        case [a, b]:
            return a + b
        case _:
            return None


BEHAVES: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "addition": (lambda x: x + 1, 4, 5),
    "addition on the right": (lambda x: 1 + x, 4, 5),
    "addition in place": (added, 4, 5),
    "power": (lambda x: 2**x, 4, 16),
    "negation": (lambda x: -x, 4, -4),
    "division": (lambda x: divmod(x, 3), 4, (1, 1)),
    "equality": (lambda x: x == 4, 4, True),
    "equality with None": (lambda x: x == None, None, True),  # noqa: E711
    "order": (lambda x: 3 < x <= 4, 4, True),
    "if": (lambda x: "yes" if x else "no", 0, "no"),
    "len": (len, [1, 2], 2),
    "iteration": (lambda x: [each * 2 for each in x], [1, 2], [2, 4]),
    "unpacking": (lambda x: max(*x), (1, 2), 2),
    "keywords": (lambda x: dict(**x), {"a": 1}, {"a": 1}),
    "indexing": (lambda x: x["a"], {"a": 1}, 1),
    "slicing": (lambda x: x[1:], "abc", "bc"),
    "membership": (lambda x: 2 in x, [1, 2], True),
    "hashing": (lambda x: {4: "four"}[x], 4, "four"),
    "as an index": (lambda x: "abcdef"[x], 4, "e"),
    "range": (lambda x: list(range(x)), 2, [0, 1]),
    "math": (math.sqrt, 4, 2.0),
    "rounding": (lambda x: round(x, 1), 1.26, 1.3),
    "int": (int, "4", 4),
    "str": (str, 4, "4"),
    "repr": (repr, "a", "'a'"),
    "f-string": (lambda x: f"{x:>3}|{x!r}", 4, "  4|4"),
    "format": (lambda x: "{:.1f} %s".format(x) % x, 4, "4.0 4"),  # noqa: UP032
    "concatenation": (lambda x: "a" + x, "b", "ab"),
    "attributes": (lambda x: x.real, 4, 4),
    "methods": (lambda x: x.upper(), "a", "A"),
    "isinstance": (lambda x: isinstance(x, str), "a", True),
    "a value that is a function": (lambda x: x(-3), abs, 3),
    "a path": (os.fspath, Path("a"), "a"),
    "a path as text": (os.fspath, "a", "a"),
    "copy": (lambda x: type(copy.copy(x)).__name__, [1], "list"),
    "deepcopy": (lambda x: type(copy.deepcopy([x])[0]).__name__, [1], "list"),
    "pickle": (lambda x: type(pickle.loads(pickle.dumps(x))).__name__, [1], "list"),
    "sorting": (lambda x: sorted([x, 1]), 0, [0, 1]),
    "sum": (lambda x: sum([x, x]), 2, 4),
}


@pytest.mark.parametrize("what", BEHAVES)
def test_a_result_behaves_as_its_value(what: str) -> None:
    body, value, expected = BEHAVES[what]
    assert within(body, value) == expected


NEEDS_WAIT: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "is None": (lambda x: x is None, None, True),
    "is True": (lambda x: x is True, True, True),
    "type": (lambda x: type(x).__name__, 4, "int"),
    "callable": (callable, 4, False),
    "json.dumps": (json.dumps, {"a": 1}, '{"a": 1}'),
    "pa.array of results": (lambda x: pa.array([x]).to_pylist(), 4, [4]),
    "np.array of results": (lambda x: str(np.array([x]).dtype), 4, "int64"),
    "in a string": (lambda x: x in "abc", "a", True),
    "str.startswith": (lambda x: "abc".startswith(x), "a", True),
    "str.join": (lambda x: ",".join([x]), "a", "a"),
    "re.match": (lambda x: bool(re.match("a", x)), "a", True),
    "formatting a tuple": (lambda x: "%d %d" % x, (1, 2), "1 2"),
    "match with a sequence": (matched, [1, 2], 3),
}


@pytest.mark.parametrize("what", NEEDS_WAIT)
def test_what_looks_at_type_or_identity_needs_wait(what: str) -> None:
    body, value, expected = NEEDS_WAIT[what]

    def both(x: Any) -> Any:
        try:
            lazy = body(x)
        except (TypeError, AttributeError, pa.ArrowInvalid):
            lazy = "an error"
        return [lazy, body(wait(x))]

    lazy, waited = within(both, value)
    assert waited == expected
    assert lazy != expected


def test_wait_goes_into_containers_and_leaves_plain_values_alone() -> None:
    plain = [1, {"a": (2,)}]
    assert wait(plain) is plain
    assert within(lambda x, y: json.dumps(wait({"a": [x, (y,)]})), 1, 2) == '{"a": [1, [2]]}'
    circle: list[Any] = []
    circle.append(circle)
    assert wait(circle) is circle


def test_a_call_returns_before_its_task_has_run() -> None:
    allowed = threading.Event()

    def factory(slow: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            result = slow()
            allowed.set()
            return result

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("slow", lambda: allowed.wait(10))
    assert made.run() is True


def double(value: Any) -> Any:
    return value * 2


def nested(value: Any) -> Any:
    """What an activity gets: the exact types of all parts."""
    return repr(value), repr(type(next(iter(value["list"]))))


def test_results_within_containers_are_values_in_activities_and_returns(
    workflow: Callable[..., InferredWorkflow],
) -> None:
    class Nesting:
        def __init__(self, double: Any, nested: Any) -> None:
            self.double, self.nested = double, nested

        def __call__(self) -> Any:
            a, b = self.double(1), self.double("b")
            told = self.nested({"list": [a, (b, [a])], b: {a}})
            return {"told": told, "keys": {b: a}, "tuple": (a, [b])}

    value = workflow(Nesting, double=double, nested=nested).run()
    assert value["told"] == ("{'list': [2, ('bb', [2])], 'bb': {2}}", "<class 'int'>")
    assert type(value["keys"].popitem()[1]) is int
    assert type(value["tuple"][1][0]) is str


@dataclass
class Pair:
    left: Any
    right: Any


def test_results_in_objects_of_a_returned_value_are_values_too() -> None:
    pair = within(lambda x: Pair(x, [x]), 3)
    assert type(pair.left) is int
    assert not is_result(pair.right[0])


def test_a_failing_result_in_an_object_of_a_returned_value_fails_the_workflow() -> None:
    made = LocalWorkflow(lambda bad: lambda: Pair(bad("x"), 1))
    made.conf_activity("bad", int)
    with pytest.raises(TaskError, match="invalid literal") as caught:
        made.run()
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_the_workflow_does_to_a_value_is_passed_on() -> None:
    def body(x: Any) -> Any:
        x.append(3)
        return x

    def factory(give: Any, size: Any) -> Callable[[], Any]:
        def run() -> Any:
            x = give([1, 2])
            before = size(x)
            x.append(3)
            return [before, size(x)]

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("give", given)
    made.conf_activity("size", len)
    assert within(body, [1, 2]) == [1, 2, 3]
    assert made.run() == [2, 3]


def test_what_the_workflow_does_to_an_argument_after_a_call_does_not_reach_the_call() -> None:
    gate = threading.Event()

    def factory(late: Any, size: Any) -> Callable[[], Any]:
        def run() -> Any:
            pair, go = Pair([], 0), late()
            result = size(pair, go)
            pair.left.append(1)
            gate.set()
            return result

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("late", lambda: gate.wait(10))
    made.conf_activity("size", lambda pair, go: len(pair.left))
    assert made.run() == 0


@dataclass(repr=False)
class Silent:
    part: Any


def test_a_failing_result_in_an_object_among_the_arguments_is_its_own_error() -> None:
    made = LocalWorkflow(lambda bad, give: lambda: give(Silent(bad("x"))))
    made.conf_activity("bad", int)
    made.conf_activity("give", given)
    with pytest.raises(TaskError, match=r"^ValueError: invalid literal .* \(task bad#1\)$"):
        made.run()


def megabytes(n: int) -> Any:
    return np.full(n * 125_000, 1.0)


def size(arrays: Any) -> str:
    return f"{sum(each.nbytes for each in arrays) // 1_000_000} MB"


def test_large_results_are_passed_on_through_sub_workflows(workflow: Callable[..., InferredWorkflow]) -> None:
    class Sub:
        def __init__(self, megabytes: Any) -> None:
            self.megabytes = megabytes

        def __call__(self, array: Any) -> Any:
            return array if is_result(array) or array.nbytes else self.megabytes(1)

    class Outer:
        def __init__(self, sub: Any, megabytes: Any, size: Any) -> None:
            self.sub, self.megabytes, self.size = sub, megabytes, size

        def __call__(self) -> Any:
            arrays = [self.sub(self.megabytes(3)), self.sub(self.megabytes(0))]
            return [self.size(arrays), arrays[1].nbytes, {"mean": arrays[0].mean()}]

    sub = workflow(Sub, megabytes=megabytes)
    assert workflow(Outer, sub=sub, megabytes=megabytes, size=size).run() == ["4 MB", 1_000_000, {"mean": 1.0}]
