"""Methods and paths: what may be declared, and when two of them are the same route."""

from __future__ import annotations

import re
from typing import Any

from raflow.errors import InvalidOption

BODILESS = ("GET", "DELETE")
"""Methods of requests without a body: their record is made of path and query."""
WEBSOCKET = "WEBSOCKET"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", WEBSOCKET)
OWN = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{asset}")
"""Paths that every application answers itself."""

_PARAMETER = re.compile(r"{(\w+)(:\w+)?}")


def checked_method(method: Any) -> str:
    """Return a method in capitals.

    Raises:
        InvalidOption: There is no such method.
    """
    if not isinstance(method, str) or method.upper() not in METHODS:
        msg = f"method is {method!r}; it can be {', '.join(METHODS)}"
        raise InvalidOption(msg)
    return method.upper()


def checked_route(route: Any, what: str = "route") -> str:
    """Return a path as it was declared.

    Raises:
        InvalidOption: It does not begin with a slash.
    """
    if not isinstance(route, str) or not route.startswith("/"):
        msg = f'{what} is {route!r}; it must be a path that begins with "/", such as "/orders/{{order_id}}"'
        raise InvalidOption(msg)
    return route


def joined(base: str, route: str) -> str:
    """Return the path of a route below a base route."""
    return base.rstrip("/") + route


def parameters(path: str) -> list[str]:
    """Return the names of a path's parameters."""
    return [name for name, _ in _PARAMETER.findall(path)]


def shape(path: str) -> str:
    """Return what two paths have in common that match the same requests: names of parameters do not matter."""
    return _PARAMETER.sub(lambda found: f"{{{found[2] or ''}}}", path)
