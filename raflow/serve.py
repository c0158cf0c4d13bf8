"""Joins the HTTP side of a Flow, an engine and the serving runtime; `launch` calls it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from raflow.dependencies.shared import Shared
from raflow.ends import check_one_node
from raflow.errors import InvalidOption, NoCapacity
from raflow.http.application.building import application
from raflow.http.declared import HttpApp
from raflow.metrics import RunStats, Status
from raflow.options import HttpOptions, Resources
from raflow.runtime.driver import Driver
from raflow.runtime.engine import Capacity, Engine
from raflow.runtime.ledger import Ledger
from raflow.runtime.scaling import allocation
from raflow.runtime.serving.address import Address
from raflow.runtime.serving.options import ServingOptions
from raflow.runtime.serving.scaling import HttpScaling
from raflow.runtime.serving.served import Served
from raflow.runtime.serving.server import Tls
from raflow.runtime.serving.serving import Serving
from raflow.sinks import Sink, SinkContext, give_up

HOST, PORT = "127.0.0.1", 8000
_UNIX = "unix:"


def address_of(host: str | None, port: int | None) -> Address:
    """Return where to answer: `unix:/path` as the host is a unix socket.

    Raises:
        InvalidOption: The port is none, or a unix socket is given one, or no path.
    """
    if host is not None and host.startswith(_UNIX):
        if port is not None:
            msg = f"{host} has no port; leave out port={port}"
            raise InvalidOption(msg)
        if host == _UNIX:
            msg = "the unix socket has no path; write it behind unix:, e.g. unix:/run/shop.sock"
            raise InvalidOption(msg)
        return Address(path=host.removeprefix(_UNIX))
    if port is not None and not (type(port) is int and 0 <= port < 1 << 16):
        msg = f"port is {port!r}; it can be 0 (a free one) to 65535"
        raise InvalidOption(msg)
    return Address(HOST if host is None else host, PORT if port is None else port)


class HttpSide:
    """The HTTP side of one run, from before it starts to its end.

    Args:
        http: What is served.
        engine: Not necessarily started.
        address: Where.
        shared: The GLOBAL dependencies of the run, of its data side, too.
    """

    def __init__(self, http: HttpApp, engine: Engine, address: Address, shared: Shared) -> None:
        self._http = http
        self._engine = engine
        self._address = address
        self._needs = needs(http.all_options().values())
        self._serving: Serving | None = None
        self._shared = shared

    def beside(self) -> Engine:
        """Return the engine as the data side of the run sees it: without what HTTP replicas hold."""
        return cast("Engine", _Beside(self._engine, self._held))

    def start(self, make_driver: Callable[[], Driver] | None, launched: float) -> Served:
        """Begin to answer, then to move data.

        Args:
            make_driver: Returns the driver of the data side, not started; None if there is none.
            launched: When the user asked for the run, on the monotonic clock.

        Raises:
            RaflowError: It cannot start: the address is in use, a sink refuses or is on one node only, nothing fits.
        """
        driver = make_driver() if make_driver else None
        if driver is None:
            self._engine.start()
        # A ledger of its own: what a data side has staged may be swept when that ends, and not what is staged here.
        options = self._http.options
        ledger = Ledger.create(options.ledger_url, f"{self._http.flow_id} (HTTP)", options.credentials())
        context, sinks = SinkContext(ledger.run_id, ledger.is_dead, ledger.is_alive), self._sinks()
        started: list[tuple[Sink, Any]] = []
        try:
            check_one_node(self._http.named_sinks(), self._engine, self._http.options)
            self._http = self._http.with_globals(self._shared.open())
            started += [(sink, sink.start(context)) for sink in sinks]
            serving = self._serving = self._made(context, bool(driver))
            serving.start()
        except BaseException:
            give_up(sinks, context)
            if driver:
                give_up((sink for stage in driver.plan.stages for sink in stage.all_sinks), driver.context)
            self._shared.close()
            for one in (ledger, *([driver.ledger] if driver else [])):
                one.fail()
            raise
        empty = RunStats(
            run_id=context.run_id,
            flow_id=self._http.flow_id,
            engine=self._engine.name,
            status=Status.RUNNING,
            elapsed_s=0.0,
            start_up_s=time.monotonic() - launched,
            stages=(),
            outputs=tuple(str(sink) for sink, _ in started),
        )
        close = partial(self._close, ledger, context, started, driver is None)
        served = Served(serving, driver, empty, driver.context if driver else context, close)
        if driver is not None:
            driver.start()
        served.start()
        return served

    def _sinks(self) -> list[Sink]:
        credentials = self._http.options.credentials()
        return [sink.with_credentials(credentials) for sink in self._http.sinks()]

    def _made(self, context: SinkContext, beside: bool) -> Serving:
        make = partial(_in_replica, self._http, context.run_id)
        options = serving_options(self._http, self._needs, self._engine.capacity(), beside=beside)
        return Serving(self._http.flow_id, self._engine, make, self._address, options)

    def _held(self) -> dict[str, float]:
        """Return what HTTP replicas hold, or are about to."""
        if self._serving is None:
            return {}
        stats = self._serving.stats()
        count = max(stats.replicas + stats.starting + stats.leaving, 1) if not stats.status.is_final else 0
        return {name: amount * count for name, amount in self._needs.needs().items()}

    def _close(
        self, ledger: Ledger, context: SinkContext, started: list[tuple[Sink, Any]], alone: bool, status: Status
    ) -> None:
        try:
            self._shared.close()
            for sink, told in started:
                sink.finish(context, told) if status is Status.SUCCEEDED else sink.give_up(context)
        except BaseException:
            status = Status.FAILED
            raise
        finally:
            if alone:
                self._engine.close()
            ledger.end(status)


def _in_replica(http: HttpApp, run_id: str) -> Any:
    """Return the application; called in each replica."""
    logging.getLogger("raflow").setLevel(http.options.log_level)
    return application(http, run_id, starts_sinks=False)


class _Beside:
    """An engine with less room."""

    def __init__(self, engine: Engine, held: Callable[[], dict[str, float]]) -> None:
        self._engine = engine
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def capacity(self) -> Capacity:
        """Return what is left for others."""
        capacity, held = self._engine.capacity(), self._held()
        left = {name: max(amount - held.get(name, 0.0), 0.0) for name, amount in capacity.resources.items()}
        return capacity if capacity.shared else replace(capacity, resources=left)


def needs(options: Iterable[HttpOptions]) -> Resources:
    """Return what a replica needs that serves all of them: the most of each resource that one asks for."""
    every = list(options)
    custom: dict[str, float] = {}
    for one in every:
        for name, amount in one.resources.items():
            custom[name] = max(amount, custom.get(name, 0.0))
    return Resources(
        num_cpus=max(one.num_cpus for one in every),
        num_gpus=max(one.num_gpus for one in every),
        memory_bytes=max((one.memory_bytes or 0 for one in every), default=0) or None,
        resources=custom,
    )


def serving_options(http: HttpApp, held: Resources, capacity: Capacity, *, beside: bool) -> ServingOptions:
    """Return the options of the pool that serves all services and collectors of a Flow.

    Args:
        http: What is served.
        held: By one replica.
        capacity: Of the engine.
        beside: Whether the Flow moves data, too: one replica's room is then left to that.

    Raises:
        NoCapacity: Not even one replica fits, and no room can come.
    """
    every = list(http.all_options().values())
    there = allocation.most(held.needs(), capacity.resources)
    if there == 0 and not (capacity.grows or capacity.shared):
        msg = f"no HTTP replica of {http.flow_id!r} fits: one needs {held.needs()}, there is {capacity.resources}"
        raise NoCapacity(msg)
    room = 1 if capacity.shared else max(there - beside, 1)
    fixed = max((one.num_replicas or 0 for one in every), default=0)
    least = fixed or max(one.min_replicas for one in every)
    most = fixed or max((one.max_replicas or room) if one.autoscale else one.min_replicas for one in every)
    target, calm_s = min(one.target_ongoing_requests for one in every), max(one.calm_s for one in every)
    flow = http.options
    secret = flow.tls_key_password.get_secret_value() if flow.tls_key_password else None
    tls = Tls(flow.tls_certificate, flow.tls_key, secret) if flow.tls_certificate and flow.tls_key else None
    return ServingOptions(
        needs=held,
        scaling=HttpScaling(target, least, max(least, most), calm_s),
        connections=flow.connections,
        tls=tls,
        drain_timeout_s=flow.drain_timeout_s,
        start_timeout_s=flow.start_timeout_s,
        hung_after_s=flow.hung_after_s,
        max_abandoned_calls=flow.max_abandoned_calls,
    )
