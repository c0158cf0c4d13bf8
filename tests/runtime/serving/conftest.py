"""A started pool of replicas on each engine, ended after the test whatever it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from raflow import engines
from raflow.runtime.serving.address import LOOPBACK, Address
from raflow.runtime.serving.options import ServingOptions
from raflow.runtime.serving.scaling import HttpScaling
from raflow.runtime.serving.serving import Serving
from tests.runtime.serving.apps import App

READY_S = 60.0

Serve = Callable[..., Serving]


@pytest.fixture
def serve(engine: str) -> Iterator[Serve]:
    """Starts a pool: `serve(app, replicas=…, address=…, **options)`."""
    made = engines.make(engine)
    made.start()
    running: list[Serving] = []

    def start(
        app: App, *, replicas: int = 1, address: Address = LOOPBACK, ready: bool = True, **given: object
    ) -> Serving:
        given.setdefault("scaling", HttpScaling(min_replicas=replicas, max_replicas=replicas))
        given.setdefault("grace_s", 0.3)
        serving = Serving("api", made, app, address, ServingOptions(**given))  # type: ignore[arg-type]
        serving.start()
        running.append(serving)
        if ready:
            serving.wait_ready(READY_S)
        return serving

    yield start
    for serving in running:
        serving.stop()
    made.close()
