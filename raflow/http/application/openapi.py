"""What `/openapi.json` says beside what FastAPI finds in signatures: what collectors read, and how we refuse."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from raflow.convert import Shape
from raflow.http.collector import Collector
from raflow.http.ingest.bodies import ARROW, JSON, LINES
from raflow.http.routes import BODILESS, parameters

Json = dict[str, Any]

_REPLY = {"type": "object", "properties": {"success": {"type": "boolean"}, "records": {"type": "integer"}}}
_ERROR = {
    "type": "object",
    "properties": {"index": {"type": "integer"}, "status": {"type": "integer"}, "message": {"type": "string"},
                   "kept": {"type": "boolean"}},
}  # fmt: skip
_ERRORS = {"errors": {"type": "array", "items": _ERROR}, "more_errors": {"type": "integer"}}
_PARTLY = {**_REPLY, "properties": {**_REPLY["properties"], **_ERRORS}}  # type: ignore[dict-item]
_REFUSED = {
    "type": "object",
    "properties": {"success": {"type": "boolean"}, "detail": {}, "errors": {}, "kept": {"type": "boolean"}},
}


class Documented(FastAPI):
    """FastAPI with more in its OpenAPI description: what collectors read, and how we refuse."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._described: list[tuple[APIRoute, Collector, Shape]] = []

    def describe(self, route: APIRoute, collector: Collector, shape: Shape) -> None:
        """Have what a collector reads in the description of its route."""
        self._described.append((route, collector, shape))

    def openapi(self) -> Json:
        """Return the description."""
        if self.openapi_schema is None:
            self._complete(super().openapi())
        assert self.openapi_schema is not None
        return self.openapi_schema

    def _complete(self, found: Json) -> None:
        schemas: Json = found.setdefault("components", {}).setdefault("schemas", {})
        for route, collector, shape in self._described:
            record, definitions = _record(shape, schemas, collector.name)
            schemas |= definitions
            _add_record(found["paths"][route.path_format][collector.method.lower()], collector, shape, record)
        if _VALIDATION in schemas:  # what user code raises as 422 has a text there
            schemas[_VALIDATION]["properties"]["detail"] = {}
        for methods in found["paths"].values():
            for operation in methods.values():
                _add_refusals(operation)


def replies(success: int) -> Json:
    """Return the options of a collector's route that tell of its replies.

    Args:
        success: The status when all is well.
    """
    said = {success: _REPLY, 207: _PARTLY, 400: _REFUSED, 415: _REFUSED, 422: _REFUSED, 503: _REFUSED}
    found = {code: {"description": _MEANS[code], "content": {JSON: {"schema": one}}} for code, one in said.items()}
    return {"responses": found, "status_code": success}


def _add_record(operation: Json, collector: Collector, shape: Shape, record: Json) -> None:
    path = parameters(collector.route)
    known = record.get("properties", {})
    described = [_parameter(name, "path", known.get(name, {"type": "string"}), True) for name in path]
    record = _without(record, path)
    if collector.method in BODILESS:
        needed = record.get("required", ())
        fields = record.get("properties", {})
        described += [_parameter(name, "query", schema, name in needed) for name, schema in fields.items()]
    else:
        # A text may be empty, and an empty body is none.
        is_needed = shape.record not in (str, bytes)
        operation["requestBody"] = {"required": is_needed, "content": _content(shape, record)}
    if described:
        operation["parameters"] = [*operation.get("parameters", ()), *described]


_VALIDATION = "HTTPValidationError"
_REFUSALS = {
    "400": "The body cannot be parsed",
    "401": "Who asks is not proven",
    "default": "What the processor raises, beyond a limit (408, 413, 429, 503, 504), or an error (500)",
}
_DETAIL = {"type": "object", "properties": {"detail": {}, "error_id": {"type": "string"}}}


def _add_refusals(operation: Json) -> None:
    """Add the replies that any processor may give, where it does not say more of them itself."""
    applies = {"400": "requestBody" in operation, "401": "security" in operation, "default": True}
    for status, means in _REFUSALS.items():
        if applies[status]:
            reply = {"description": means, "content": {JSON: {"schema": _DETAIL}}}
            operation["responses"].setdefault(status, reply)


_MEANS = {
    200: "The records are written",
    202: "The records are in the buffer",
    207: "Some records are written, and what is wrong with the others",
    400: "The body cannot be parsed",
    415: "The media type is not read",
    422: "No record fits: says which fields are wrong",
    503: "Nothing is written; try again",
}


def _record(shape: Shape, taken: Json, collector: str) -> tuple[Json, Json]:
    """Return the JSON schema of one record, and the types that it refers to, by names that no others have."""
    if shape.record in (str, bytes):
        return {}, {}
    if shape.record in (dict, None):
        return {"type": "object"}, {}
    try:
        found = _schema(shape, "")
    except PydanticInvalidForJsonSchema:
        return {"type": "object"}, {}
    if any(taken.get(name, one) != one for name, one in found[1].items()):
        return _schema(shape, re.sub(r"\W", "_", collector, flags=re.ASCII) + "__")
    return found


def _schema(shape: Shape, prefix: str) -> tuple[Json, Json]:
    schema = TypeAdapter(shape.record).json_schema(ref_template=f"#/components/schemas/{prefix}{{model}}")
    return schema, {f"{prefix}{name}": one for name, one in schema.pop("$defs", {}).items()}


def _without(record: Json, names: list[str]) -> Json:
    """Return the schema of a record without the fields that the path gives."""
    if not names or "properties" not in record:
        return record
    properties = {name: schema for name, schema in record["properties"].items() if name not in names}
    required = [name for name in record.get("required", ()) if name not in names]
    return {**record, "properties": properties, "required": required}


def _parameter(name: str, place: str, schema: Json, required: bool) -> Json:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _content(shape: Shape, record: Json) -> Json:
    if shape.record in (str, bytes):
        return {"*/*": {"schema": {}}}
    return {
        JSON: {"schema": {"anyOf": [record, {"type": "array", "items": record}]}},
        LINES: {"schema": {"type": "string"}},
        ARROW: {"schema": {"type": "string", "format": "binary"}},
    }
