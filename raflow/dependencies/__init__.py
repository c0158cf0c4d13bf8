"""What processors get besides their record or request: declared once, made as often as its scope says.

`declared.py` is what users write, `needs.py` reads and checks what depends on what, `making.py` makes it.
`consumers.py` and `raflow/http/application/injection.py` hand it to processors; by `side_output.py` they write to
further sinks. Sessions of `sql.py` come with `pip install 'raflow[sql]'` and load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raflow.dependencies.credentials import AWSCredentials, FlowCredentials, GCPCredentials
from raflow.dependencies.declared import dependency
from raflow.dependencies.scopes import Scope
from raflow.dependencies.side_output import SideOutput, SinkDependency
from raflow.extras import load

if TYPE_CHECKING:
    from raflow.dependencies.sql import AsyncSessionDep as AsyncSessionDep
    from raflow.dependencies.sql import SessionDep as SessionDep

__all__ = [
    "AWSCredentials",
    "AsyncSessionDep",
    "FlowCredentials",
    "GCPCredentials",
    "Scope",
    "SessionDep",
    "SideOutput",
    "SinkDependency",
    "dependency",
]


def __getattr__(name: str) -> Any:
    if name not in ("SessionDep", "AsyncSessionDep"):
        msg = f"module 'raflow.dependencies' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(load("raflow.dependencies.sql", name, "sql"), name)
    globals()[name] = value
    return value
