"""From a command-line target, such as `flights.py:app` or `pkg.mod`, to the Flow that it names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from raflow.errors import TargetError
from raflow.units import did_you_mean

if TYPE_CHECKING:
    from raflow.flow import Flow


@dataclass(frozen=True)
class Target:
    """A Flow and where it was found."""

    flow: Flow
    module: ModuleType
    """Its module; never `__main__`, so that its processors travel by their import path."""
    folder: Path | None
    """What replicas need on `sys.path` to import the module; None if it is installed."""
    text: str
    """The target as it was given."""


def load(target: str) -> Target:
    """Import the module that a target names and return its Flow.

    Args:
        target: `file.py`, `file.py:name`, `pkg.mod` or `pkg.mod:name`. The name may be dotted, and may
            lead to a function without parameters that returns a Flow. Without it, the module's only
            Flow is meant.

    Raises:
        TargetError: The target does not lead to a Flow, or its module cannot be imported; the user's
            own error is the `__cause__`, with its traceback.
    """
    place, name = _parts(target)
    is_path = _is_path(place)
    module = _import_file(Path(place)) if is_path else _import_module(place)
    folder = Path(place).resolve().parent if is_path else _folder(module)
    flow = _named(module, name, target) if name else _only(module, target)
    return Target(flow, module, folder, target)


def folder_of(target: str) -> Path:
    """Return the folder of a target's source, without importing it: of a module, the working folder.

    Raises:
        TargetError: There is no such file.
    """
    place, _ = _parts(target)
    if not _is_path(place):
        return Path.cwd()
    _check_file(Path(place))
    return Path(place).resolve().parent


def named(target: str) -> Any:
    """Import the module that a target names and return what the name leads to, whatever it is.

    Args:
        target: `file.py:name` or `pkg.mod:name`; the name may be dotted.

    Raises:
        TargetError: The target leads nowhere, or its module cannot be imported.
    """
    place, name = _parts(target)
    if not name:
        msg = f"the target {target!r} has no name; write file.py:name or pkg.mod:name"
        raise TargetError(msg)
    module = _import_file(Path(place)) if _is_path(place) else _import_module(place)
    return _member(module, name, target)


def _parts(target: str) -> tuple[str, str]:
    """Return the file or module, and the name after the colon, if any."""
    place, colon, name = target.rpartition(":")
    if not colon or Path(target).exists():
        place, name = target, ""
    if not place or (colon and not name and place != target):
        msg = f"the target {target!r} is incomplete; write file.py, file.py:name, pkg.mod or pkg.mod:name"
        raise TargetError(msg)
    return place, name


def _is_path(place: str) -> bool:
    """Whether a target means a file; a package in the working folder is a module."""
    return "/" in place or place.endswith(".py") or (Path(place).exists() and not Path(place, "__init__.py").exists())


def _check_file(path: Path) -> None:
    if not path.exists():
        msg = f"there is no file {path}; targets are file.py, file.py:name, pkg.mod or pkg.mod:name"
        raise TargetError(msg)
    if path.is_dir():
        msg = f"{path} is a folder; name a Python file in it"
        raise TargetError(msg)
    if path.suffix != ".py":
        msg = f"{path} is not a Python file; its name must end with .py"
        raise TargetError(msg)


def _import_file(path: Path) -> ModuleType:
    _check_file(path)
    path = path.resolve()
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _searching(path.parent), _explained(str(path)):
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _module_name(path: Path) -> str:
    """Return the file's stem, or a distinct name if an import of the stem would give another module."""
    stem = path.stem.replace(".", "_")
    if stem == path.stem and stem != "__main__" and _origin(stem) in (None, path):
        return stem
    return f"{stem}_{zlib.crc32(os.fsencode(path)):08x}"


def _origin(name: str) -> Path | str | None:
    """Return the file that `import name` would give, something else without a file, or None."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file).resolve() if file else "imported"
    if name in sys.stdlib_module_names:
        return "standard library"
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    return Path(spec.origin).resolve() if spec.origin and spec.has_location else None


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is neither a file nor a module; write file.py, file.py:name, pkg.mod or pkg.mod:name"
        raise TargetError(msg)
    with _searching(Path.cwd()):
        try:
            with _explained(name):
                return importlib.import_module(name)
        except TargetError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
                msg = f"there is no module {cause.name!r} in {Path.cwd()} or among the installed packages"
                raise TargetError(msg) from None
            raise


def _folder(module: ModuleType) -> Path | None:
    """Return the working folder if the module was found there."""
    top = sys.modules[module.__name__.partition(".")[0]]
    places = [*getattr(top, "__path__", []), getattr(top, "__file__", None) or ""]
    cwd = Path.cwd()
    return cwd if cwd in [Path(place).resolve().parent for place in places if place] else None


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """Put a folder first on `sys.path`, and take it back if the import fails."""
    text = str(folder)
    before = list(sys.path)
    sys.path[:] = [text, *(entry for entry in before if entry != text)]
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        sys.path[:] = before
        raise


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what the user's code raises while it is imported or called into a TargetError from it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        trace = _users(error.__traceback__)
        position = _position(error, trace) or place
        msg = f"{position}: {type(error).__name__}: {error}"
        raise TargetError(msg) from error.with_traceback(trace)


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of this module and of the import system."""
    first = trace
    while first and (_file(first) in (__file__, importlib.__file__) or _file(first).startswith("<frozen importlib")):
        first = first.tb_next
    return first


def _position(error: BaseException, trace: TracebackType | None) -> str | None:
    """Return file and line of a syntax error, or of the first frame of the user's code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    return f"{_file(trace)}, line {trace.tb_lineno}" if trace else None


def _file(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _only(module: ModuleType, target: str) -> Flow:
    """Return the module's only Flow."""
    flows = _flows(module)
    if not flows:
        msg = f"{target} has no Flow; assign one at the top of the module: app = Flow()"
        raise TargetError(msg)
    if len(flows) > 1:
        msg = f"{target} has several Flows: {', '.join(flows)}; add :NAME to say which one"
        raise TargetError(msg)
    return next(iter(flows.values()))


def _flows(module: ModuleType) -> dict[str, Flow]:
    """Return the module's Flows, each under its first name."""
    from raflow.flow import Flow

    found: dict[int, tuple[str, Flow]] = {}
    for name, value in vars(module).items():
        if isinstance(value, Flow):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _named(module: ModuleType, name: str, target: str) -> Flow:
    """Return what a dotted name leads to; a function without parameters is called."""
    from raflow.flow import Flow

    value = _member(module, name, target)
    if inspect.isroutine(value):
        value = made(value, target)
    if not isinstance(value, Flow):
        msg = f"{target}: {name} is of type {type(value).__name__}, not Flow{_flow_names(module)}"
        raise TargetError(msg)
    return value


def _member(module: ModuleType, name: str, target: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise TargetError(_unknown(module, value, part, target))
        value = getattr(value, part)
    return value


def made(factory: Callable[[], Any], target: str) -> Any:
    """Call a function that a target names and return what it makes.

    Raises:
        TargetError: It needs parameters, or it raises; the user's own error is the `__cause__`.
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        name = getattr(factory, "__name__", "it")
        msg = f"{target}: {name} needs parameters ({error}); a function that makes a flow or workflow takes none"
        raise TargetError(msg) from None
    with _explained(target):
        return factory()


def _unknown(module: ModuleType, owner: Any, part: str, target: str) -> str:
    where = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__name__
    known = [name for name in dir(owner) if not name.startswith("_")]
    return f"{target}: {where} has no {part!r}{did_you_mean(part, known) or _flow_names(module)}"


def _flow_names(module: ModuleType) -> str:
    names = ", ".join(_flows(module))
    return f"; its Flows are: {names}" if names else ""
