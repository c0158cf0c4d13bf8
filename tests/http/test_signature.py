from __future__ import annotations

from typing import Annotated

import pytest

from raflow import Flow
from raflow.errors import InvalidOption
from raflow.http import Signature
from tests.http.hosts import serving

clock = [1_000.0]
JSON = {"Content-Type": "application/json"}


def hooks(signature: Signature) -> Flow:
    app = Flow("hooks")

    async def hook(event: dict[str, int], body: Annotated[bytes, signature]) -> list[object]:
        return [event, body.decode()]

    # The annotation above names a variable of this function, which texts of annotations cannot.
    hook.__annotations__ = {"event": dict[str, int], "body": Annotated[bytes, signature]}
    app.service().endpoint("/hook", method="POST")(hook)
    return app


@pytest.fixture
def signature() -> Signature:
    clock[0] = 1_000.0
    return Signature("hush", window_s=300, now=lambda: clock[0])


def test_a_signed_body_passes_once_and_is_the_one_that_was_signed(signature: Signature) -> None:
    body = b'{"n": 1}'
    signed = {**JSON, "X-Signature": signature.sign(body)}
    with serving(hooks(signature)) as client:
        assert client.post("/hook", content=b'{"n": 2}', headers=signed).status_code == 401
        assert client.post("/hook", content=body, headers=signed).json() == [{"n": 1}, '{"n": 1}']
        assert client.post("/hook", content=body, headers=signed).status_code == 401
        clock[0] += 1
        assert (
            client.post("/hook", content=body, headers={**JSON, "X-Signature": signature.sign(body)}).status_code == 200
        )


def test_what_is_older_or_newer_than_the_window_is_refused(signature: Signature) -> None:
    body = b"{}"
    signed = {**JSON, "X-Signature": signature.sign(body)}
    with serving(hooks(signature)) as client:
        for moment, status in ((1301, 401), (699, 401), (1299, 200), (701, 401), (1300, 401)):
            clock[0] = moment
            assert client.post("/hook", content=body, headers=signed).status_code == status


@pytest.mark.parametrize(
    "header",
    ["", "t=1000", "v1=" + "0" * 64, "t=x,v1=" + "0" * 64, "t=1000,v1=zz", "t=1000,v1=" + "é" * 64, "t" * 9999],
)
def test_headers_that_are_no_signature_are_refused(signature: Signature, header: str) -> None:
    with serving(hooks(signature)) as client:
        reply = client.post("/hook", content=b"{}", headers={b"X-Signature": header.encode()})
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Signature")


def test_one_good_signature_among_several_is_enough(signature: Signature) -> None:
    with serving(hooks(signature)) as client:
        header = signature.sign(b"{}").replace("v1=", f"v1={'0' * 64},v1=")
        assert client.post("/hook", content=b"{}", headers={**JSON, "X-Signature": header}).status_code == 200


def test_a_secret_is_needed_and_does_not_show(signature: Signature) -> None:
    assert repr(signature) == "Signature(header='X-Signature', window_s=300)"
    with pytest.raises(InvalidOption, match="must be a text that is not empty"):
        Signature("")
