"""Who asks, by Google: ID tokens that Google has signed, as a dependency that shows in OpenAPI."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from anyio import to_thread
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from raflow.dependencies.scopes import Scope, mark
from raflow.errors import InvalidOption
from raflow.http.security import bearer_token, note_caller, refuse_unproven

CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"
"""Where Google publishes the certificates of the keys that sign ID tokens."""
_ISSUERS = ("accounts.google.com", "https://accounts.google.com")
_FETCH_S = 10.0
_KEPT_S = 3600.0
"""For certificates that come without a `Cache-Control`."""
_RETRY_S = 1.0
"""After a failure: requests that wait are told at once."""
_AGAIN_S = 60.0
"""Between two looks for a key that is not known: anyone can name one."""

log = logging.getLogger("raflow.http")


@dataclass(frozen=True)
class GoogleUser:
    """Whom Google says the request is from."""

    google_account_id: str
    """Never changes, and no other account gets it: the key under which to keep a user."""
    email: str | None = None
    name: str | None = None
    email_verified: bool = False
    """Whether Google has seen that the address is theirs."""
    hosted_domain: str | None = None
    """Of their organisation; None for private accounts."""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All that the token says."""


class AuthenticatedGoogleUser(SecurityBase):
    """The user of a Google ID token: `user: Annotated[GoogleUser, AuthenticatedGoogleUser(CLIENT_ID)]`.

    The token comes in `Authorization: Bearer …`. Its signature, times, issuer and audience are checked; one
    that is refused gets 401, which says why in a word. While Google's certificates cannot be had, it is 503.
    Each replica keeps them for as long as Google says.

    Args:
        audience: The client id, or ids, of your application: a token for another one is refused.
        raise_on_unauthenticated: Whether a request without a token is refused, too; else the parameter is None.
        session_id_token: Under which name the token is in the session, if there is no header: for applications
            with Starlette's SessionMiddleware.
        hosted_domain: The organisation to which the user must belong.
        clock_skew_s: How far Google's clock may be from this host's, in seconds.
        certificates: Where they are: a URL that answers `{key id: PEM}`.

    Raises:
        InvalidOption: There is no audience.
    """

    def __init__(
        self,
        audience: str | Sequence[str],
        *,
        raise_on_unauthenticated: bool = True,
        session_id_token: str | None = None,
        hosted_domain: str | None = None,
        clock_skew_s: float = 10.0,
        certificates: str = CERTIFICATES,
    ) -> None:
        self._audience = [audience] if isinstance(audience, str) else list(audience)
        if not all(self._audience) or not self._audience:
            msg = "audience is empty; give the client id of your application, else tokens of any other one would do"
            raise InvalidOption(msg)
        self._raises, self._session_key = raise_on_unauthenticated, session_id_token
        self._hosted_domain, self._clock_skew_s = hosted_domain, clock_skew_s
        self._certificates = _Certificates(certificates)
        self.model = HTTPBearer(bearerFormat="JWT", description="A Google ID token")
        self.scheme_name = "GoogleIdToken"
        mark(self, Scope.PROCESS)

    def __repr__(self) -> str:
        return f"AuthenticatedGoogleUser({', '.join(map(repr, self._audience))})"

    async def __call__(self, connection: HTTPConnection) -> GoogleUser | None:
        """Return the user of a request.

        Raises:
            HTTPException: 401, or 503 while Google's certificates cannot be had.
        """
        token = bearer_token(connection) or connection.scope.get("session", {}).get(self._session_key)
        if token:
            user = await to_thread.run_sync(self._user, str(token))
            note_caller(connection, "authorization", user.google_account_id)  # tokens change every hour
            return user
        if self._raises:
            refuse_unproven("Bearer", "there is no token")
        return None

    def _user(self, token: str) -> GoogleUser:
        claims = self._claims(token)
        if claims.get("iss") not in _ISSUERS:
            _refuse("the token is not of Google")
        if claims.get("aud") not in self._audience:
            _refuse("the token is for another application")
        if self._hosted_domain is not None and claims.get("hd") != self._hosted_domain:
            _refuse("the user is of another organisation")
        return GoogleUser(
            google_account_id=str(claims.get("sub")),
            email=claims.get("email"),
            name=claims.get("name"),
            email_verified=claims.get("email_verified") is True,
            hosted_domain=claims.get("hd"),
            claims=claims,
        )

    def _claims(self, token: str) -> Mapping[str, Any]:
        """Return what a token says, if its key has signed that and it is its time."""
        try:
            header, said = jwt.decode_header(token), jwt.decode(token, verify=False)
            times = [float(said[name]) for name in ("iat", "exp")]
            key, algorithm = str(header["kid"]), header["alg"]
        except (ValueError, TypeError, LookupError, RecursionError):
            _refuse("the token is malformed")
        pem = self._certificates.of(key)
        if pem is None or algorithm != "RS256":
            _refuse("the token's key is not known")
        try:
            claims: Mapping[str, Any] = jwt.decode(token, certs={key: pem}, clock_skew_in_seconds=self._clock_skew_s)
        except ValueError:
            _refuse(self._why(*times))
        return claims

    def _why(self, issued: float, expires: float) -> str:
        """Return why a token is refused that is complete: google-auth says it in its texts alone."""
        now = time.time()
        if expires + self._clock_skew_s < now:
            return "the token has expired"
        if now < issued - self._clock_skew_s:
            return "the token is not valid yet"
        return "the token's signature is wrong"


def _refuse(why: str) -> NoReturn:
    refuse_unproven('Bearer error="invalid_token"', why)


class _Certificates:
    """Google's certificates by key id; used from any thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._fetched = self._failed = self._until = float("-inf")

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def of(self, key: str) -> str | None:
        """Return the certificate of a key, as PEM; None if Google has no such key."""
        with self._lock:
            now = time.monotonic()
            if now >= self._until or (key not in self._known and now >= self._fetched + _AGAIN_S):
                self._fetch(now)
            return self._known.get(key)

    def _fetch(self, now: float) -> None:
        if now < self._failed + _RETRY_S:
            raise _unavailable()
        try:
            reply = Request()(self._url, timeout=_FETCH_S)
            if reply.status != 200:
                msg = f"the status is {reply.status}"
                raise ValueError(msg)
            self._known = {str(key): str(pem) for key, pem in json.loads(reply.data).items()}
        except (GoogleAuthError, ValueError, AttributeError) as error:
            self._failed = time.monotonic()
            log.warning("Google's certificates cannot be had from %s: %s", self._url, error)
            raise _unavailable() from None
        age = re.search(r"max-age=(\d+)", reply.headers.get("Cache-Control", ""))
        self._fetched, self._until = now, now + (float(age[1]) if age else _KEPT_S)


def _unavailable() -> HTTPException:
    return HTTPException(503, "Google's certificates cannot be had", {"Retry-After": "1"})
