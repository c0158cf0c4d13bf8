"""Python values made from what Arrow gives: dataclasses from dicts, sets from lists, enums from values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from raflow.convert.fields import Field

Build = Callable[[Any], Any]
"""Makes a value from Arrow's, which is never None here."""


def record(kind: type, fields: Iterable[Field], row: dict[str, Any]) -> Any:
    """Return a dataclass instance made from values by column; null or absent ones take their default."""
    values = {}
    for field in fields:
        value, build = row.get(field.column), field.value.build
        if value is not None:
            try:
                values[field.name] = build(value) if build else value
            except (ValueError, TypeError) as error:
                msg = f"field {field.name!r} of {kind.__name__} cannot be {value!r:.60}: {error}"
                raise ValueError(msg) from error
        elif field.value.nullable and (field.column in row or field.required):
            values[field.name] = None
        elif field.required:
            msg = f"field {field.name!r} of {kind.__name__} is null; make it Optional or give it a default"
            raise ValueError(msg)
    return kind(**values)


def column(build: Build | None, values: list[Any]) -> list[Any]:
    """Return built values; None stays."""
    return values if build is None else [None if value is None else build(value) for value in values]


def items(container: type, build: Build | None, values: list[Any]) -> Any:
    """Return the items of an Arrow list in another container."""
    return container(column(build, values))


def entries(build: Build, values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of an Arrow map."""
    return dict(zip(values, column(build, list(values.values())), strict=True))


def without_nulls(inner: Iterable[tuple[str, bool, Build | None]], row: dict[str, Any]) -> dict[str, Any]:
    """Return a record type's values by column without the nulls that stand for defaults, all the way down.

    Args:
        inner: Columns, whether null stands for their default, and what does the same inside of them.
        row: The values.
    """
    result = dict(row)
    for name, has_default, trim in inner:
        value = result.get(name)
        if value is None:
            if has_default:
                result.pop(name, None)
        elif trim is not None:
            result[name] = trim(value)
    return result


def model(validate: Build, trim: Build, value: Any) -> Any:
    """Return a pydantic model made from values of which some nulls stand for defaults."""
    return validate(trim(value))


def uuid(value: Any) -> UUID:
    """Return a UUID from its text."""
    return value if isinstance(value, UUID) else UUID(value)


def member(allowed: list[Any], value: Any) -> Any:
    """Return a value of a Literal."""
    if value not in allowed:
        msg = f"allowed are {allowed}"
        raise ValueError(msg)
    return value
