"""The HTTP side of a Flow as one value: what each replica builds its application of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raflow.errors import DuplicateName
from raflow.http.annotations import resolve
from raflow.http.collector import Collector
from raflow.http.routes import OWN, joined, shape
from raflow.http.service import Service
from raflow.options import CollectorOptions, FlowOptions, HttpOptions
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

    @classmethod
    def of(cls, flow: Flow, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> HttpApp:
        """Return the HTTP side of a Flow.

        Args:
            flow: That has services or collectors.
            overrides: Options by service id or collector that beat all others (`--set`).

        Raises:
            DuplicateName: Two processors answer one route and method; names both.
            InvalidOption: An option of the Flow cannot be one of a service or collector.
        """
        given = overrides or {}
        app = cls(
            flow.flow_id,
            flow.options,
            tuple(one.copied(given.get(str(one.service_id), {})) for one in flow.services),
            tuple(one.copied(given.get(one.name, {})) for one in flow.collectors),
        )
        for one in (*app.collectors, *(each for service in app.services for each in service.endpoints)):
            resolve(one.code)
        app._check_routes()
        app.all_options()
        return app

    def service_options(self, service: Service) -> HttpOptions:
        """Return a service's options, with the defaults of the Flow."""
        return self.options.http(HttpOptions, service.options)

    def collector_options(self, collector: Collector) -> CollectorOptions:
        """Return a collector's options, with the defaults of the Flow."""
        return self.options.http(CollectorOptions, collector.options)

    def all_options(self) -> dict[str, HttpOptions]:
        """Return the options of all services and collectors, by name."""
        services = {str(service.service_id): self.service_options(service) for service in self.services}
        return {**services, **{one.name: self.collector_options(one) for one in self.collectors}}

    def sinks(self) -> Iterator[Sink]:
        """Yield the sinks of all collectors, with the Flow's credentials."""
        credentials = self.options.credentials()
        for collector in self.collectors:
            for sink in collector.sinks:
                yield sink.with_credentials(credentials)

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
