"""Joins plan, engine and driver: the one place where a run begins."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

from rich.console import Console

from raflow import engines
from raflow.connectors.memory import MemorySink
from raflow.dependencies.shared import Shared
from raflow.ends import Ends, check_local_only, check_one_node
from raflow.errors import InvalidOption, RunFailed
from raflow.flow import Flow
from raflow.http import check_installed
from raflow.http.declared import HttpApp
from raflow.metrics import Status
from raflow.observe.progress import progress_for
from raflow.observe.summary import show, summary
from raflow.observe.terminal import log_to_terminal
from raflow.plan import Plan, check_names, dry
from raflow.runtime.driver import Driver
from raflow.runtime.engine import Engine
from raflow.runtime.intake import intake
from raflow.runtime.ledger import Ledger
from raflow.runtime.run import Run
from raflow.sinks import Sink, SinkContext, give_up
from raflow.sources import Source

_LOOK_S = 0.25
_DRY_LEDGER = "memory://raflow-dry-runs"

log = logging.getLogger("raflow")


@dataclass(frozen=True)
class Request:
    """How a Flow is to be run; the arguments of `Flow.run` and of the command line."""

    engine: str = "auto"
    address: str | None = None
    resume: str | None = None
    limit: int | None = None
    working_dir: str | None = None
    by_value: ModuleType | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quiet: bool = False
    host: str | None = None
    port: int | None = None
    control_port: int | None = None


def launch(flow: Flow, request: Request, *, block: bool = True) -> Run:
    """Run a Flow; see `Flow.run`.

    Raises:
        RaflowError: It cannot start, or (with `block`) it failed or was stopped.
        KeyboardInterrupt: A signal has ended it before all was done.
    """
    run = start(flow, request)
    if block:
        is_interrupted = watch(run, Console(stderr=True, quiet=request.quiet))
        run.raise_error()
        if run.status() is Status.CANCELLED:
            msg = f"run {run.id} was stopped before its end; resume={run.id!r} goes on with it"
            raise KeyboardInterrupt(msg) if is_interrupted else RunFailed(msg)
    return run


def start(flow: Flow, request: Request) -> Run:
    """Start a run and return at once.

    Raises:
        RaflowError: It cannot start; nothing has moved then.
    """
    if request.control_port is None:
        return _started(flow, request)
    check_installed("control_port")
    from raflow.control import Control

    control = Control(request.control_port)
    try:
        run = _started(flow, request)
    except BaseException:
        control.close()
        raise
    control.serve(run)
    return run


def _started(flow: Flow, request: Request) -> Run:
    began = time.monotonic()
    http = _http_side(flow, request)
    served = http.all_options() if http else {}
    overrides = {name: options for name, options in request.overrides.items() if name not in served}
    check_names(flow, request.overrides, served)
    plan = preview = None
    if http is None or flow.nodes:
        plan, preview = _plan(flow, replace(request, overrides=overrides))
    log_to_terminal(flow.options.log_level)
    name, reason = engines.choose(request.engine)
    log.debug("engine %s: %s", name, reason)
    check_local_only(_ends(plan, None), name)
    check_local_only(_ends(None, http), name, http=True)
    engine = engines.make(name, address=request.address, working_dir=request.working_dir, by_value=request.by_value)
    makes = [*(plan.dependencies() if plan else ()), *(http.dependencies() if http else ())]
    shared = Shared(makes, flow.options.credentials())
    if http is None:
        assert plan is not None
        driver = _driver(plan, engine, request, began, shared, at_end=shared.close)
        driver.start()
        return Run(driver, preview.records if preview else None)
    from raflow.serve import HttpSide, address_of

    side = HttpSide(http, engine, address_of(request.host, request.port), shared)
    make = None if plan is None else partial(_driver, plan, side.beside(), request, began, shared)
    return Run(side.start(make, began))


def _driver(
    plan: Plan, engine: Engine, request: Request, began: float, shared: Shared,
    at_end: Callable[[], None] | None = None,
) -> Driver:  # fmt: skip
    """Return the driver of the data side, not started; the engine is."""
    ledger = _ledger(plan, request)
    context = SinkContext(ledger.run_id, ledger.is_dead, ledger.is_alive)
    try:
        work = intake(plan, ledger, context, resumed=request.resume is not None, limit=request.limit)
        engine.start()
        check_one_node(_ends(plan, None), engine, plan.options)
        plan.ship(shared.open())
    except BaseException:
        give_up((sink for stage in plan.stages for sink in stage.all_sinks), context)
        shared.close()
        ledger.fail()
        raise
    return Driver(work, engine, ledger, context, began, at_end)


def _http_side(flow: Flow, request: Request) -> HttpApp | None:
    """Return what the Flow serves, None if nothing."""
    if not flow.collectors and not flow.services:
        if request.host is not None or request.port is not None:
            msg = f"host and port are for HTTP processors; flow {flow.flow_id!r} has none"
            raise InvalidOption(msg)
        return None
    if request.limit is not None:
        msg = f"limit is for sources; flow {flow.flow_id!r} has collectors or services, try these with flow.asgi()"
        raise InvalidOption(msg)
    if request.resume is not None and not flow.nodes:
        msg = f"flow {flow.flow_id!r} only answers HTTP; there is nothing to resume"
        raise InvalidOption(msg)
    check_installed()
    return HttpApp.of(flow, request.overrides)


def watch(run: Run, console: Console, target: str = "TARGET") -> bool:
    """Show a run until it has ended; the first Ctrl-C or SIGTERM drains it, the second stops it.

    Returns:
        Whether a signal came.
    """
    with _signals(run) as came, progress_for(console) as progress:
        while not run.settled(_LOOK_S):
            progress.view(run.stats())
        progress.close(run.stats())
    show(console, summary(run.stats(), target))
    return bool(came)


def _plan(flow: Flow, request: Request) -> tuple[Plan, MemorySink | None]:
    plan = flow.plan(request.overrides)
    if request.limit is None:
        return plan, None
    if request.resume:
        msg = f"limit={request.limit} makes a dry run, which cannot resume another one; leave out limit or resume"
        raise InvalidOption(msg)
    if type(request.limit) is not int or request.limit < 1:
        msg = f"limit is {request.limit!r}; it is a number of records of each source, at least 1"
        raise InvalidOption(msg)
    sink = MemorySink()
    return dry(plan, sink), sink


def _ledger(plan: Plan, request: Request) -> Ledger:
    if request.limit is not None:
        return Ledger.create(_DRY_LEDGER, plan.flow_id)
    if request.resume is not None:
        return Ledger.reopen(plan.options.ledger_url, request.resume, plan.flow_id, plan.options.credentials())
    return Ledger.create(plan.options.ledger_url, plan.flow_id, plan.options.credentials())


def _ends(plan: Plan | None, http: HttpApp | None) -> Ends:
    found: list[tuple[str, Source | Sink]] = []
    for op in plan.ops() if plan else ():
        found += [(op.name, end) for end in ([op.work] if isinstance(op.work, Source) else [])]
        found += [(op.name, sink) for sink in op.all_sinks]
    return found + (http.named_sinks() if http else [])


@contextmanager
def _signals(run: Run) -> Iterator[list[int]]:
    """Drain on the first signal, stop on the second; only possible in the main thread. Yields those that come."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def handle(number: int, frame: Any) -> None:
        del frame
        (run.stop if came else run.drain)()
        came.append(number)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
