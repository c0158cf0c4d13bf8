from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from raflow.errors import CannotListen
from raflow.runtime.serving.address import Address, bind, unbind


def test_a_free_port_is_told_back() -> None:
    listening, address = bind(Address())
    with listening:
        assert address.host == "127.0.0.1"
        assert address.port == listening.getsockname()[1] > 0
        assert str(address) == f"127.0.0.1:{address.port}"
        assert not listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_a_port_in_use_names_the_process() -> None:
    listening, address = bind(Address())
    with listening, pytest.raises(CannotListen, match=rf"in use by process {os.getpid()} \(.+\); stop that, or choose"):
        bind(address)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_address_of_ipv6_is_listened_on() -> None:
    listening, address = bind(Address(host="::1"))
    with listening:
        assert listening.family == socket.AF_INET6
        assert str(address) == f"[::1]:{address.port}"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (Address(host="192.0.2.1", port=80), "192.0.2.1:80: .*give an address of this machine"),
        (Address(host="no.such.host.invalid"), "no.such.host.invalid:0: .*give an address of this machine"),
        (Address(path="/no/such/folder/http"), "/no/such/folder/http: .*"),
    ],
)
def test_what_cannot_be_listened_on_is_told(address: Address, why: str) -> None:
    with pytest.raises(CannotListen, match=why):
        bind(address)


def test_the_file_that_a_dead_process_has_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "http"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    listening, address = bind(Address(path=str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    unbind(listening, address)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(CannotListen):
        bind(Address(path=str(path)))
    assert path.read_text() == "data"
