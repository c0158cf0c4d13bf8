"""Classes that travel by value come back as they are where they were defined."""

from __future__ import annotations

import enum
import pickle
import subprocess
import sys
from typing import Any

from raflow.runtime.steps.values import pack, unpack

PROGRAM = """
import sys
from raflow.runtime.steps.values import unpack
import pickle
value = unpack(pickle.loads(sys.stdin.buffer.read()))
print(type(value).__name__, value.number, type(value).seen)
"""


def local() -> tuple[type[Any], type[enum.Enum]]:
    class Thing:
        seen: list[int] = []  # noqa: RUF012

        def __init__(self, number: int) -> None:
            self.number = number

    class Colour(enum.Enum):
        RED = 1

    return Thing, Colour


def test_reading_an_object_leaves_its_class_alone() -> None:
    thing, _ = local()
    seen, made = thing.seen, thing.__init__
    packed = pack(thing(3), "it")
    seen.append(1)
    again = unpack(packed)
    assert type(again) is thing
    assert thing.seen is seen
    assert thing.__init__ is made
    assert again.seen == [1]


def test_a_member_of_an_enum_is_the_same_member() -> None:
    _, colour = local()
    assert unpack(pack(colour["RED"], "it")) is colour["RED"]


def test_another_process_gets_the_class_with_its_attributes() -> None:

    thing, _ = local()
    thing.seen.append(7)
    packed = pickle.dumps(pack(thing(3), "it"), protocol=5)
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=packed, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "Thing 3 [7]"
