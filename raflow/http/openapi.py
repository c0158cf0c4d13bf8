"""What `/openapi.json` says beside what FastAPI finds in signatures: what collectors read, and how we refuse."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from raflow.convert import Shape
from raflow.http.bodies import ARROW, JSON, LINES
from raflow.http.collector import Collector
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
    """FastAPI with more types in its OpenAPI description."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.definitions: Json = {}

    def openapi(self) -> Json:
        """Return the description."""
        found: Json = super().openapi()
        schemas: Json = found.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in self.definitions.items():
            schemas.setdefault(name, schema)
        if _VALIDATION in schemas:  # what user code raises as 422 has a text there
            schemas[_VALIDATION]["properties"]["detail"] = {}
        for methods in found["paths"].values():
            for operation in methods.values():
                _add_refusals(operation)
        return found

    def describe(self, collector: Collector, shape: Shape, status: int) -> Json:
        """Return the options of a collector's route, and know the types that it refers to."""
        record, definitions = _record(shape)
        self.definitions |= definitions
        path = parameters(collector.route)
        known = record.get("properties", {})
        described = [_parameter(name, "path", known.get(name, {"type": "string"}), True) for name in path]
        record = _without(record, path)
        extra: Json = {}
        if collector.method in BODILESS:
            needed = record.get("required", ())
            fields = record.get("properties", {})
            described += [_parameter(name, "query", schema, name in needed) for name, schema in fields.items()]
        else:
            # A text may be empty, and an empty body is none.
            is_needed = shape.record not in (str, bytes)
            extra["requestBody"] = {"required": is_needed, "content": _content(shape, record)}
        if described:
            extra["parameters"] = described
        said = {status: _REPLY, 207: _PARTLY, 400: _REFUSED, 415: _REFUSED, 422: _REFUSED, 503: _REFUSED}
        replies = {
            code: {"description": _MEANS[code], "content": {JSON: {"schema": one}}} for code, one in said.items()
        }
        return {"openapi_extra": extra, "responses": replies, "status_code": status}


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


def _record(shape: Shape) -> tuple[Json, Json]:
    """Return the JSON schema of one record, and the types that it refers to."""
    if shape.record in (str, bytes):
        return {}, {}
    if shape.record in (dict, None):
        return {"type": "object"}, {}
    try:
        schema = TypeAdapter(shape.record).json_schema(ref_template="#/components/schemas/{model}")
    except PydanticInvalidForJsonSchema:
        return {"type": "object"}, {}
    return schema, schema.pop("$defs", {})


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
