"""From an import string, `pkg.mod.attr` or `pkg.mod:attr`, to the object that it names."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from raflow.errors import ImportModuleError, MissingActionDecorator, NotCallableObject
from raflow.units import did_you_mean
from raflow.workflows.chain.actions import Action, as_action


def load(text: str) -> Any:
    """Return the object that an import string names.

    Raises:
        ImportModuleError: There is no such module or attribute, or the module raises while it is imported;
            its own error is the `__cause__`.
    """
    place, colon, path = text.partition(":")
    parts = (place, path) if colon else text.rpartition(".")[::2]
    if not all(part.isidentifier() for one in parts for part in one.split(".")):
        msg = f"{text!r} is no import string; write pkg.mod.attr or pkg.mod:attr"
        raise ImportModuleError(msg)
    return _found(*parts, text)


def load_step(text: str) -> Action:
    """Return the action that an import string names.

    Raises:
        ImportModuleError: It leads nowhere.
        MissingActionDecorator: It leads to something that is no action.
    """
    return action_of(load(text), text)


def action_of(step: Any, called: str | None = None) -> Action:
    """Return a step as an action.

    Args:
        step: A decorated function or class.
        called: How the user wrote it, for errors.

    Raises:
        MissingActionDecorator: It was not decorated.
        NotCallableObject: It could not even be.
    """
    found = as_action(step)
    if found is not None:
        return found
    name = called or getattr(step, "__qualname__", None) or repr(step)
    if not callable(step):
        msg = f"{name} cannot be a step: it is a {type(step).__name__}; give an action or an import string"
        raise NotCallableObject(msg)
    msg = f"{name} is no action; put @action above it, on top of its other decorators"
    raise MissingActionDecorator(msg)


def _found(place: str, path: str, text: str) -> Any:
    value: Any = _module(place, text)
    if isinstance(value, str):  # the module ends earlier: pkg.mod.Class.method
        place, path = value, f"{place.removeprefix(f'{value}.')}.{path}"
        value = importlib.import_module(place)
    for part in path.split("."):
        if not hasattr(value, part):
            raise ImportModuleError(_unknown(value, part, text))
        value = getattr(value, part)
    return value


def _module(place: str, text: str) -> ModuleType | str:
    """Import a module; or return the name of the package or module in which the rest may be attributes."""
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise ImportModuleError(_broken(place, text, error)) from error
        parent = error.name.rpartition(".")[0]
        if parent:
            return parent
        msg = f"{text!r} leads nowhere: there is no module {error.name!r}; is its folder on sys.path?"
        raise ImportModuleError(msg) from None
    except (Exception, SystemExit) as error:
        raise ImportModuleError(_broken(place, text, error)) from error


def _broken(place: str, text: str, error: BaseException) -> str:
    return f"{text!r} cannot be loaded: importing {place} raised {type(error).__name__}: {error}"


def _unknown(owner: Any, part: str, text: str) -> str:
    where = getattr(owner, "__name__", type(owner).__name__)
    return f"{text!r} leads nowhere: {where} has no {part!r}{did_you_mean(part, dir(owner))}"
