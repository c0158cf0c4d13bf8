"""Values on their way between steps: pickled once, large buffers apart, so that readers share them.

Every step gets values of its own: what one step does to its arguments, no other step sees. Buffers of
Arrow and NumPy are shared and therefore read-only; in threads also with the step that has made them, which
must not change what it has returned.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import cloudpickle

from raflow.decorated import CARRIED
from raflow.errors import NotSerializable, TaskError
from raflow.runtime.steps.unpickle import loads

INLINE_BYTES = 100_000
"""Values up to this size travel with the message that tells of them; larger ones stay in the engine's store."""

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})


@dataclass(frozen=True)
class Packed:
    """A pickled value."""

    data: bytes
    buffers: tuple[Any, ...] = ()
    """Out-of-band buffers, not copied."""
    atom: Any = None
    """The value itself if it cannot change; `data` is empty then."""

    def __reduce__(self) -> Any:
        """Travel with the buffers apart again, whatever they have become on the way here."""
        return Packed, (self.data, tuple(map(pickle.PickleBuffer, self.buffers)), self.atom)

    @property
    def size_bytes(self) -> int:
        """Bytes that travel."""
        return len(self.data) + sum(memoryview(buffer).nbytes for buffer in self.buffers)


@dataclass(frozen=True, eq=False)
class Stored:
    """A value in the engine's store, of which this process holds only the name."""

    name: Any
    """What the engine finds it by."""
    size_bytes: int


Value: TypeAlias = "Packed | Stored"


def pack(value: Any, what: str) -> Packed:
    """Return a value ready to travel.

    Args:
        value: Anything that pickles; functions and classes of scripts and notebooks travel by value.
        what: For the error, e.g. `the result of step double_3`.

    Raises:
        NotSerializable: It cannot travel.
        TaskError: A lazy result in it has failed.
    """
    if type(value) in _ATOMS and (type(value) not in (str, bytes) or len(value) < INLINE_BYTES):
        return Packed(b"", atom=value)
    buffers: list[Any] = []
    try:
        data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except TaskError:
        raise  # a lazy result within the value has failed, which says more
    except Exception as error:
        deep = "recursion" in str(error).lower()
        why = "it is nested too deeply" if deep else f"{type(value).__name__} {shown(value)}: {error}"
        msg = f"{what} cannot travel: {why}"
        raise NotSerializable(msg) from error
    # Kept as memory views: a PickleBuffer of one, in a reference cycle, crashes Python before 3.12.7 (gh-77894).
    return Packed(data, tuple(buffer.raw().toreadonly() for buffer in buffers))


def shown(value: Any) -> str:
    """Return the beginning of a value's text; its type's where it cannot say what it is."""
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"<{type(value).__name__}>"


def unpack(packed: Packed) -> Any:
    """Return the value: a new one each time, but for buffers, which are shared."""
    return packed.atom if not packed.data else loads(packed.data, packed.buffers)


@contextmanager
def by_value(module: ModuleType | None, pickler: Any = cloudpickle) -> Iterator[None]:
    """Let the functions and classes of a module that workers cannot import travel as they are.

    Args:
        module: None: nothing is to be done.
        pickler: The cloudpickle that is told; Ray has one of its own.
    """
    if module is None:
        yield
        return
    pickler.register_pickle_by_value(module)
    CARRIED.add(module.__name__)
    try:
        yield
    finally:
        CARRIED.discard(module.__name__)
        pickler.unregister_pickle_by_value(module)


def shipped(function: Callable[..., Any], name: str, module: ModuleType | None) -> bytes:
    """Return a function ready to travel to another process.

    Args:
        function: It.
        name: Of the step, for the error.
        module: Module whose functions and classes travel as they are.

    Raises:
        NotSerializable: It cannot travel.
    """
    try:
        with by_value(module):
            data: bytes = cloudpickle.dumps(function)
    except Exception as error:
        msg = f"the function of step {name} cannot travel: {error}"
        raise NotSerializable(msg) from error
    return data


# -- arguments ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """Stands in arguments for a value that comes from another step."""

    index: int


@dataclass(frozen=True)
class Earlier:
    """Stands for a value that an earlier task of the same call makes."""

    task: str


def replace(value: Any, swap: Callable[[Any], Any]) -> Any:
    """Return a value with everything in its lists, tuples, sets and dicts (keys too) swapped.

    Args:
        value: Containers of exactly these types, named tuples included, are gone into.
        swap: Gets each other object, returns what takes its place.

    Raises:
        NotSerializable: A value contains itself, or is nested too deeply.
    """
    try:
        return _replace(value, swap, ())
    except RecursionError as error:
        msg = "an argument is nested too deeply"
        raise NotSerializable(msg) from error


def _replace(value: Any, swap: Callable[[Any], Any], path: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    is_named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    if kind not in (list, tuple, set, frozenset, dict) and not is_named:
        return swap(value)
    if id(value) in path:
        msg = f"an argument is a {kind.__name__} that contains itself"
        raise NotSerializable(msg)
    path = (*path, id(value))
    if kind is dict:
        return {_replace(key, swap, path): _replace(each, swap, path) for key, each in value.items()}
    items = [_replace(each, swap, path) for each in value]
    return kind._make(items) if is_named else kind(items)
