"""What our OpenAPI promises, held against a real server by schemathesis: any request gets a documented reply."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import schemathesis
from hypothesis import HealthCheck, seed, settings
from pydantic import BaseModel, ConfigDict, Field
from schemathesis.specs.openapi.checks import negative_data_rejection

from raflow import Flow
from raflow.connectors.memory import MemorySink
from raflow.http import ApiKey, BearerCredentials, File, Form, Header, HTTPException, Query, UploadFile
from raflow.http.ingest.bodies import ARROW, JSON, LINES
from tests.http.hosts import serving

SEED = 20_261_121
"""Printed with a failure; another one finds other requests."""


STRICT = ConfigDict(strict=True)
"""What schemas say: pydantic takes more by itself, 0 for a date and false for a number."""


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Part:
    __pydantic_config__ = STRICT
    number: int
    weight: float | None = None


@dataclass
class Order:
    __pydantic_config__ = STRICT
    order_id: uuid.UUID
    colour: Colour
    ordered: datetime
    parts: list[Part]
    day: date | None = None
    note: str = ""
    tags: list[str] = field(default_factory=list)


@dataclass
class Piece:
    """From a path: a strict number is none there."""

    number: int
    weight: float | None = None


@dataclass
class Placed:
    """For an endpoint: FastAPI has parsed the JSON before a type sees it, and a strict one then takes no dates."""

    order_id: uuid.UUID
    colour: Colour
    ordered: datetime
    parts: list[Piece]
    day: date | None = None


class Shelf(BaseModel):
    model_config = STRICT
    owner: str = Field(min_length=1, max_length=20)
    prices: dict[str, float]


class Price(BaseModel):
    model_config = STRICT
    amount: float = Field(gt=0)
    currency: Literal["EUR", "CHF"] = "EUR"
    valid: tuple[date, date] | None = None


class Basket(BaseModel):
    model_config = STRICT
    owner: str = Field(min_length=1, max_length=20)
    prices: dict[str, Price]
    first: Part | None = None


@dataclass
class Seen:
    device: str
    number: int
    ratio: float = 1.0
    colour: Colour | None = None
    on: list[int] = field(default_factory=list)


app = Flow("fuzzed")


@app.collector("/orders", sink=MemorySink())
def take(order: Order) -> dict[str, Any]:
    return {"id": str(order.order_id), "parts": len(order.parts), "colour": order.colour.value}


@app.collector("/baskets/{owner}", "PUT", sink=MemorySink())
async def basket(basket: Basket) -> Basket:
    return basket


@app.collector("/prices", "PATCH", sink=MemorySink(), ack="accepted")
def prices(price: Price) -> Price:
    return price


@app.collector("/seen/{device}", "GET", sink=MemorySink())
def seen(seen: Seen) -> dict[str, Any]:
    return {"device": seen.device, "on": len(seen.on)}


@app.collector("/forgotten/{number}", "DELETE")
def forgotten(part: Piece) -> None: ...


@app.collector("/anything", sink=MemorySink())
def anything(record: dict) -> dict[str, int]:  # type: ignore[type-arg]
    return {"fields": len(record)}


@app.collector("/text")
def text(text: str) -> None: ...


@app.collector("/blocks", sink=MemorySink())
def blocks(orders: list[Piece]) -> list[dict[str, str]]:
    return [{"number": str(one.number)} for one in orders]  # integers of JSON may be beyond 64 bits


service = app.service("/api")


@service.endpoint("/orders/{order_id}")
def order(order_id: uuid.UUID, verbose: bool = False, colour: Colour | None = None) -> dict[str, Any]:
    return {"order_id": order_id, "verbose": verbose, "colour": colour}


@service.endpoint("/orders", "POST")
async def create(order: Placed) -> Placed:
    return order


@service.endpoint("/shelves/{number}", "PUT")
def replace(number: int, shelf: Shelf, dry: Annotated[bool, Query()] = False) -> Shelf:
    return shelf


@service.endpoint("/found")
def found(q: Annotated[str, Query(min_length=1)], limit: Annotated[int, Query(ge=1, le=100)] = 10,
          tags: Annotated[list[str] | None, Query()] = None) -> list[str]:  # fmt: skip
    return [q, *(tags or [])][:limit]


@service.endpoint("/forms", "POST")
def form(name: Annotated[str, Form(min_length=1)], age: Annotated[int, Form(ge=0)] = 0) -> dict[str, Any]:
    return {"name": name, "age": age}


@service.endpoint("/files", "POST")
async def files(file: UploadFile, raw: Annotated[bytes, File()], title: Annotated[str, Form()] = "") -> dict[str, Any]:
    return {"size": len(await file.read()), "raw": len(raw), "title": title}


@service.endpoint("/numbered")
def numbered(x_number: Annotated[int, Header()]) -> int:
    return x_number


@service.endpoint("/mine")
def mine(who: Annotated[str, ApiKey({"shop": "k"})]) -> str:
    return who


@service.endpoint("/ours")
def ours(credentials: BearerCredentials) -> str:
    credentials.check("t")
    return "in"


@service.endpoint("/gone/{number}", "DELETE")
def gone(number: int) -> None:
    if number > 10:
        raise HTTPException(404, "there is no such number")


def described() -> dict[str, Any]:
    """Our OpenAPI, in which lines are lists of records: schemathesis writes them; Arrow it cannot write."""
    found: dict[str, Any] = app.asgi().openapi()
    for methods in found["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            if content.pop(ARROW, None):
                content[LINES]["schema"] = content[JSON]["schema"]["anyOf"][1]
    return found


@schemathesis.serializer(LINES)
def lines(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    # What is no list has no form as lines, as a broken one has none.
    return b"\n".join(json.dumps(one).encode() for one in value) if isinstance(value, list) else b"{"


schema = schemathesis.openapi.from_dict(described())
schema.config.checks.negative_data_rejection.expected_statuses = ["207", "4xx"]
"""A reply of 207 names the records of bulk that were refused."""


LENIENT = {
    "POST /api/orders": "its type is not strict, and pydantic takes 0 for a date",
    "POST /blocks": "a function of batches gets what Arrow can cast: false is the number 0",
}
"""Whose JSON may be more than the schema says, and why."""


def must_be_refused(case: schemathesis.Case[Any]) -> bool:
    """Whether a request can be told from one that fits: path, query, headers and forms hold but text."""
    wrong = [place for place, how in case.meta.components.items() if how.mode.is_negative] if case.meta else []
    return wrong == ["body"] and case.media_type in (JSON, LINES) and case.operation.label not in LENIENT


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    print("seed", SEED)
    with serving(app) as client:
        yield str(client.base_url)


@schema.parametrize()
@seed(SEED)
@settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_any_request_gets_a_reply_that_is_documented(case: schemathesis.Case[Any], url: str) -> None:
    excluded: list[Any] | None = None if must_be_refused(case) else [negative_data_rejection]
    case.call_and_validate(base_url=url, excluded_checks=excluded)
