"""Tells a server how a run goes, in the background: it can neither slow nor fail the run.

Theory. One daemon thread per run sleeps until there is something new. It sends the newest state only, at most
once per interval, so that a fan-out of thousands of steps costs as many requests as a chain of three. The last
state is sent at once, and given up after a deadline.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from raflow.credentials import redact
from raflow.errors import InvalidOption
from raflow.workflows.updates import FlowUpdateDTO

log = logging.getLogger("raflow")

FINAL_S = 2.0
"""How long the end of a run waits for its last state to arrive."""

REQUEST_S = 10.0
"""How long a server may be silent while the run goes on."""

RETRY_S = 1.0
"""The least time between a request that failed and the next one."""

Update: TypeAlias = "FlowUpdateDTO | Callable[[], FlowUpdateDTO]"


@dataclass(frozen=True)
class UplinkConfig:
    """Where the states of a run are sent.

    With `application_id` and `run_id` they are `PUT` to
    `{url}/v1/internal/applications/{application_id}/runs/{run_id}/flow`; without, they are `POST`ed to the url
    itself.

    Args:
        url: `http://…` or `https://…`; None: nothing is sent.
        application_id: The application's id at the server.
        run_id: The run's id at the server.
        token: Sent as `Authorization: Bearer …`; never shown.
        interval_s: The least time between two requests; the last state does not wait for it.

    Raises:
        InvalidOption: One of them cannot be used.
    """

    url: str | None
    application_id: str | None = None
    run_id: str | None = None
    token: str | None = field(default=None, repr=False)
    interval_s: float = 5

    def __post_init__(self) -> None:
        if self.url:
            _check(self.url)
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            msg = "uplink: the token holds a line break or another character that no header can hold"
            raise InvalidOption(msg)
        if not 0 <= self.interval_s < math.inf:
            msg = f"uplink: interval_s is {self.interval_s!r}; it must be 0 or more seconds"
            raise InvalidOption(msg)

    def request(self, body: bytes) -> urllib.request.Request:
        """Return the request that sends a state."""
        headers = {"Content-Type": "application/json", "User-Agent": "raflow"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if not (self.application_id and self.run_id):
            return urllib.request.Request(str(self.url), body, headers, method="POST")
        application, run = quote(self.application_id, safe=""), quote(self.run_id, safe="")
        path = f"/v1/internal/applications/{application}/runs/{run}/flow"
        return urllib.request.Request(f"{self.url}".rstrip("/") + path, body, headers, method="PUT")


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = f"uplink: url is {redact(url)!r}; it must begin with http:// or https:// and a host"
        raise InvalidOption(msg)
    if "@" in parts.netloc:
        msg = "uplink: the url holds a user or password; give a token=… instead"
        raise InvalidOption(msg)


class UplinkClient:
    """Sends the states of a run in the background. Without a config or url it does nothing at all.

    Calls return at once, but for `terminate`, and raise nothing: a server that is dead, slow, failing or silent is
    logged once.

    Args:
        config: Where to.
        client: An opener to send with, e.g. one with own certificates. By default proxies are taken from the
            environment, and redirects are not followed, because the token is for the configured server alone.
    """

    def __init__(self, config: UplinkConfig | None = None, client: urllib.request.OpenerDirector | None = None) -> None:
        self.config = config
        self._client = client
        self._sender = self._new_sender()

    @property
    def is_active(self) -> bool:
        """Whether states are sent."""
        return bool(self.config and self.config.url)

    def submit_update(self, update: Update) -> None:
        """Have a state sent, unless a newer one comes before its turn.

        Args:
            update: The state; or a function that returns it, which is called only if and when it is sent, on
                another thread: so nothing is built for states that nobody sees.
        """
        if self._sender:
            self._sender.submit(update)

    def run_async(self) -> None:
        """Begin to send; states that were submitted before are not lost. After `terminate` it begins anew."""
        self._sender = self._sender or self._new_sender()
        if self._sender:
            self._sender.start()

    def terminate(self) -> None:
        """Send the last state and end. Returns after `FINAL_S` seconds at the latest; what was not sent is given up."""
        sender, self._sender = self._sender, None
        if sender:
            sender.close()

    def _new_sender(self) -> _Sender | None:
        return _Sender(self.config, self._client or _opener()) if self.config and self.is_active else None


class _Sender:
    def __init__(self, config: UplinkConfig, client: urllib.request.OpenerDirector) -> None:
        self._config = config
        self._client = client
        self._changed = threading.Condition()
        self._newest: Update | None = None
        self._deadline = math.inf
        """When to give up; not infinite any more once the end has come."""
        self._warned = False
        self._thread = threading.Thread(target=self._serve, name="raflow uplink", daemon=True)

    def submit(self, update: Update) -> None:
        with self._changed:
            self._newest = update
            self._changed.notify()

    def start(self) -> None:
        if not self._thread.ident:
            self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._deadline = time.monotonic() + FINAL_S
            self._changed.notify()
        if self._thread.ident:
            self._thread.join(FINAL_S)
            if self._thread.is_alive():
                self._warn(f"no answer within {FINAL_S:g} s of the run's end")

    def _serve(self) -> None:
        due, is_last = -math.inf, False
        while not is_last:
            update, is_last = self._next(due)
            at = time.monotonic()
            if update is None or self._deadline <= at:
                continue
            is_taken = self._send(update)
            due = at + (self._config.interval_s if is_taken else max(RETRY_S, self._config.interval_s))
            if not is_taken:
                self._put_back(update)

    def _next(self, due: float) -> tuple[Update | None, bool]:
        """Wait for a state and until it may be sent; or for the end, which does not wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._is_ending)
            self._changed.wait_for(lambda: self._is_ending, max(0.0, due - time.monotonic()))
            update, self._newest = self._newest, None
            return update, self._is_ending

    def _put_back(self, update: Update) -> None:
        with self._changed:
            self._newest = update if self._newest is None else self._newest

    @property
    def _is_ending(self) -> bool:
        return self._deadline < math.inf

    def _send(self, update: Update) -> bool:
        """Return whether the server has taken it."""
        try:
            body = (update() if callable(update) else update).to_json()
            silence_s = min(REQUEST_S, max(0.01, self._deadline - time.monotonic()))
            self._client.open(self._config.request(body), timeout=silence_s).close()
        except Exception as error:
            if isinstance(error, HTTPError):
                error.close()
            self._warn(f"{type(error).__name__}: {error}")
            return False
        return True

    def _warn(self, why: str) -> None:
        with self._changed:
            is_first, self._warned = not self._warned, True
        if is_first:
            where = redact(str(self._config.url))
            log.warning("uplink: %s is not told how the run goes, which goes on: %s", where, redact(why))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Refuse: the answer becomes an error."""


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirects)
