"""Join two inputs by equal keys.

Theory. Only keys and row numbers go through Acero's hash join, since it knows few types; columns of any type
are then taken by row number. Keys are brought to one type, and to forms that Acero compares as values: it
compares bits, where -0.0 is not 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import InvalidOption, SchemaError
from raflow.operators.contract import Even, Everywhere, Hash, Route, Wide
from raflow.operators.grouping import form
from raflow.operators.keys import common_type
from raflow.operators.names import check_columns

Numbers = npt.NDArray[np.int64]

_ACERO = {
    "inner": "inner",
    "left": "left outer",
    "right": "right outer",
    "outer": "full outer",
    "semi": "left semi",
    "anti": "left anti",
}


@dataclass(frozen=True)
class Join(Wide):
    """Pairs of rows with equal keys; which rows without a partner are there too is what `how` says.

    A null key has no partner. NaN is a partner of NaN, and 0.0 of -0.0. Keys of different types of numbers
    are compared as one type: floats as float64, all others exactly. The result has the columns of the left
    input, with the keys in their places, then those of the right one without its keys. "semi" and "anti"
    keep rows of the left input that have a partner or none. Rows come in the order of the left input, those
    with the same left row in the order of the right one, right rows without partner last.

    Raises:
        InvalidOption: `how` is unknown, or there are no keys.
    """

    on: tuple[tuple[str, str], ...]
    """Pairs of a key of the left and one of the right input."""
    how: str = "inner"
    """"inner", "left", "right", "outer", "semi" or "anti"."""
    suffix: str = "_right"
    """Behind the names of right columns that the left input has as well."""
    all_of: int | None = None
    """The input of which every partition has all rows (a broadcast join); None: both are spread by their keys."""

    def __post_init__(self) -> None:
        if self.how not in _ACERO:
            msg = f"join: how is {self.how!r}; it must be one of {', '.join(_ACERO)}"
            raise InvalidOption(msg)
        if not self.on:
            msg = "join: there are no keys; name at least one column in `on`"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """The kind and the keys."""
        keys = ", ".join(left if left == right else f"{left} = {right}" for left, right in self.on)
        return f"{'' if self.how == 'inner' else f'{self.how} '}join on {keys}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Both inputs are spread by their keys; or one goes everywhere and the other is dealt out."""
        if self.all_of is None:
            return Hash(self._keys(0)), Hash(self._keys(1))
        return (Everywhere(), Even()) if self.all_of == 0 else (Even(), Everywhere())

    @property
    def spreadable(self) -> tuple[int, ...]:
        """Those whose rows without partner are not in the result: each partition would have them."""
        return {"inner": (1, 0), "right": (0,), "outer": ()}.get(self.how, (1,))

    def with_all_of(self, side: int) -> Join:
        """Return the join that has all rows of an input in every partition."""
        return replace(self, all_of=side)

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the fields of the left input, then those of the right one without its keys."""
        left, right = given
        for side, schema in enumerate(given):
            check_columns(self._keys(side), schema, f"{self.label} ({('left', 'right')[side]} input)")
        kinds = {one: self._type(left.field(one), right.field(other)) for one, other in self.on}
        if self._left_only:
            return left
        keyed = [field.with_type(kinds.get(field.name, field.type)) for field in left]
        return pa.schema([field.with_nullable(True) for field in [*keyed, *self._payload(left, right)]])

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        # Of the left side also what gives a name of the right one its suffix.
        left, right = (set(one.names) for one in given)
        keys = {pair[side] for pair in self.on}
        of_right = {name for name in right if (f"{name}{self.suffix}" if name in left else name) in wanted}
        return keys | of_right if side else keys | (left & wanted) | (left & of_right)

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the joined rows; of an input that nothing is known of only the keys."""
        left, right = tables
        left, right = self._with_keys(left, 0, right), self._with_keys(right, 1, left)
        schema = self.schema(left.schema, right.schema)
        kinds = [self._type(left.schema.field(one), right.schema.field(other)) for one, other in self.on]
        both = {
            one: _together(left[one], right[other], kind) for (one, other), kind in zip(self.on, kinds, strict=True)
        }
        forms = [form(_keyed(keys)) for keys in both.values()]
        if self._left_only:
            return left.take(_partners(forms, left.num_rows, self.how)[0])
        lefts, rights = _partners(forms, left.num_rows, self.how)
        keys_at = pc.coalesce(lefts, pc.add(rights, left.num_rows))
        columns = [both[name].take(keys_at) if name in both else left[name].take(lefts) for name in left.column_names]
        columns += [right[name].take(rights) for name in right.column_names if name not in self._keys(1)]
        return pa.Table.from_arrays(columns, schema=schema)

    @property
    def _left_only(self) -> bool:
        return self.how in ("semi", "anti")

    def _keys(self, side: int) -> tuple[str, ...]:
        return tuple(pair[side] for pair in self.on)

    def _type(self, left: pa.Field, right: pa.Field) -> pa.DataType:
        kind = common_type(left.type, right.type)
        if kind is None:
            msg = (
                f"{self.label}: key {left.name!r} is {left.type} on the left but {right.name!r} is {right.type} "
                "on the right; cast one of them"
            )
            raise SchemaError(msg)
        return kind

    def _payload(self, left: pa.Schema, right: pa.Schema) -> list[pa.Field]:
        """Return the fields of the right input without its keys, under the names that they get."""
        taken, fields = set(left.names), []
        for field in right:
            if field.name in self._keys(1):
                continue
            name = field.name + self.suffix if field.name in left.names else field.name
            if name in taken or (name != field.name and name in right.names):
                msg = (
                    f"{self.label}: both inputs have a column {field.name!r}, and {name!r} exists as well; "
                    "give another suffix, or rename or drop the column"
                )
                raise SchemaError(msg)
            taken.add(name)
            fields.append(field.with_name(name))
        return fields

    def _with_keys(self, table: pa.Table, side: int, other: pa.Table) -> pa.Table:
        """Return an input without columns, since it never had a row, with keys as the other one has them."""
        if table.num_columns:
            return table
        kinds = {pair[side]: _type_in(other.schema, pair[1 - side]) for pair in self.on}
        return pa.schema(list(kinds.items())).empty_table()


def _type_in(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type if name in schema.names else pa.null()


def _together(left: pa.ChunkedArray, right: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the keys of both inputs as one column, first the left ones."""
    return pa.chunked_array([*_as(left, kind).chunks, *_as(right, kind).chunks], kind)


def _as(keys: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_decimal(keys.type) and pa.types.is_floating(kind):
        return keys.cast(pa.string()).cast(kind)  # Arrow's own cast makes other floats of 0.3 and 0.30
    return keys.cast(kind, safe=not pa.types.is_floating(kind))


def _keyed(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys of another type than null, which Acero cannot join by."""
    return keys.cast(pa.int8()) if pa.types.is_null(keys.type) else keys


def _partners(forms: Sequence[pa.ChunkedArray | pa.Array], left_rows: int, how: str) -> tuple[pa.Array, pa.Array]:
    """Return the row numbers of the left and of the right input that are together, null where there is none.

    Args:
        forms: The keys, first those of the left rows, then those of the right ones.
        left_rows: Where the right ones begin.
        how: The kind of join.
    """
    right_rows = len(forms[0]) - left_rows
    keys = [f"key {number}" for number in range(len(forms))]
    left = pa.table([*(one.slice(0, left_rows) for one in forms), np.arange(left_rows)], [*keys, "left"])
    right = pa.table([*(one.slice(left_rows) for one in forms), np.arange(right_rows)], [*keys, "right"])
    found = left.join(right, keys, join_type=_ACERO[how], use_threads=False)
    lefts = _filled(found, "left", left_rows)
    rights = _filled(found, "right", right_rows)
    ordered = np.sort(lefts * (right_rows + 1) + rights)  # as one number, which numpy sorts fastest
    lefts, rights = np.divmod(ordered, right_rows + 1)
    return pa.array(lefts, mask=lefts == left_rows), pa.array(rights, mask=rights == right_rows)


def _filled(found: pa.Table, name: str, missing: int) -> Numbers:
    if name not in found.column_names:
        return np.full(found.num_rows, missing)
    filled: Numbers = found[name].fill_null(missing).to_numpy()
    return filled
