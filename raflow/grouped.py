"""The stream that `group_by` returns: it waits for what is to be made of each group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raflow.errors import InvalidOption
from raflow.operators.aggregate import Aggregate

if TYPE_CHECKING:
    from raflow.stream import Stream


class Grouped:
    """A stream with the columns by which it is grouped; from `Stream.group_by`."""

    def __init__(self, stream: Stream, keys: tuple[str, ...]) -> None:
        self._stream = stream
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Grouped by {', '.join(self._keys) or 'nothing'}: {self._stream!r}>"

    def agg(self, **aggregations: tuple[str, str]) -> Stream:
        """Return one record per group: its keys and these columns.

        Args:
            aggregations: By name of the new column: a column and what is made of it, one of "mean", "sum",
                "count", "min", "max", "std", "first", "approx_distinct" and others.

        Raises:
            InvalidOption: There are none, or one is unknown.
        """
        if not aggregations:
            msg = f'agg() of {self!r} makes nothing: give it columns, e.g. agg(mean=("fare", "mean"))'
            raise InvalidOption(msg)
        for name, given in aggregations.items():
            if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], str):
                msg = f'agg({name}={given!r}): give a column and a function, e.g. {name}=("fare", "mean")'
                raise InvalidOption(msg)
        return self._stream._then(Aggregate(self._keys, tuple((name, *one) for name, one in aggregations.items())))

    def count(self, name: str = "count") -> Stream:
        """Return one record per group: its keys and the number of its records.

        Raises:
            InvalidOption: A key has that name.
        """
        return self._stream._then(Aggregate(self._keys, ((name, None, "count"),)))

    def map_groups(self, function: Callable[..., Any]) -> Stream:
        """Call a function with all records of each group; see `Stream.map_groups`."""
        return self._stream.map_groups(function, by=self._keys)
