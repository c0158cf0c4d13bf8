"""Webhooks that their sender signs: HMAC-SHA256 over a timestamp and the body.

The header reads `t=<seconds since 1970>,v1=<hex>`, where the hex text is the HMAC of `<t>.<body>`. Several
`v1=` may stand in it, while the sender changes its secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from anyio import to_thread
from fastapi.openapi.models import APIKey
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from raflow.dependencies.scopes import Scope, mark
from raflow.errors import InvalidOption
from raflow.http.security import Secret, refuse_unproven, revealed
from raflow.stores.replies import ReplyStore


class Signature(SecurityBase):
    """Checks a request's signature, as a dependency.

    The parameter gets the signed body. A request that is not signed, signed wrongly, older or newer than
    the window, or that came before within it, gets 401. What came before is known per replica: several need a
    store that they share. A sender that tries again must sign again. Not for forms, which are read before they
    could be checked.

    Args:
        secret: Shared with the sender.
        header: Where the signature is.
        window_s: How far the timestamp may be from this host's clock, in seconds.
        now: Returns the time in seconds since 1970.
        store: Where all replicas note what came, such as `raflow.stores.SqlReplies(url)`; while it cannot be used,
            requests get 503.

    Raises:
        InvalidOption: The secret is empty, the window not positive, or the store none.

    Example:
        >>> from typing import Annotated
        >>> from raflow import Flow
        >>> from raflow.http import Signature
        >>> @Flow().service("/hooks").endpoint("/paid", method="POST")
        ... def paid(body: Annotated[bytes, Signature("our-secret")]) -> int:
        ...     return len(body)
        >>> paid(b"{}")
        2
    """

    def __init__(
        self,
        secret: Secret,
        *,
        header: str = "X-Signature",
        window_s: float = 300.0,
        now: Callable[[], float] = time.time,
        store: ReplyStore | None = None,
    ) -> None:
        if not window_s > 0:
            msg = f"window_s is {window_s!r}; it must be above 0"
            raise InvalidOption(msg)
        if not isinstance(store, ReplyStore | None):
            msg = f"store is {store!r}; it must be a ReplyStore, such as raflow.stores.SqlReplies(url)"
            raise InvalidOption(msg)
        self.store = store
        self._secret = revealed(secret)
        self._window_s, self._now = window_s, now
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._header = header
        self.model = APIKey.model_validate({"in": "header", "name": header})
        self.scheme_name = f"Signature-{header}"
        mark(self, Scope.PROCESS)

    def __repr__(self) -> str:
        return f"Signature(header={self._header!r}, window_s={self._window_s:g})"

    async def __call__(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            HTTPException: 401.
        """
        stamp, signatures = _parts(request.headers.get(self._header, ""))
        now = self._now()
        if stamp is None or abs(now - stamp) > self._window_s:
            refuse_unproven("Signature")
        body = await request.body()
        right = self._signed(stamp, body)
        if not any([hmac.compare_digest(right, one) for one in signatures]) or await self._is_repeated(right, now):  # noqa: C419
            refuse_unproven("Signature")
        return body

    def sign(self, body: bytes) -> str:
        """Return the header's value for a body, as a sender makes it."""
        stamp = int(self._now())
        return f"t={stamp},v1={self._signed(stamp, body).hex()}"

    def _signed(self, stamp: int, body: bytes) -> bytes:
        return hmac.new(self._secret, b"%d." % stamp + body, hashlib.sha256).digest()

    async def _is_repeated(self, signature: bytes, now: float) -> bool:
        """Note a good signature; returns whether this replica, or one that shares the store, has seen it before."""
        if self._came_before(signature, now):
            return True
        if self.store is None:
            return False
        note = f"signature/{signature.hex()}", signature, secrets.token_hex(16), 2 * self._window_s
        return not (await to_thread.run_sync(self.store.claim, *note)).is_granted

    def _came_before(self, signature: bytes, now: float) -> bool:
        """Note a good signature; those that the window refuses anyway are forgotten."""
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if signature in self._seen:
            return True
        self._seen[signature] = now + 2 * self._window_s  # from the newest allowed stamp to the oldest
        return False


def _parts(header: str) -> tuple[int | None, list[bytes]]:
    """Return the timestamp and the signatures that a header holds."""
    stamp, signatures = None, []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) <= 12:
            stamp = int(value)
        elif name == "v1" and len(value) == 64 and all(one in "0123456789abcdef" for one in value.lower()):
            signatures.append(bytes.fromhex(value))
    return stamp, signatures
