from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from raflow import Flow
from tests.http.hosts import serving


@dataclass
class Order:
    """What somebody wants."""

    item: str


app = Flow("shop")


@app.service("/shop").endpoint("/orders", "POST")
def create(order: Order) -> int:
    """Take an order.

    It is counted.
    """
    return len(order.item)


class Looked:
    """Find an order."""

    def process(self, order_id: int) -> int:
        return order_id


app.services[0].endpoint("/orders/{order_id}")(Looked)


def test_openapi_describes_endpoints_as_fastapi_does() -> None:
    with serving(app) as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    post = found["paths"]["/shop/orders"]["post"]
    assert (found["info"]["title"], post["summary"], post["description"]) == ("shop", "Take an order", "It is counted.")
    assert post["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Order"}
    assert found["components"]["schemas"]["Order"]["required"] == ["item"]
    assert found["paths"]["/shop/orders/{order_id}"]["get"]["summary"] == "Find an order"
    assert not {"/healthz", "/readyz", "/docs"} & set(found["paths"])


@dataclass
class Part:
    number: int


@dataclass
class Delivery:
    order_id: int
    parts: list[Part]
    note: str = ""


app.collector("/deliveries/{order_id}")(lambda record: record)


@app.collector("/delivered/{order_id}", name="delivered")
def delivered(delivery: Delivery) -> Delivery:
    """Take a delivery."""
    return delivery


@app.collector("/seen", "GET", ack="accepted")
def seen(part: Part) -> None:
    """Note that a part was seen."""


def test_openapi_describes_what_collectors_read() -> None:
    with serving(app) as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    post = found["paths"]["/delivered/{order_id}"]["post"]
    assert [(one["name"], one["in"], one["required"]) for one in post["parameters"]] == [("order_id", "path", True)]
    content = post["requestBody"]["content"]
    record = content["application/json"]["schema"]["anyOf"][0]
    assert (sorted(record["properties"]), record["required"]) == (["note", "parts"], ["parts"])
    assert record["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/Part"}
    assert found["components"]["schemas"]["Part"]["properties"]["number"]["type"] == "integer"
    assert {"application/x-ndjson", "application/vnd.apache.arrow.stream"} < set(content)
    assert {"200", "207", "422", "503"} < set(post["responses"])
    get = found["paths"]["/seen"]["get"]
    assert (get["parameters"][0]["name"], get["parameters"][0]["in"], get["summary"]) == (
        "number", "query", "Note that a part was seen"
    )  # fmt: skip
    assert "requestBody" not in get


class Mine:
    """Types of the same names as elsewhere."""

    @dataclass
    class Part:
        name: str

    @dataclass
    class Delivery:
        part: Mine.Part


def test_types_of_the_same_name_are_told_apart() -> None:
    app = Flow("shop")
    app.service().endpoint("/parts", "POST")(parts)
    app.collector("/delivered", name="delivered")(delivered.code)
    app.collector("/mine", name="my own")(take_mine)
    app.collector("/again", name="again")(delivered.code)
    found = app.asgi().openapi()
    schemas = found["components"]["schemas"]
    assert set(schemas["Part"]["properties"]) == {"number"}
    assert set(schemas["my_own__Part"]["properties"]) == {"name"}
    said = {path: str(found["paths"][path]["post"]["requestBody"]) for path in ("/delivered", "/mine", "/again")}
    assert ["/schemas/Part'" in one for one in said.values()] == [True, False, True]
    assert "/schemas/my_own__Part'" in said["/mine"]


def parts(part: Part) -> None: ...


def take_mine(delivery: Mine.Delivery) -> None: ...


def test_the_page_of_the_documentation_needs_nobody_else() -> None:
    with serving(app) as client:
        page = client.get("/docs").text
        named = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert sorted(named) == ["/docs/favicon-32x32.png", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"]
        assert "//" not in "".join(re.findall(r"url: '([^']+)'", page))
        assert [client.get(path).status_code for path in named] == [200, 200, 200]
        assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text
        assert client.get("/docs/index.html").status_code == 404
        assert client.get("/docs/..%2f__init__.py").status_code == 404


def test_health_and_readiness_answer() -> None:
    asgi = app.asgi()
    with serving(asgi) as client:
        assert (client.get("/healthz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})
        asgi.state.counts.is_ready = False
        assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 503)


def test_an_endpoint_for_every_path_leaves_ours_alone() -> None:
    app = Flow()

    @app.service().endpoint("/{rest:path}")
    def anything(rest: str) -> str:
        return rest

    with serving(app) as client:
        assert client.get("/some/where").json() == "some/where"
        assert client.get("/healthz").json() == {"status": "ok"}
        assert "swagger" in client.get("/docs").text
        assert client.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
