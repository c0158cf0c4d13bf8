"""Google's ID tokens, signed by keys of ours; their certificates come from a server on this host."""

import json
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

from raflow import Flow, Scope, dependency
from raflow.errors import InvalidOption
from raflow.http import AuthenticatedGoogleUser, GoogleUser
from tests.http.hosts import serving

CLIENT = "shop.apps.example"


class Key:
    """A key that signs tokens, and its certificate."""

    def __init__(self, key_id: str) -> None:
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.signer = crypt.RSASigner.from_string(pem.decode(), key_id)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(made.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(made, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        said: dict[str, Any] = {
            "iss": "https://accounts.google.com",
            "aud": CLIENT,
            "sub": "7",
            "email": "ada@example.com",
        }
        said |= {"email_verified": True, "name": "Ada", "iat": now, "exp": now + 3600, **claims}
        return jwt.encode(self.signer, said).decode()


KEY, NEXT, STRANGER = Key("one"), Key("two"), Key("one")


class Certificates(ThreadingHTTPServer):
    """Answers with what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = 0
        self.status = 200
        self.known = {"one": KEY.pem}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/certs"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked += 1
        body = json.dumps(server.known).encode()
        self.send_response(server.status)
        self.send_header("Cache-Control", "public, max-age=600, must-revalidate")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def certificates() -> Iterator[Certificates]:
    with Certificates() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(certificates: Certificates) -> Iterator[httpx.Client]:
    google = AuthenticatedGoogleUser(CLIENT, certificates=certificates.url)
    ours = AuthenticatedGoogleUser([CLIENT], certificates=certificates.url, hosted_domain="example.com")
    anybody = AuthenticatedGoogleUser(CLIENT, certificates=certificates.url, raise_on_unauthenticated=False)

    @dependency(scope=Scope.PROCESS)
    class Member:
        def __init__(self, user: Annotated[GoogleUser, google]) -> None:
            self.name = user.name

    app = Flow("shop")
    service = app.service()

    @service.endpoint("/me")
    def me(user: Annotated[GoogleUser, google]) -> dict[str, Any]:
        return {"id": user.google_account_id, "email": user.email, "verified": user.email_verified}

    @service.endpoint("/ours")
    def of_ours(user: Annotated[GoogleUser, ours]) -> str | None:
        return user.hosted_domain

    @service.endpoint("/anybody")
    async def who(user: Annotated[GoogleUser | None, anybody]) -> str:
        return "nobody" if user is None else str(user.name)

    @service.endpoint("/member")
    def member(member: Member) -> str | None:
        return member.name

    @app.collector("/notes")
    def note(record: dict[str, Any], user: Annotated[GoogleUser, google]) -> None: ...

    with serving(app) as client:
        yield client


def asked(client: httpx.Client, path: str, token: str = "") -> httpx.Response:
    return client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})


def test_a_good_token_tells_who_asks(client: httpx.Client, certificates: Certificates) -> None:
    token = KEY.token()
    assert asked(client, "/me", token).json() == {"id": "7", "email": "ada@example.com", "verified": True}
    assert asked(client, "/member", token).json() == "Ada"
    assert asked(client, "/ours", KEY.token(hd="example.com")).json() == "example.com"
    assert certificates.asked == 2  # /me and /member share an object
    assert client.post("/notes", json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 200


NOW = int(time.time())
REFUSED = {
    "expired": (KEY.token(iat=NOW - 7200, exp=NOW - 3600), "the token has expired"),
    "early": (KEY.token(iat=NOW + 3600, exp=NOW + 7200), "the token is not valid yet"),
    "audience": (KEY.token(aud="other.apps.example"), "the token is for another application"),
    "issuer": (KEY.token(iss="https://example.com"), "the token is not of Google"),
    "signature": (STRANGER.token(), "the token's signature is wrong"),
    "key": (NEXT.token(), "the token's key is not known"),
    "no JWT": ("no-dots-at-all", "the token is malformed"),
    "no JSON": ("a.b.c", "the token is malformed"),
    "no times": (KEY.token(exp=None), "the token is malformed"),
    "nested": ("W1tb" * 5000 + ".e30.c2ln", "the token is malformed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_token_is_401_and_says_why(client: httpx.Client, case: str, caplog: pytest.LogCaptureFixture) -> None:
    token, why = REFUSED[case]
    with caplog.at_level(logging.DEBUG):
        reply = asked(client, "/me", token)
    assert (reply.status_code, reply.json()) == (401, {"detail": f"not authenticated: {why}"})
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert token not in caplog.text


def test_no_token_is_401_or_nobody(client: httpx.Client) -> None:
    reply = asked(client, "/me")
    assert (reply.status_code, reply.json()) == (401, {"detail": "not authenticated: there is no token"})
    assert asked(client, "/anybody").json() == "nobody"
    assert asked(client, "/anybody", KEY.token()).json() == "Ada"
    assert asked(client, "/anybody", "abc").status_code == 401
    assert asked(client, "/ours", KEY.token()).json()["detail"].endswith("of another organisation")


def test_a_new_key_is_looked_for_but_not_with_each_request(
    client: httpx.Client, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(client, "/me", NEXT.token()).status_code == 401
    certificates.known["two"] = NEXT.pem
    assert asked(client, "/me", NEXT.token()).status_code == 401
    assert certificates.asked == 1
    monkeypatch.setattr("raflow.http.google._AGAIN_S", 0.0)
    assert asked(client, "/me", NEXT.token()).status_code == 200


def test_without_certificates_it_is_503_and_later_tried_again(
    client: httpx.Client, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.status = 500
    found = [asked(client, "/me", KEY.token()) for _ in range(2)]
    assert [(reply.status_code, reply.headers["retry-after"]) for reply in found] == [(503, "1")] * 2
    assert certificates.asked == 1
    certificates.status = 200
    monkeypatch.setattr("raflow.http.google._RETRY_S", 0.0)
    assert asked(client, "/me", KEY.token()).status_code == 200


def test_the_token_may_be_in_the_session(certificates: Certificates) -> None:
    google = AuthenticatedGoogleUser(CLIENT, certificates=certificates.url, session_id_token="id_token")

    class Sessions:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "session": {"id_token": KEY.token()}}, receive, send)

    app = Flow("shop")
    service = app.service()
    service.add_middleware(Sessions)

    @service.endpoint("/me")
    def me(user: Annotated[GoogleUser, google]) -> str | None:
        return user.name

    with serving(app) as client:
        assert client.get("/me").json() == "Ada"


def test_openapi_shows_the_scheme_and_its_401(client: httpx.Client) -> None:
    found = client.get("/openapi.json").json()
    assert found["components"]["securitySchemes"]["GoogleIdToken"]["bearerFormat"] == "JWT"
    assert found["paths"]["/me"]["get"]["security"] == [{"GoogleIdToken": []}]
    assert "401" in found["paths"]["/me"]["get"]["responses"]


def test_it_travels_and_needs_an_audience() -> None:
    copy = pickle.loads(pickle.dumps(AuthenticatedGoogleUser(CLIENT)))
    assert repr(copy) == "AuthenticatedGoogleUser('shop.apps.example')"
    for audience in ("", [], [""]):
        with pytest.raises(InvalidOption, match="client id of your application"):
            AuthenticatedGoogleUser(audience)


def test_an_idempotency_key_is_of_the_account_whatever_its_token(certificates: Certificates) -> None:
    google = AuthenticatedGoogleUser(CLIENT, certificates=certificates.url)
    app, key = Flow("orders"), {"Idempotency-Key": "1"}

    @app.collector("/orders")
    def order(record: dict[str, Any], user: Annotated[GoogleUser, google]) -> None: ...

    with serving(app) as client:
        tokens = KEY.token(), KEY.token(name="Ada L."), KEY.token(sub="8")
        found = [client.post("/orders", json={}, headers={"Authorization": f"Bearer {one}", **key}) for one in tokens]
    assert ["idempotent-replayed" in reply.headers for reply in found] == [False, True, False]
