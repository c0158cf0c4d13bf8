"""What a worker calls for a node of a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raflow.runtime.steps.values import Packed, pack, unpack
from raflow.runtime.steps.worker import settled
from raflow.workflows.spec.logs import within

if TYPE_CHECKING:
    from raflow.workflows.spec.flowspec import FlowSpec


@dataclass(frozen=True, eq=False)
class Self:
    """Makes what steps see as `self`: an object of the flow's class, without what stays behind."""

    flow: type[FlowSpec]
    """Travels with the body, so that within one process it stays this very class."""
    state: Packed

    @classmethod
    def of(cls, spec: FlowSpec) -> Self:
        """Return the maker for one run.

        Raises:
            NotSerializable: Something that was set on the flow cannot travel.
        """
        state = {name: value for name, value in spec.__getstate__().items() if name != "input"}
        return cls(type(spec), pack(state, f"the attributes of flow {spec.name}, whose steps want self,"))

    def make(self, given: Any) -> FlowSpec:
        """Return one of its own for a call."""
        made = object.__new__(self.flow)
        vars(made).update(unpack(self.state), input=given)
        return made


@dataclass(frozen=True, eq=False)
class Body:
    """A step's function, with messages that name the node."""

    function: Callable[..., Any]
    fans_out: bool
    maker: Self | None
    """For functions that take `self`; their calls get the flow's input first."""

    def __call__(self, node: str, *args: Any) -> Any:
        """Return the result; of a `@foreach` step, its items."""
        if self.maker:
            args = (self.maker.make(args[0]), *args[1:])
        with within(node):
            result = self.function(*args)
            result = settled(_collected(result) if inspect.isasyncgen(result) else result)
            return items_of(result, node) if self.fans_out else result


async def _collected(items: Any) -> list[Any]:
    return [item async for item in items]


def items_of(result: Any, node: str) -> list[Any]:
    """Return the items of what a `@foreach` step has returned.

    Raises:
        TypeError: There are none in it.
    """
    try:
        items = iter(result)
    except TypeError:
        msg = f"step {node} has @foreach and must return something iterable, not {type(result).__name__}"
        raise TypeError(msg) from None
    return list(items)
