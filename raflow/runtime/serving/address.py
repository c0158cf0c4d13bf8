"""Where HTTP is answered: a host and port, or a unix socket; and how that is bound, once, for all replicas."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from raflow.errors import CannotListen

BACKLOG = 2048
"""Connections that wait for a replica; the system's `somaxconn` may allow fewer."""


@dataclass(frozen=True)
class Address:
    """Where connections are taken.

    Example:
        >>> str(Address(port=8000))
        '127.0.0.1:8000'
    """

    host: str = "127.0.0.1"
    """An interface's name or address; this machine alone unless it is given."""
    port: int = 0
    """0: a free one."""
    path: str | None = None
    """Of a unix socket, in place of host and port."""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def url(self, *, secure: bool = False) -> str:
        """Return it as clients write it."""
        return f"unix:{self.path}" if self.path else f"http{'s' * secure}://{self}"


def bind(address: Address) -> tuple[socket.socket, Address]:
    """Listen at an address, alone; returns the socket, and the address with its real port.

    `SO_REUSEPORT` is not used: with it a second program could listen there too, and closing one of two
    sockets would reset what waits for it.

    Raises:
        CannotListen: The address is in use, says by whom where the system tells; or cannot be bound.
    """
    try:
        listening = _unix(address.path) if address.path else _tcp(address)
    except OSError as error:
        raise CannotListen(_explain(address, error)) from error
    listening.setblocking(False)
    if address.path:
        return listening, address
    return listening, replace(address, port=listening.getsockname()[1])


def unbind(listening: socket.socket, address: Address) -> None:
    """Close a listening socket; replicas that have a copy still answer. A unix socket's file goes, too."""
    listening.close()
    if address.path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.path)


def _tcp(address: Address) -> socket.socket:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, place = found[0]
    return socket.create_server(place[:2], family=family, backlog=BACKLOG)


def _unix(path: str) -> socket.socket:
    _sweep(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _sweep(path: str) -> None:
    """Remove the file of a unix socket at which nobody listens any more."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def _explain(address: Address, error: OSError) -> str:
    what = f"cannot listen on {address}"
    if error.errno == errno.EADDRINUSE:
        by = "".join(f" by process {one}" for one in _holders(address))
        other = "path" if address.path else "port (0 takes a free one)"
        return f"{what}: it is in use{by}; stop that, or choose another {other}"
    if isinstance(error, PermissionError):
        return f"{what}: not allowed; ports below 1024 need a privilege, a path a folder that is yours"
    return f"{what}: {error.strerror or error}; give an address of this machine"


def _holders(address: Address) -> Iterator[str]:
    """Yield the process that listens there, if it is one that this user may see."""
    if find_spec("psutil") is None:
        return
    import psutil

    connections: Any = psutil.net_connections("unix" if address.path else "tcp")
    for one in connections:
        if one.pid and (one.laddr == address.path or _listens_on(one, address.port)):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield f"{one.pid} ({psutil.Process(one.pid).name()})"
                return


def _listens_on(connection: Any, port: int) -> bool:
    return connection.status == "LISTEN" and bool(connection.laddr) and connection.laddr.port == port
