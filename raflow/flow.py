"""The container that users declare processors in, and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raflow.decorated import Made, adding
from raflow.errors import DuplicateName, InvalidOption, InvalidProcessor
from raflow.http.collector import Collector, collector
from raflow.http.declared import HttpApp
from raflow.http.service import Service, checked_middleware
from raflow.nodes import Node, united
from raflow.options import FlowOptions
from raflow.processors import Origin, Processor, consumer, inputs
from raflow.sinks import Sink, same_place
from raflow.stream import Stream

if TYPE_CHECKING:
    from raflow.plan import Plan
    from raflow.runtime.run import Run


def _is_same(one: Sink, other: Sink) -> bool:
    """Return whether two sinks write to the same place."""
    return one is other or same_place(one, other)


class Flow:
    """A container of processors. It is a description: making one starts nothing.

    Args:
        flow_id: Names the Flow in runs and logs; `--resume last` looks for its last run.
        flow_options: Options of the Flow, and defaults of its processors' options.

    Example:
        >>> from raflow import Flow
        >>> from raflow.connectors.memory import MemorySink, MemorySource
        >>> app, doubled = Flow(), MemorySink()
        >>> @app.consumer(source=MemorySource([{"n": 1}, {"n": 2}]), sink=doubled)
        ... def double(record: dict) -> dict:
        ...     return {"n": record["n"] * 2}
        >>> run = app.run(engine="local")
        >>> doubled.records()
        [{'n': 2}, {'n': 4}]
    """

    def __init__(self, flow_id: str = "raflow-app", flow_options: FlowOptions | None = None) -> None:
        if not isinstance(flow_id, str) or not flow_id:
            msg = f"flow_id is {flow_id!r}; it must be a text that is not empty"
            raise InvalidOption(msg)
        if not isinstance(flow_options, FlowOptions | None):
            msg = f"flow_options is {flow_options!r}; it must be FlowOptions(...)"
            raise InvalidOption(msg)
        self.flow_id = flow_id
        self.options = flow_options or FlowOptions()
        self._processors: dict[str, Processor] = {}
        self._collectors: dict[str, Collector] = {}
        self._services: dict[str, Service] = {}
        self._middleware: list[tuple[Any, dict[str, Any]]] = []
        self._written: list[Node] = []

    def __repr__(self) -> str:
        names = [*self._processors, *self._collectors, *self._services]
        return f"<Flow {self.flow_id}: {', '.join(names) or 'no processors'}>"

    @property
    def processors(self) -> tuple[Processor, ...]:
        """The consumers, in the order in which they were added."""
        return tuple(self._processors.values())

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """The collectors, in the order in which they were added."""
        return tuple(self._collectors.values())

    @property
    def services(self) -> tuple[Service, ...]:
        """The services, in the order in which they were added."""
        return tuple(self._services.values())

    @property
    def middleware(self) -> tuple[tuple[Any, dict[str, Any]], ...]:
        """What is around all collectors and services, each with its options, in the order in which it was added."""
        return tuple(self._middleware)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What is done for their results: the processors, then the streams that are written."""
        return (*(processor.node for processor in self.processors), *self._written)

    def add_stream(self, node: Node) -> None:
        """Add a stream that is written: a node with sinks. `Stream.write` calls this.

        What the same stream has been told to write to the same place before is replaced, as where a cell of
        a notebook is run again: written twice, each record would be there twice.

        Raises:
            InvalidOption: Another stream of the Flow writes to the same folder.
        """
        kept = []
        for earlier in self._written:
            again = [one for one in earlier.sinks if any(_is_same(one, sink) for sink in node.sinks)]
            if earlier.inputs != node.inputs:
                self._refuse_folder([one for one in again if one.place is not None])
                again = []
            sinks = tuple(one for one in earlier.sinks if one not in again)
            kept += [earlier] if not again else [replace(earlier, sinks=sinks)] if sinks else []
        self._written = [*kept, node]

    def _refuse_folder(self, sinks: Sequence[Sink]) -> None:
        if sinks:
            msg = (
                f"flow {self.flow_id!r} has another stream that is written to {sinks[0]!r}, so that all its records "
                "would be beside these; write the union of both, or to another folder, or begin with a new Flow"
            )
            raise InvalidOption(msg)

    def read(self, source: Origin) -> Stream:
        """Return a lazy stream of the records of a source; nothing is read yet.

        Args:
            source: A source, a processor, a stream, or a list of them for all their records.

        Raises:
            InvalidOption: It is none of these.

        Example:
            >>> import pyarrow.compute as pc
            >>> from raflow import Flow
            >>> from raflow.connectors.memory import MemorySource
            >>> records = Flow().read(MemorySource([{"n": 1}, {"n": 2}]))
            >>> records.with_columns(twice=pc.field("n") * 2).collect(engine="local")
            [{'n': 1, 'twice': 2}, {'n': 2, 'twice': 4}]
        """
        return Stream(self, united(inputs(source)))

    def consumer(
        self,
        source: Origin,
        sink: Sink | Sequence[Sink] | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Processor]:
        """Make a function or class a consumer of this Flow; see `raflow.consumer` for the arguments."""
        return adding(consumer(source, sink, name=name, **options), self.add_consumer)

    def add_consumer(self, processor: Processor) -> None:
        """Add a consumer that was declared elsewhere with `@consumer(...)`.

        Raises:
            DuplicateName: The Flow has another processor of that name.
            InvalidProcessor: It was not made by `@consumer(...)`.
        """
        self._add(processor, Processor, self._processors, "@consumer(source=..., sink=...)")

    def collector(
        self,
        route: str,
        method: str = "POST",
        sink: Sink | Sequence[Sink] | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Collector]:
        """Make a function or class a collector of this Flow; see `raflow.collector` for the arguments."""
        return adding(collector(route, method, sink, name=name, **options), self.add_collector)

    def add_collector(self, collector: Collector) -> None:
        """Add a collector that was declared elsewhere with `@collector(...)`.

        Raises:
            DuplicateName: The Flow has another processor of that name.
            InvalidProcessor: It was not made by `@collector(...)`.
        """
        self._add(collector, Collector, self._collectors, "@collector(route, method, sink=...)")

    def service(self, base_route: str = "/", *, service_id: str | None = None, **options: Any) -> Service:
        """Return a new service of this Flow; see `raflow.Service` for the arguments."""
        made = Service(base_route, service_id=service_id, **options)
        self.add_service(made)
        return made

    def add_service(self, service: Service) -> None:
        """Add a service that was made elsewhere. Its endpoints may be added later.

        Raises:
            DuplicateName: The Flow has another service or processor with that id.
            InvalidProcessor: It is no `Service`.
        """
        if not isinstance(service, Service):
            msg = f"{service!r} is no service; make one with Service(base_route)"
            raise InvalidProcessor(msg)
        if service.service_id is None:
            twins = sum(service.base_route == other.base_route for other in self.services)
            service.service_id = f"{service.base_route}#{twins + 1}" if twins else service.base_route
        self._refuse_second(service.service_id, "give one of them service_id='...'")
        self._services[service.service_id] = service

    def add_middleware(self, middleware: type, **options: Any) -> None:
        """Put an ASGI middleware around all collectors and services; the one added last is the outermost.

        It sees every request but those for `/healthz` and `/readyz`, also where nothing answers them, and every
        reply, also 500, 503 and 504: the place for CORS. It does not count for limits of size and time.

        Args:
            middleware: A class that is called with the ASGI application and the options.
            options: Its keyword arguments.

        Raises:
            InvalidOption: It is no class.
        """
        self._middleware.append((checked_middleware(middleware), options))

    def _add(self, one: Made, kind: type[Made], known: dict[str, Made], how: str) -> None:
        if not isinstance(one, kind):
            msg = f"{one!r} is no {kind.kind}; decorate it with {how} first"
            raise InvalidProcessor(msg)
        self._refuse_second(one.name, "give one of them name='...'")
        known[one.name] = one

    def _refuse_second(self, name: str, how: str) -> None:
        if name in {**self._processors, **self._collectors, **self._services}:
            msg = f"flow {self.flow_id!r} has a processor {name!r} already; {how}"
            raise DuplicateName(msg)

    def asgi(self) -> Any:
        """Return the collectors and services as an ASGI application, for any ASGI host and for tests.

        Its lifespan sets up class processors, opens sinks and, at the end, writes what is buffered and
        calls `teardown`; a host that runs no lifespan gets 503 for every request.

        Raises:
            FlowError: The description is wrong.
            MissingExtra: The packages for HTTP are not installed.

        Example:
            >>> from raflow import Flow
            >>> app = Flow("greetings")
            >>> @app.service().endpoint("/hello/{name}")
            ... def hello(name: str) -> dict:
            ...     return {"text": f"Hello, {name}!"}
            >>> asgi = app.asgi()  # then, for example: uvicorn my_module:asgi
            >>> asgi.title
            'greetings'
        """
        from raflow.http import check_installed

        check_installed()
        from raflow.http.application.building import application
        from raflow.runtime.ledger import new_run_id

        return application(HttpApp.of(self), new_run_id())

    def plan(self, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
        """Return the validated, fused form of the Flow. Nothing is read or started.

        Args:
            overrides: Options by processor name that beat all others (`--set`).

        Raises:
            FlowError: The description is wrong.
        """
        from raflow.plan import make_plan

        return make_plan(self, overrides or {})

    def run(  # noqa: PLR0913 - one per option
        self,
        *,
        engine: str = "auto",
        address: str | None = None,
        block: bool = True,
        resume: str | None = None,
        limit: int | None = None,
        host: str | None = None,
        port: int | None = None,
        control_port: int | None = None,
    ) -> Run:
        """Run the Flow.

        With `block`, progress is shown and the first Ctrl-C or SIGTERM drains, the second stops. What only
        answers HTTP returns when it is drained.

        Args:
            engine: "ray", "local" (threads of this process) or "auto"; `RAFLOW_ENGINE` overrides "auto".
            address: A Ray cluster; default: a Ray that this process has initialised, else `RAY_ADDRESS`,
                else an own local Ray that ends with this process.
            block: Wait until the run has ended; otherwise return at once.
            resume: A run id or "last": do only the unfinished work of that run.
            limit: Dry run: process only the first so many records of each source, write nothing, and
                keep the results for `Run.preview()`.
            host: Where collectors and services answer: a name or address of this machine, default 127.0.0.1;
                0.0.0.0 for all of its interfaces; `unix:/path` for a unix socket.
            port: Default 8000; 0 for a free one, which `Run.url` tells.
            control_port: Answer `raflow control` at this port of 127.0.0.1 (0 for a free one, see `Run.control`);
                None: not at all. The token is that of `RAFLOW_CONTROL_TOKEN`, else one is made and printed.

        Raises:
            RunFailed: The run failed, `__cause__` is the user's error; or somebody has stopped it. Only with `block`.
            KeyboardInterrupt: A signal has ended it before all was done; `resume` goes on. Only with `block`.
            RaflowError: It could not start: wrong description, missing input, no cluster.
        """
        from raflow.launch import Request, launch

        asked = Request(
            engine=engine,
            address=address,
            resume=resume,
            limit=limit,
            host=host,
            port=port,
            control_port=control_port,
        )
        return launch(self, asked, block=block)

    def start(self, **options: Any) -> Run:
        """Run the Flow in the background: `run(block=False)` with the same options.

        Raises:
            RaflowError: It could not start: wrong description, missing input, no cluster.
        """
        return self.run(block=False, **options)
