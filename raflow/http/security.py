"""Who asks: bearer tokens and API keys, as dependencies that show in OpenAPI where they are used.

Secrets are compared in constant time. What is refused gets 401; whoever guesses at a secret never hears why.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, NoReturn

from fastapi import Depends
from fastapi.openapi.models import APIKey
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from raflow.dependencies.declared import dependency
from raflow.dependencies.scopes import Scope, mark
from raflow.errors import InvalidOption

Secret = str | SecretStr
_CALLERS = "raflow.callers"
"""Where a request's scope holds who it is from, by the header that has proven it."""


def refuse_unproven(challenge: str, why: str = "") -> NoReturn:
    """Refuse a request that does not prove who sent it.

    Args:
        challenge: For `WWW-Authenticate`.
        why: For the client; nothing that helps to guess a secret.

    Raises:
        HTTPException: 401.
    """
    detail = f"not authenticated: {why}" if why else "not authenticated"
    raise HTTPException(401, detail, {"WWW-Authenticate": challenge})


def bearer_token(connection: HTTPConnection) -> str:
    """Return the token of `Authorization: Bearer …`; empty if there is none."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def note_caller(connection: HTTPConnection, place: str, who: str) -> None:
    """Keep who asks, as a credential has proven it.

    Args:
        connection: The request.
        place: The header where the credential was.
        who: Whose it is; the same for all credentials that one caller may use in turn.
    """
    connection.scope.setdefault(_CALLERS, {})[place.lower()] = who


def caller_of(connection: HTTPConnection) -> str:
    """Return a text that differs between callers; empty for a request without credentials.

    What proves itself by `Authorization` in a way that is not known here is told apart by the header as it is.
    """
    proven: dict[str, str] = connection.scope.get(_CALLERS, {})
    said = None if "authorization" in proven else connection.headers.get("authorization")
    return repr((said, sorted(proven.items()))) if said is not None or proven else ""


def revealed(secret: Secret) -> bytes:
    """Return a secret's bytes.

    Raises:
        InvalidOption: It is empty, or no text.
    """
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    if not isinstance(text, str) or not text:
        msg = "a secret must be a text that is not empty; is an environment variable missing?"
        raise InvalidOption(msg)
    return text.encode()


def digest_of(secret: Secret) -> bytes:
    """Return what has one length whatever a secret has, so that comparing takes equally long.

    Raises:
        InvalidOption: The secret is empty, or no text.
    """
    return hashlib.sha256(revealed(secret)).digest()


def among(given: str, digests: Iterable[bytes]) -> bool:
    """Return whether what was given is one of some secrets; compares with all, and as long for each.

    Args:
        given: What a request brings; may be empty.
        digests: Of the secrets.
    """
    digest = hashlib.sha256(given.encode()).digest()
    return any([hmac.compare_digest(digest, one) for one in digests])  # noqa: C419 - any() of a list stops nowhere


class _Bearer(SecurityBase):
    def __init__(self) -> None:
        self.model = HTTPBearerModel()
        self.scheme_name = "BearerCredentials"

    async def __call__(self, connection: HTTPConnection) -> str:
        token = bearer_token(connection)
        if not token:
            refuse_unproven("Bearer")
        return token


@dependency(scope=Scope.PROCESS)
@dataclass(frozen=True)
class BearerCredentials:
    """The token of `Authorization: Bearer …`; without one the request gets 401.

    Whether the token is good is for the processor to say, or for a dependency of yours on this one.
    """

    token: Annotated[str, Depends(_Bearer())] = field(repr=False)

    def check(self, *tokens: Secret) -> None:
        """Refuse a token that is not one of these.

        Raises:
            HTTPException: 401.
        """
        if not among(self.token, map(digest_of, tokens)):
            refuse_unproven('Bearer error="invalid_token"')


class ApiKey(SecurityBase):
    """A key in a header, as a dependency.

    The parameter gets the name of the key; a request without a known key gets 401. Only digests of the
    keys are kept.

    Args:
        keys: One key, or several by name.
        header: Where the key is.

    Raises:
        InvalidOption: A key is empty, or there is none.

    Example:
        >>> from typing import Annotated
        >>> from raflow import Flow
        >>> from raflow.http import ApiKey
        >>> @Flow().service("/office").endpoint("/me")
        ... def me(who: Annotated[str, ApiKey({"ada": "her-key"})]) -> str:
        ...     return who
        >>> me("ada")
        'ada'
    """

    def __init__(self, keys: Secret | Mapping[str, Secret], header: str = "X-API-Key") -> None:
        named = keys if isinstance(keys, Mapping) else {"default": keys}
        if not named:
            msg = "ApiKey has no keys; give one, or several by name"
            raise InvalidOption(msg)
        self._digests = {name: digest_of(key) for name, key in named.items()}
        self._header = header
        self.model = APIKey.model_validate({"in": "header", "name": header})
        self.scheme_name = f"ApiKey-{header}"
        mark(self, Scope.PROCESS)

    def __repr__(self) -> str:
        return f"ApiKey({', '.join(self._digests)}; header={self._header!r})"

    async def __call__(self, connection: HTTPConnection) -> str:
        """Return the name of a request's key.

        Raises:
            HTTPException: 401.
        """
        given = connection.headers.get(self._header, "")
        found = [name for name, digest in self._digests.items() if among(given, [digest])]
        if not found:
            refuse_unproven(f'ApiKey header="{self._header}"')
        note_caller(connection, self._header, found[0])
        return found[0]
