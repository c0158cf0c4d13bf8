"""An address on each host of a Ray cluster that has replicas for it: one small actor per host holds the socket.

On a Ray of our own this process does, which has its one host and user: an actor takes a second to start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raflow.engines.ray.cluster import foreign, is_own
from raflow.errors import CannotListen, ReplicaLost
from raflow.runtime.serving.address import Address, bind, unbind

_OPEN_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 5.0
_TAKE_TIMEOUT_S = 20.0
"""It takes a moment, unless who gives has no file left to open."""
_AGAIN_S = 0.1


@dataclass(frozen=True)
class Meeting:
    """Where the listening socket of a host is handed over: a unix socket without a file, which leaves nothing."""

    name: str

    def take(self) -> socket.socket:
        """Return a copy of the socket.

        Raises:
            ConnectionRefusedError: Who holds it has closed it, or is gone.
            TimeoutError: It does not answer.
        """
        with socket.socket(socket.AF_UNIX) as peer:
            _bound(peer, _TAKE_TIMEOUT_S)
            try:
                peer.connect(f"\0{self.name}")
                _check_user(peer)
                _, copies, _, _ = socket.recv_fds(peer, 1, 1)
            except BlockingIOError as error:
                msg = f"who holds the listening socket has not handed it over in {_TAKE_TIMEOUT_S:g} s"
                raise TimeoutError(msg) from error
        if not copies:
            msg = "who holds the listening socket has closed it"
            raise ConnectionRefusedError(msg)
        os.set_inheritable(copies[0], False)
        return socket.socket(fileno=copies[0])


class RayListener:
    """Holds the address on the hosts where it is needed. Two nodes with one IP address are one host.

    Args:
        address: Asked for.

    Raises:
        CannotListen: It is in use, or cannot be had.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._holders: dict[str, Any] = {}
        """By host."""
        self._hosts: dict[Any, str | None] = {}
        """By actor of a replica that stays: its host; None while that is not known."""
        self._held: set[str] = set()
        """Hosts on which the address has been had."""
        self._closed = False
        self._lock = threading.Lock()
        node = _first_node()
        host = _nodes()[node]
        self.address, _ = self._opened(host, self._holder(host, node))

    def place(self) -> Any:
        """Return where the next replica is to go: to a host that has the address and no replica, else anywhere."""
        with self._lock:
            bare = set(self._holders) - set(self._hosts.values())
        empty = next((node for node, host in _nodes().items() if host in bare), None)
        return NodeAffinitySchedulingStrategy(empty, soft=True) if empty else "SPREAD"

    def joined(self, actor: Any, place: Any) -> None:
        """Take note of a replica that is on its way."""
        with self._lock:
            self._hosts[actor] = _nodes().get(getattr(place, "node_id", ""))

    def leaving(self, replica: Any) -> None:
        """Take note that a replica is about to leave; see `Listener`. It counts no more from now on."""
        with self._lock:
            host = self._hosts.pop(replica.actor, None)
            bare = host in self._holders and host not in self._hosts.values() and len(self._holders) > 1
            holders = [self._holders.pop(host)] if bare and host else []
        _end(holders)

    def left(self, actor: Any) -> None:
        """Take note that a replica has ended; what connects to its host waits for the one that takes its place."""
        with self._lock:
            self._hosts.pop(actor, None)

    def handover(self, replica: Any) -> Future[Any]:
        """Return the way to the socket on the host of a replica; a host's first one has the address opened there."""
        answer: Future[Any] = Future()
        # Not in the threads in which Ray tells of results: ending an actor there waits for ever.
        threading.Thread(target=self._hand, args=(replica, answer), name="raflow handover", daemon=True).start()
        return answer

    def close(self) -> None:
        """Close all sockets and end their holders."""
        with self._lock:
            holders, self._holders, self._closed = list(self._holders.values()), {}, True
        _end(holders)

    def _hand(self, replica: Any, answer: Future[Any]) -> None:
        try:
            answer.set_result(self._meeting(replica.actor, replica.node().result()))
        except BaseException as error:  # it reaches the driver with the answer
            answer.set_exception(error)

    def _meeting(self, actor: Any, node: str) -> Meeting:
        host = _nodes().get(node, node)
        with self._lock:
            if actor not in self._hosts:  # a holder would stay there for nobody
                msg = f"a replica for {self.address} has left before it had the socket"
                raise ReplicaLost(msg)
            self._hosts[actor] = host
            holder = self._holder(host, node)
        return self._opened(host, holder)[1]

    def _holder(self, host: str, node: str) -> Any:
        """Return who holds the address on a host. Called with the lock."""
        if self._closed:
            msg = f"{self.address} is closed"
            raise CannotListen(msg)
        if host not in self._holders:
            self._holders[host] = _holder(self.address, node)
        return self._holders[host]

    def _opened(self, host: str, holder: Any) -> tuple[Address, Meeting]:
        """Return the address, and where the host's socket is handed over."""
        try:
            found = _open(holder, self.address)
        except BaseException as error:
            with self._lock:  # the host's next replica finds another holder
                if self._holders.get(host) is holder:
                    del self._holders[host]
                orphans = host in self._held and list(self._hosts.values()).count(host) > 1
            _end([holder])
            if orphans and isinstance(error, CannotListen):
                raise CannotListen(self._lost(host)) from error
            raise
        with self._lock:
            self._held.add(host)
        return found

    def _lost(self, host: str) -> str:
        return (
            f"no replica can join those on host {host}: what held {self.address} there has died, and they alone have "
            "its socket; they answer on. Once they have left, e.g. by scaling down or a restart, others can come"
        )


class _SocketHolder:
    """Holds a listening socket, accepts nothing itself, and gives copies to replicas of its host."""

    def __init__(self, name: str) -> None:
        self._name = f"raflow holds {name}"
        self._meeting: Meeting | None = None
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return self._name

    def open(self, address: Address) -> tuple[Address, Meeting]:
        """Bind, unless that is done; returns the address with its real port, and where copies are given."""
        if self._meeting is None:
            self._listening, self._address = bind(address)
            self._meeting = Meeting(f"raflow-{secrets.token_hex(8)}")
            self._giving = socket.socket(socket.AF_UNIX)
            self._giving.bind(f"\0{self._meeting.name}")
            self._giving.listen(16)
            threading.Thread(target=self._give, name=self._name, daemon=True).start()
        return self._address, self._meeting

    def close(self) -> None:
        """Close the socket here, and give no more copies."""
        self._closed.set()
        if self._meeting is None:
            return
        unbind(self._listening, self._address)
        self._giving.shutdown(socket.SHUT_RDWR)  # closing it alone would not wake who waits in `accept`
        self._giving.close()

    def _give(self) -> None:
        while not self._closed.is_set():
            try:
                peer, _ = self._giving.accept()
            except OSError:  # closed, or for now no more files may be opened
                self._closed.wait(_AGAIN_S)
                continue
            with peer, contextlib.suppress(OSError):  # it is gone, or somebody else's
                _check_user(peer)
                socket.send_fds(peer, [b"x"], [self._listening.fileno()])


_Holder: Any = ray.remote(_SocketHolder)


def _holder(address: Address, node: str) -> Any:
    if is_own():
        return _SocketHolder(str(address))
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return _Holder.options(num_cpus=0, scheduling_strategy=there).remote(str(address))


def _open(holder: Any, address: Address) -> tuple[Address, Meeting]:
    if isinstance(holder, _SocketHolder):
        return holder.open(address)
    try:
        return ray.get(holder.open.remote(address), timeout=_OPEN_TIMEOUT_S)  # type: ignore[no-any-return]
    except ray.exceptions.RayError as error:
        raise foreign(error, f"the holder of {address}") from error


def _end(holders: list[Any]) -> None:
    actors = []
    for holder in holders:
        if isinstance(holder, _SocketHolder):
            holder.close()
        else:
            actors.append(holder)
    if actors:
        ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=_CLOSE_TIMEOUT_S)
    for actor in actors:
        ray.kill(actor, no_restart=True)


def _bound(peer: socket.socket, most_s: float) -> None:
    """Have calls that block raise BlockingIOError in the end; `settimeout` would have `connect` not wait at all."""
    whole, part = divmod(most_s, 1)
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        peer.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(whole), int(part * 1e6)))


def _check_user(peer: socket.socket) -> None:
    """Refuse to deal with another user's process: anybody on the machine can connect to a name without a file.

    Raises:
        PermissionError: It is such a process.
    """
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        msg = f"the listening socket is handed over by a process of user {user}"
        raise PermissionError(msg)


def _nodes() -> dict[str, str]:
    """Return the IP address of each node that is alive."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _first_node() -> str:
    """Return the node of this process, or another one if replicas have no place on it."""
    here = ray.get_runtime_context().get_node_id()
    able = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return here if here in able or not able else str(able[0])
