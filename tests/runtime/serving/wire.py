"""A client that sends exactly what a test says, and shows exactly what comes."""

from __future__ import annotations

import socket
from types import TracebackType

from raflow.runtime.serving.address import Address

WHO = b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n"


class Wire:
    """One connection."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection((address.host, address.port), timeout=20)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, headers, body."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._body(headers)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._file.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        return self._file.read(count)

    def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""
