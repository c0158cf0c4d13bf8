"""What a form is: how values of one type are taken apart, and raw bytes among the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class TornDown(Exception):
    """A part has no form; every level above puts its own step before the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""


class Raw:
    """Bytes that go into a buffer of their own."""

    def __init__(self, data: Any) -> None:
        self.data = data


class Form(NamedTuple):
    """How values of one type are stored."""

    tag: str
    take: Callable[[Any], Iterable[Any]]
    label: Callable[[Any, int], str] = lambda value, number: ""
    """Where the n-th part stands in the value, for errors."""


Make = Callable[[list[Any]], Any]
"""Makes a value of its parts."""
