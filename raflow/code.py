"""User code as a processor has it: a function or class, and what its annotations say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raflow.dependencies.needs import annotated_of, needs
from raflow.errors import InvalidProcessor

EMPTY = inspect.Parameter.empty
"""No annotation."""


@dataclass(frozen=True)
class Code:
    """User code that gets records or batches."""

    function: Callable[..., Any]
    """A function or another object that is called, or a class with `process` and, if wanted, `setup` and `teardown`."""
    takes: Any = EMPTY
    """What it gets if its first parameter has no annotation."""
    keeps: bool = False
    """Whether it says which records to keep, True or False for each, rather than what becomes of them."""

    def annotations(self, name: str) -> tuple[Any, Any]:
        """Return the annotations of the first parameter and of the result; `EMPTY` if none.

        Args:
            name: Of the processor, for errors.

        Raises:
            InvalidProcessor: An annotation names something that does not exist.
        """
        function, first = called(self.function, name)
        try:
            hints = typing.get_type_hints(annotated_of(function), include_extras=True)
        except NameError as error:
            msg = f"processor {name!r}: its annotations use {error.name!r}, which its module does not define"
            raise InvalidProcessor(msg) from error
        return hints.get(first, self.takes), hints.get("return", EMPTY)


def called(code: Any, name: str) -> tuple[Callable[..., Any], str]:
    """Return what is called per record or batch, and the name of its one parameter that is no dependency.

    Raises:
        InvalidProcessor: The code cannot be a processor.
    """
    if isinstance(code, type):
        function = getattr(code, "process", None)
        if function is None:
            msg = f"class {code.__name__} has no method process(self, record); a class processor needs one"
            raise InvalidProcessor(msg)
        check_constructor(code)
        parameters = list(inspect.signature(function).parameters.values())[1:]
    elif callable(code):
        function = code
        parameters = list(inspect.signature(code).parameters.values())
    else:
        msg = f"{code!r} cannot be a processor; decorate a function or a class with a process method"
        raise InvalidProcessor(msg)
    parameters = _without_dependencies(function, parameters)
    _refuse_markers(function, parameters[1:], name)
    return function, _one_parameter(parameters, name)


def _without_dependencies(function: Any, parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    if len(parameters) < 2:
        return parameters
    try:
        wants = needs(function)
    except NameError:  # `Code.annotations` says it better
        return parameters
    return [one for one in parameters if one.name not in wants]


def _refuse_markers(function: Any, parameters: list[inspect.Parameter], name: str) -> None:
    """Refuse what FastAPI fills in endpoints and dependencies: it would be left with its default."""
    try:
        hints = typing.get_type_hints(annotated_of(function), include_extras=True) if parameters else {}
    except NameError:  # `Code.annotations` says it better
        return
    for one in parameters:
        hint = hints.get(one.name)
        told = [more for part in (hint, *typing.get_args(hint)) for more in getattr(part, "__metadata__", ())]
        for marker in (one.default, *told):
            if type(marker).__module__ == "fastapi.params":
                msg = (
                    f"processor {name!r}: its parameter {one.name!r} is a {type(marker).__name__} of FastAPI, which is "
                    f'for endpoints and dependencies; let a function with @dependency(scope="PROCESS") take it, and '
                    f"annotate {one.name!r} with Annotated[…, that function]"
                )
                raise InvalidProcessor(msg)


def _one_parameter(parameters: list[inspect.Parameter], name: str) -> str:
    required = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    positional = [one for one in parameters if one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD)]
    if not positional or len(required) > 1 or any(one.kind is one.KEYWORD_ONLY for one in required):
        listed = ", ".join(str(one) for one in parameters) or "none"
        msg = f"processor {name!r} must take one record or batch; its parameters are: {listed}"
        raise InvalidProcessor(msg)
    return positional[0].name


def check_constructor(code: type) -> None:
    """Check that a class can be made without arguments.

    Raises:
        InvalidProcessor: It cannot.
    """
    if code.__init__ is object.__init__:  # type: ignore[misc]
        return
    required = [
        one
        for one in list(inspect.signature(code.__init__).parameters.values())[1:]  # type: ignore[misc]
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    if required:
        needed = required[0].name
        msg = f"class {code.__name__} is made without arguments in each replica; its constructor needs {needed!r}"
        raise InvalidProcessor(msg)
