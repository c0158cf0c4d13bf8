"""One value has one fingerprint, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.checkpoints.codec import decode, encode
from raflow.checkpoints.digest import digest
from raflow.errors import NotSerializable
from tests.checkpoints import shapes

ROOT = Path(__file__).parents[2]
WORDS = ["one", "two", "three", "four", "five", "six"]


def values() -> list[Any]:
    return [
        set(WORDS), frozenset(WORDS), {"b": 1, "a": {2: set(WORDS)}}, shapes.Trip(1, set(WORDS)),
        shapes.Thing(words=set(WORDS), more=shapes.Thing(x=1)), shapes.Order(number=1), Counter(WORDS), print,
        shapes.Trip,
        ValueError("x", set(WORDS)), np.arange(3), np.array([1, "x", None], dtype=object),
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1.5]}), pa.table({"a": [1, None]}), pd.Timestamp("2026-01-01", tz="Europe/Berlin"),
        shapes.Text("x"),
    ]  # fmt: skip


def test_another_process_computes_the_same() -> None:
    code = "from tests.checkpoints.test_digest import *; print(*map(digest, values()))"
    here = [digest(value) for value in values()]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == here


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "x", "1": "y"}, {"1": "y", 1: "x"}),
        (Counter("aab"), Counter("baa")),
        (pa.chunked_array([[1], [2]]), pa.chunked_array([[1, 2]])),
        (pa.table({"a": [1, 2]}).slice(1), pa.table({"a": [2]})),
    ],
)
def test_what_is_equal_has_one_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


def test_it_does_not_matter_whether_parts_are_shared() -> None:
    inner = [1]
    assert digest([inner, inner]) == digest([[1], [1]])


def test_what_differs_has_another_digest() -> None:
    different = [
        None, False, 0, 0.0, "", b"", [], (), {}, set(), frozenset(), "0", b"0", [0], (0,), {0: 0}, {"0": 0}, {0},
        frozenset([0]), [[]],
        [0, 0], ["0"], OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), {"a": 1, "b": 2}, shapes.Trip(0),
        shapes.Trip(1), shapes.Point(1, 2),
        shapes.Span(1, 2), (1, 2), np.int32(1), np.int64(1), np.array([1]), np.array([1], "i4"),
        shapes.Thing(a=1), shapes.Thing(a=2),
        shapes.Text(""), shapes.Colour.RED, shapes.Colour.BLUE, len, print, ValueError("a"), ValueError("b"),
    ]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.text()),
    )
)
@settings(max_examples=100, deadline=None)
def test_a_value_that_was_stored_has_the_digest_it_had(value: Any) -> None:
    assert digest(decode(encode(value))) == digest(value)


def test_deeply_shared_values_do_not_take_forever() -> None:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    assert digest(value)


def test_what_has_no_digest_is_named() -> None:
    with pytest.raises(NotSerializable, match=r"initial_context\['a'\]\[0\] is a lock"):
        digest({"a": [threading.Lock()]}, "initial_context")
    with pytest.raises(NotSerializable, match=r"initial_context\['g'\] is a generator"):
        digest({"g": (n for n in "")}, "initial_context")


def test_a_circle_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotSerializable, match="contains itself"):
        digest(value)
