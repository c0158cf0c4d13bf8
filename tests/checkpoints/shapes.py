"""Classes that the tests of checkpoints store; another process imports them by their path."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, PrivateAttr

Point = namedtuple("Point", ["x", "y"])


class Span(NamedTuple):
    start: int
    stop: Any = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclass
class Trip:
    zone: int
    tags: set[str] = field(default_factory=set)
    inner: Any = None


@dataclass(frozen=True)
class Frozen:
    name: str
    rest: tuple[Any, ...] = ()


@dataclass(slots=True)
class Slotted:
    value: Any


@dataclass
class Cached:
    """Its state is more than its fields."""

    n: int

    def __post_init__(self) -> None:
        self.square = self.n**2


@dataclass
class Priced:
    """Has pseudo-fields beside its one field."""

    net: float
    made: ClassVar[int] = 0
    tax: InitVar[float] = 0.0

    def __post_init__(self, tax: float) -> None:
        self.net -= tax


class Basket(BaseModel):
    prices: list[int]

    @cached_property
    def total(self) -> int:
        return sum(self.prices)


class Order(BaseModel):
    number: int
    note: str | None = None
    items: list[dict[str, int]] = []
    _seen: set[str] = PrivateAttr(default_factory=set)


class Text(str):
    """A subclass of a builtin."""


class Thing:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return type(other) is Thing and other.__dict__ == self.__dict__

    __hash__ = None  # type: ignore[assignment]


class Unreadable(Exception):
    """Pickles, but cannot be read back."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
