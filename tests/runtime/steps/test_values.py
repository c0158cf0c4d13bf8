from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raflow.errors import NotSerializable
from raflow.runtime.steps.values import INLINE_BYTES, Packed, Slot, pack, replace, unpack


class Point(NamedTuple):
    x: Any
    y: Any


class Span(namedtuple("Span", "start end")):
    def __new__(cls, text: str) -> Span:
        return super().__new__(cls, *text.split("-"))


class Unspeakable:
    def __reduce__(self) -> Any:
        raise TypeError

    def __repr__(self) -> str:
        raise ValueError


def generator() -> Any:
    yield 1


def swapped(value: Any) -> Any:
    """The value with each slot's number in its place."""
    return replace(value, lambda each: each.index if isinstance(each, Slot) else each)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


# -- values travel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1.5, "", "text", "x" * INLINE_BYTES, b"", b"bytes", b"x" * INLINE_BYTES, bytearray(b"x"),
        [], (), {}, set(), {1: "a", (2, 3): {4}}, Point(1, [2]), datetime(2024, 1, 1, tzinfo=timezone.utc), 10**40,
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.20}",
)  # fmt: skip
def test_a_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    found = unpack(pack(value, "it"))
    assert found == value
    assert type(found) is type(value)


def test_each_reader_gets_a_value_of_its_own() -> None:
    packed = pack({"items": [1, 2]}, "it")
    first, second = unpack(packed), unpack(packed)
    first["items"].append(3)
    assert second == unpack(packed) == {"items": [1, 2]}


def test_what_the_maker_does_later_no_reader_sees() -> None:
    made = {"items": [1, 2]}
    packed = pack(made, "it")
    made["items"].clear()
    assert unpack(packed) == {"items": [1, 2]}


def test_a_value_that_holds_itself_comes_back_as_it_was() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    found = unpack(pack(ring, "it"))
    assert found[1] is found


@pytest.mark.parametrize("function", [len, partial(int, base=2), lambda number: number + 1, pack])
def test_functions_and_closures_travel(function: Callable[..., Any]) -> None:
    assert callable(unpack(pack(function, "it")))


@pytest.mark.parametrize(
    ("value", "said"),
    [(generator(), "generator"), (threading.Lock(), "lock"), ([{"deep": threading.Lock()}], "lock")],
)
def test_what_cannot_travel_is_an_error_that_names_it(value: Any, said: str) -> None:
    with pytest.raises(NotSerializable, match=f"^the result of step double_3 cannot travel: .*{said}"):
        pack(value, "the result of step double_3")


def test_a_value_that_is_nested_too_deeply_is_an_error_that_says_so() -> None:
    with pytest.raises(NotSerializable, match="nested too deeply"):
        pack(nested(5_000), "it")


def test_a_value_that_can_neither_travel_nor_be_shown_is_an_error_of_ours() -> None:
    with pytest.raises(NotSerializable, match="Unspeakable"):
        pack(Unspeakable(), "it")


# -- buffers ------------------------------------------------------------------------------------------------


def test_arrays_are_shared_and_read_only() -> None:
    packed = pack({"numbers": np.arange(1000)}, "it")
    first, second = unpack(packed)["numbers"], unpack(packed)["numbers"]
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True


@pytest.mark.parametrize("strange", [np.zeros((0, 3)), np.array(7), np.arange(12).reshape(3, 4).T, np.arange(9)[::2]])
def test_arrays_of_every_shape_come_back_equal(strange: Any) -> None:
    found = unpack(pack(strange, "it"))
    assert found.shape == strange.shape
    assert np.array_equal(found, strange)


def test_tables_are_shared_without_a_copy() -> None:
    table = pa.table({"n": np.arange(100_000), "s": ["text"] * 100_000})
    packed = pack(table, "it")
    first, second = unpack(packed), unpack(packed)
    assert first.equals(table)
    addresses = [each.column("n").chunk(0).buffers()[1].address for each in (table, first, second)]
    assert len(set(addresses)) == 1
    assert len(packed.data) < 10_000


def test_data_frames_come_back_equal_and_one_reader_does_not_see_what_another_does() -> None:
    frame = pd.DataFrame({"n": range(5), "s": list("abcde")})
    packed = pack(frame, "it")
    first = unpack(packed)
    first["n"] = 0
    pd.testing.assert_frame_equal(unpack(packed), frame)


def test_the_size_is_that_of_data_and_buffers() -> None:
    assert pack(np.zeros(1000), "it").size_bytes >= 8000
    assert pack([1, 2], "it").size_bytes < 100


def test_a_packed_array_in_a_reference_cycle_can_be_collected() -> None:
    program = """
import gc
import numpy
from raflow.runtime.steps.values import pack

for _ in range(100):
    cycle = [pack(numpy.arange(10), "it")]
    cycle.append(cycle)
    del cycle
    gc.collect()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_packed_value_travels_with_its_buffers_apart() -> None:
    packed = pack(np.arange(1000), "it")
    buffers: list[Any] = []
    data = pickle.dumps(packed, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 1000
    again: Packed = pickle.loads(data, buffers=buffers)
    assert np.array_equal(unpack(again), np.arange(1000))
    assert again.size_bytes == packed.size_bytes


# -- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Slot(1), 1),
        ([Slot(1), (Slot(2), [Slot(3)])], [1, (2, [3])]),
        ({Slot(1): {Slot(2)}, "a": frozenset({Slot(3)})}, {1: {2}, "a": frozenset({3})}),
        (Point(Slot(1), [Slot(2)]), Point(1, [2])),
        ("text", "text"),
    ],
)
def test_everything_within_containers_is_swapped(value: Any, expected: Any) -> None:
    assert swapped(value) == expected
    assert type(swapped(value)) is type(expected)


def test_the_containers_themselves_are_left_as_they_were() -> None:
    value = [Slot(1), {"a": Slot(2)}]
    swapped(value)
    assert value == [Slot(1), {"a": Slot(2)}]


def test_other_containers_are_not_gone_into() -> None:
    value = OrderedDict(a=Slot(1))
    assert swapped(value) is value


def test_a_list_that_stands_twice_is_not_one_that_contains_itself() -> None:
    twice = [Slot(1)]
    assert swapped([twice, twice, {"a": twice}]) == [[1], [1], {"a": [1]}]


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_container_that_contains_itself_is_refused_by_name(kind: str) -> None:
    ring: Any = [] if kind == "list" else {}
    inner = [("deep", {"ring": ring})]
    ring.append(inner) if kind == "list" else ring.update(inner=inner)
    with pytest.raises(NotSerializable, match=f"an argument is a {kind} that contains itself"):
        swapped(ring)


def test_an_argument_that_is_nested_too_deeply_is_an_error_that_says_so() -> None:
    with pytest.raises(NotSerializable, match="nested too deeply"):
        swapped(nested(5000))


def test_a_named_tuple_with_a_constructor_of_its_own_is_kept() -> None:
    assert swapped([Span("1-2")]) == [Span("1-2")]
