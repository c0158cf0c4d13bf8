"""Annotations read as Arrow types: what the fields of a record type are called, and what they hold."""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass, is_dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raflow.convert import build
from raflow.convert.build import Build
from raflow.convert.nested import holds_map, left_open
from raflow.errors import InvalidProcessor
from raflow.schema import fix

ATOMS: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime: pa.timestamp("us"),
    date: pa.date32(),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
    Decimal: pa.decimal128(38, 9),
}
"""Python types that Arrow takes and gives as they are."""

_ALLOWED = (
    "int, float, bool, str, bytes, datetime, date, time, timedelta, Decimal, UUID, an Enum, Literal, "
    "T | None, list[T], tuple[T, ...], set[T], dict[str, T], Any, a dataclass or a pydantic model"
)
_OPTIONAL = b"raflow.optional"


@dataclass(frozen=True)
class Value:
    """What one annotation means."""

    type: pa.DataType
    """Arrow's type; `pa.null()` stands for anything."""
    build: Build | None = None
    """Makes the Python value from Arrow's, which is never None here; None if they are the same."""
    nullable: bool = False
    """Whether None is allowed."""
    trim: Build | None = None
    """Leaves out the nulls inside of Arrow's value that stand for defaults; None if there can be none."""
    is_open: bool = False
    """Whether values decide the type: `Any`, and datetimes, which have a time zone or not."""


@dataclass(frozen=True)
class Field:
    """One field of a record type."""

    name: str
    """Attribute."""
    column: str
    """Column that holds it."""
    value: Value
    required: bool = True
    """Whether the constructor has no default for it."""
    positional: bool = True
    """Whether the constructor takes it by position."""
    initial: bool = True
    """Whether the constructor takes it at all."""

    @property
    def null_is_default(self) -> bool:
        """Whether a null stands for the default."""
        return not self.required and not self.value.nullable

    def wanted(self) -> pa.Field:
        """Return it as a column that a source is asked for."""
        marks = {} if self.value.is_open else dict(fix(pa.field("", pa.null())).metadata)
        if not self.required:
            marks[_OPTIONAL] = b"yes"
        return pa.field(self.column, self.value.type, metadata=marks or None)

    def returned(self) -> pa.Field:
        """Return it as a column of an output; an open type is left to the values."""
        if not self.value.is_open:
            return fix(pa.field(self.column, self.value.type))
        return pa.field(self.column, left_open(self.value.type) if holds_map(self.value.type) else pa.null())


def is_optional(field: pa.Field) -> bool:
    """Return whether a wanted column may be absent, because the record type has a default."""
    return bool(field.metadata and _OPTIONAL in field.metadata)


def is_record(kind: Any) -> bool:
    """Return whether it is a type with fields: a dataclass or a pydantic model."""
    return isinstance(kind, type) and get_origin(kind) is None and (is_dataclass(kind) or issubclass(kind, BaseModel))


@lru_cache(maxsize=512)
def fields_of(kind: Any, outer: tuple[type, ...] = ()) -> tuple[Field, ...]:
    """Return the fields of a dataclass or pydantic model.

    Args:
        kind: The record type.
        outer: The record types that hold it.

    Raises:
        InvalidProcessor: An annotation has no Arrow type; names the class, the field and what is allowed.
    """
    if kind in outer:
        msg = f"{kind.__name__} holds itself, for which Arrow has no type; hold a key of the other instead"
        raise InvalidProcessor(msg)
    outer = (*outer, kind)
    if issubclass(kind, BaseModel):
        free = _validated_before(kind)
        return tuple(_model_field(kind, name, free, outer) for name in kind.model_fields)
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        msg = f"an annotation of {kind.__name__} cannot be resolved ({error}); define that name at module level"
        raise InvalidProcessor(msg) from error
    return tuple(_dataclass_field(kind, field, hints[field.name], outer) for field in dataclasses.fields(kind))


def _dataclass_field(kind: type, field: dataclasses.Field[Any], hint: Any, outer: tuple[type, ...]) -> Field:
    value = value_of(hint, f"{kind.__name__}.{field.name}", outer)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return Field(field.name, field.name, value, required, not field.kw_only, field.init)


def _model_field(kind: type[BaseModel], name: str, free: set[str], outer: tuple[type, ...]) -> Field:
    info = kind.model_fields[name]
    column = column_name(name, info)
    if free & {name, "*"} or _is_validated_before(info):
        value = Value(pa.null(), nullable=True, is_open=True)
    else:
        value = value_of(info.annotation, f"{kind.__name__}.{name}", outer)
    return Field(name, column, value, info.is_required())


def column_name(name: str, info: FieldInfo) -> str:
    """Return the column of a pydantic field: its alias, if it has one."""
    return next((alias for alias in (info.validation_alias, info.alias) if isinstance(alias, str)), name)


def _validated_before(kind: type[BaseModel]) -> set[str]:
    """Return the fields whose validators see the raw value first, so that no column type is wrong."""
    decorators = kind.__pydantic_decorators__.field_validators.values()
    return {name for each in decorators if each.info.mode != "after" for name in each.info.fields}


def _is_validated_before(info: FieldInfo) -> bool:
    return any(type(mark).__name__ in ("BeforeValidator", "WrapValidator", "PlainValidator") for mark in info.metadata)


def value_of(annotation: Any, where: str, outer: tuple[type, ...] = ()) -> Value:
    """Return what an annotation means.

    Raises:
        InvalidProcessor: It has no Arrow type; the message starts with `where`.
    """
    if annotation in (Any, object):
        return Value(pa.null(), nullable=True, is_open=True)
    container, arguments = get_origin(annotation) or annotation, get_args(annotation)
    same_as = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    if same_as is not None or container is Annotated:
        return value_of(same_as or arguments[0], where, outer)
    if container in (Union, types.UnionType):
        return _union(annotation, where, outer)
    if container is Literal:
        return _literal(arguments, where)
    if container in (list, tuple, set, frozenset):
        return _sequence(annotation, where, outer)
    if container is dict:
        return _mapping(annotation, where, outer)
    return _class(annotation, where, outer)


def _class(annotation: Any, where: str, outer: tuple[type, ...]) -> Value:
    if is_record(annotation):
        return _nested(annotation, outer)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of([member.value for member in annotation], where, annotation)
    if annotation is UUID:
        return Value(pa.string(), build.uuid)
    if annotation not in ATOMS:
        _refuse(where, annotation)
    return Value(ATOMS[annotation], is_open=annotation is datetime)


def _refuse(where: str, annotation: Any) -> NoReturn:
    shown = annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
    msg = f"{where} is annotated {shown}, which cannot be a column; allowed are {_ALLOWED}"
    raise InvalidProcessor(msg)


def _union(annotation: Any, where: str, outer: tuple[type, ...]) -> Value:
    members = [each for each in get_args(annotation) if each is not type(None)]
    nullable = len(members) < len(get_args(annotation))
    if set(members) == {int, float}:
        members = [float]
    if len(members) != 1:
        _refuse(where, annotation)
    value = value_of(members[0], where, outer)
    return replace(value, nullable=nullable or value.nullable)


def _one_of(values: list[Any], where: str, built: Build) -> Value:
    kinds = {type(value) for value in values}
    kind = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else None
    if kind not in ATOMS:
        msg = f"{where} has values of several or unknown types: {values!r}; they must be of one plain type"
        raise InvalidProcessor(msg)
    return Value(ATOMS[kind], built)


def _literal(members: tuple[Any, ...], where: str) -> Value:
    allowed = [value for value in members if value is not None]
    return replace(_one_of(allowed, where, partial(build.member, allowed)), nullable=None in members)


def _sequence(annotation: Any, where: str, outer: tuple[type, ...]) -> Value:
    container = get_origin(annotation) or annotation
    kinds = set(get_args(annotation)) - {...} or {Any}
    if len(kinds) > 1:
        _refuse(where, annotation)
    item = value_of(kinds.pop(), where, outer)
    built = None if container is list and item.build is None else partial(build.items, container, item.build)
    trim = partial(build.items, list, item.trim) if item.trim else None
    return Value(pa.list_(item.type), built, trim=trim, is_open=item.is_open)


def _mapping(annotation: Any, where: str, outer: tuple[type, ...]) -> Value:
    key, values = get_args(annotation) or (str, Any)
    if key is not str:
        _refuse(where, annotation)
    item = value_of(values, where, outer)
    built = partial(build.entries, item.build) if item.build else None
    trim = partial(build.entries, item.trim) if item.trim else None
    return Value(pa.map_(pa.string(), item.type), built, trim=trim, is_open=item.is_open)


def _nested(kind: type, outer: tuple[type, ...]) -> Value:
    fields = [field for field in fields_of(kind, outer) if field.initial]
    struct = pa.struct([field.wanted() for field in fields])
    is_open = any(field.value.is_open for field in fields)
    inner = [(field.column, field.null_is_default, field.value.trim) for field in fields]
    trims = tuple(one for one in inner if any(one[1:]))
    trim = partial(build.without_nulls, trims) if trims else None
    built: Build = partial(build.record, kind, tuple(fields))
    if issubclass(kind, BaseModel):
        built = partial(build.model, kind.model_validate, trim) if trim else kind.model_validate
    return Value(struct, built, trim=trim, is_open=is_open)
