"""The HTTP side of a Flow as one value: what each replica builds its application of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from raflow.dependencies.needs import closure
from raflow.errors import DuplicateName, InvalidOption, InvalidProcessor
from raflow.http.annotations import resolve
from raflow.http.collector import Collector
from raflow.http.depending import reached
from raflow.http.routes import OWN, joined, shape
from raflow.http.service import Service
from raflow.options import CollectorOptions, FlowOptions, Http, HttpOptions
from raflow.sinks import Sink

if TYPE_CHECKING:
    from raflow.flow import Flow


@dataclass(frozen=True)
class HttpApp:
    """The services and collectors of one Flow. It pickles, so that it can travel to replicas."""

    flow_id: str
    """Of the Flow."""
    options: FlowOptions
    """Of the Flow."""
    services: tuple[Service, ...]
    """In the order in which they were added; each has an id."""
    collectors: tuple[Collector, ...]
    """In the order in which they were added."""
    middleware: tuple[tuple[Any, dict[str, Any]], ...] = ()
    """Around all of them, each with its options; the last one is the outermost."""
    shipped: dict[Any, Any] = field(default_factory=dict)
    """What dependencies of the scope GLOBAL have made, by dependency: what is not here, an application makes."""

    @classmethod
    def of(cls, flow: Flow, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> HttpApp:
        """Return the HTTP side of a Flow.

        Args:
            flow: That has services or collectors.
            overrides: Options by service id or collector that beat all others (`--set`).

        Raises:
            DuplicateName: Two processors answer one route and method; names both.
            InvalidOption: An option of the Flow cannot be one of a service or collector.
            InvalidDependency: A dependency of an endpoint or collector cannot be made.
            InvalidDependencyHierarchyOrder: One depends on something that lives shorter than itself.
        """
        given = overrides or {}
        app = cls(
            flow.flow_id,
            flow.options,
            tuple(one.copied(given.get(str(one.service_id), {})) for one in flow.services),
            tuple(one.copied(given.get(one.name, {})) for one in flow.collectors),
            flow.middleware,
        )
        for one in (*app.collectors, *(each for service in app.services for each in service.endpoints)):
            resolve(one.code)
        app._check_routes()
        app.all_options()
        app.dependencies()
        return app

    def with_globals(self, made: Mapping[Any, Any]) -> HttpApp:
        """Return what can be shipped to replicas with what GLOBAL dependencies have made, by dependency."""
        return replace(self, shipped={make: made[make] for make in closure(self.dependencies()) if make in made})

    def dependencies(self) -> list[Any]:
        """Return the dependencies for which endpoints and collectors ask, also in functions of FastAPI's `Depends`.

        Raises:
            InvalidProcessor: An annotation names something that does not exist.
            InvalidDependency: One cannot be made.
            InvalidDependencyHierarchyOrder: One depends on something that lives shorter than itself.
        """
        found: dict[int, Any] = {}
        for kind, name, code in self._functions():
            try:
                found |= {id(make): make for make in reached(code)}
            except NameError as error:
                msg = f"{kind} {name!r}: its annotations use {error.name!r}, which its module does not define"
                raise InvalidProcessor(msg) from error
        return list(found.values())

    def sinks(self) -> list[Sink]:
        """Return the sinks of collectors and of `SinkDependency`, each once: a driver starts and finishes them."""
        return list({id(sink): sink for _, sink in self.named_sinks()}.values())

    def named_sinks(self) -> list[tuple[str, Sink]]:
        """Return the same with the names of collectors, as often as they are used; error sinks are the last ones."""
        found = [(one.name, sink) for one in self.collectors for sink in self.all_sinks(one)]
        sides = [getattr(make, "sink", None) for make in closure(self.dependencies())]
        return found + [("SinkDependency", sink) for sink in sides if isinstance(sink, Sink)]

    def all_sinks(self, collector: Collector) -> tuple[Sink, ...]:
        """Return the sinks of a collector, and its error sink last if there is one."""
        errors = self.collector_options(collector).error_sink
        return collector.sinks if errors is None else (*collector.sinks, errors)

    def _functions(self) -> Iterator[tuple[str, str, Callable[..., Any]]]:
        endpoints = [one for service in self.services for one in service.endpoints]
        for each in (*endpoints, *self.collectors):
            yield each.kind, each.name, getattr(each.code, "process", each.code)

    def service_options(self, service: Service) -> HttpOptions:
        """Return a service's options, with the defaults of the Flow."""
        return self._options(HttpOptions, service.options, f"service {service.service_id!r}")

    def collector_options(self, collector: Collector) -> CollectorOptions:
        """Return a collector's options, with the defaults of the Flow."""
        return self._options(CollectorOptions, collector.options, f"collector {collector.name!r}")

    def _options(self, kind: type[Http], given: Mapping[str, Any], whose: str) -> Http:
        try:
            return self.options.http(kind, given)
        except InvalidOption as error:
            msg = f"{whose}: {error}"
            raise InvalidOption(msg) from None

    def all_options(self) -> dict[str, HttpOptions]:
        """Return the options of all services and collectors, by name."""
        services = {str(service.service_id): self.service_options(service) for service in self.services}
        return {**services, **{one.name: self.collector_options(one) for one in self.collectors}}

    def _check_routes(self) -> None:
        taken = {("GET", path): "raflow itself" for path in OWN}
        for method, path, name in self._routes():
            other = taken.setdefault((method, shape(path)), name)
            if other != name:
                msg = f"{name} and {other} both answer {method} {path}; change the route of one of them"
                raise DuplicateName(msg)

    def _routes(self) -> Iterator[tuple[str, str, str]]:
        for service in self.services:
            for number, one in enumerate(service.endpoints, 1):
                name = f"endpoint {one.name!r} (number {number} of service {service.service_id!r})"
                yield one.method, joined(service.base_route, one.route), name
        for each in self.collectors:
            yield each.method, each.route, f"collector {each.name!r}"
