"""Started replicas and pools, ended after the test whatever it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raflow import engines
from raflow.options import ConnectionOptions, Resources
from raflow.runtime.serving.address import Address, bind, unbind
from raflow.runtime.serving.options import ServingOptions
from raflow.runtime.serving.replica import ServingReplica
from raflow.runtime.serving.scaling import HttpScaling
from raflow.runtime.serving.serving import Serving
from tests.runtime.serving.apps import App

READY_S = 60.0
END_S = 3.0
"""For what is left of a test: then it is stopped."""

Serve = Callable[..., Serving]
Start = Callable[..., ServingReplica]


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.02)


def scaling(least: int, most: int, target_ongoing_requests: float = 8.0) -> HttpScaling:
    """How large a pool may be."""
    return HttpScaling(target_ongoing_requests, least, most, calm_s=30.0)


def serving_options(**given: Any) -> ServingOptions:
    """Options for a test; those that it does not give are short where a test would wait."""
    given = {"needs": Resources(), "connections": ConnectionOptions(leave_s=0.3), "tls": None, **given}
    bounds = {"drain_timeout_s": 30.0, "start_timeout_s": 60.0, "hung_after_s": 60.0, "max_abandoned_calls": 16}
    return ServingOptions(**{**bounds, **given})


@pytest.fixture
def serve(engine: str) -> Iterator[Serve]:
    """Starts a pool: `serve(app, replicas=…, address=…, **options)`."""
    made = engines.make(engine)
    made.start()
    running: list[Serving] = []

    def start(
        app: App, *, replicas: int = 1, address: Address | None = None, ready: bool = True, **given: Any
    ) -> Serving:
        given.setdefault("scaling", scaling(replicas, replicas))
        serving = Serving("api", made, app, address or Address(), serving_options(**given))
        serving.start()
        running.append(serving)
        if ready:
            serving.wait_ready(READY_S)
        return serving

    yield start
    for serving in running:
        serving.tell("drain", 0.0)  # unlike `stop` it leaves processes to the next test
    for serving in running:
        serving.ended.wait(END_S)
        serving.stop()
    made.close()


class Port:
    """A listening socket on a free port of this machine, shared by the replicas of one test."""

    def __init__(self) -> None:
        self.listening, self.address = bind(Address())

    def take(self) -> Any:
        return self.listening.dup()


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    unbind(made.listening, made.address)


@pytest.fixture
def start(port: Port) -> Iterator[Start]:
    """Starts a replica in this process: `start(app, **limits)`."""
    running: list[ServingReplica] = []

    def start(app: App, **limits: Any) -> ServingReplica:
        replica = ServingReplica(app, ConnectionOptions(**limits), None, f"api[{len(running)}]")
        assert replica.setup(port) is None
        running.append(replica)
        return replica

    yield start
    for replica in running:
        replica.cancel()
