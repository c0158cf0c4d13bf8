"""Clients that keep their connections and never rest, and count exactly what they lose."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

import httpx

_GONE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Client(threading.Thread):
    """Sends one GET after the other over one connection, which it makes anew when told to.

    A connection that closes before a byte of the answer, after it has served an earlier request, is what
    HTTP allows an idle one to do: such a request is sent again, once. Everything else is lost.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.answered_by: Counter[str] = Counter()
        self.raced = 0
        self.lost: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=30, verify=False) as client:
            answered = 0
            while not self.over.is_set():
                try:
                    self._ask(client, answered > 0)
                    answered += 1
                except (httpx.HTTPError, AssertionError) as error:
                    self.lost.append(repr(error))
                    answered = 0

    def _ask(self, client: httpx.Client, kept: bool) -> None:
        try:
            answer = client.get(self.url)
        except _GONE:
            if not kept:
                raise
            self.raced += 1
            answer = client.get(self.url)
        assert answer.status_code == 200, answer
        self.answered_by[answer.json()["who"]] += 1


class Clients:
    """So many clients, from `with` to its end."""

    def __init__(self, url: str, count: int = 6) -> None:
        self.all = [Client(url) for _ in range(count)]

    def __enter__(self) -> Clients:
        for client in self.all:
            client.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for client in self.all:
            client.over.set()
        for client in self.all:
            client.join()

    @property
    def lost(self) -> list[str]:
        return [one for client in self.all for one in client.lost]

    @property
    def raced(self) -> int:
        return sum(client.raced for client in self.all)

    @property
    def answered_by(self) -> Counter[str]:
        """Who has answered, and how often; the same replica always has the same name."""
        return sum((Counter(dict(client.answered_by)) for client in self.all), Counter())
