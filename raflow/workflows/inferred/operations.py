"""What workflows do with several results; everything works on plain values too, and without raflow's engines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from raflow.workflows.inferred.finishing import Finishing
from raflow.workflows.inferred.lazy import is_result
from raflow.workflows.inferred.scope import Dependency

_NOTHING: Any = object()


class Restart(NamedTuple):
    """Asks, as a workflow's return value, to run it again."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def restart(*args: Any, **kwargs: Any) -> Restart:
    """Return this from a workflow to run it again with these arguments and a fresh history.

    Results among the arguments are waited for; a failed one fails the workflow.
    """
    return Restart(args, kwargs)


def finish_order(r: Any, *rs: Any) -> Iterator[Any]:
    """Yield plain values first, then results in the order in which they finish.

    Args:
        r: A result or value, or with nothing else an iterable of them.
        rs: More of them.
    """
    items = _items(r, rs)
    yield from (item for item in items if not is_result(item))
    finishing = Finishing()
    results = [item for item in items if is_result(item)]
    for result in results:
        finishing.add(result)
    for _ in results:
        yield finishing.next()


def first(r: Any, *rs: Any) -> Any:
    """Return the first plain value, or else the result that finishes first, also if it has failed.

    Does not wait: as long as none has finished, it returns a result that stands for the first one.

    Args:
        r: A result or value, or with nothing else an iterable of them.
        rs: More of them.

    Raises:
        ValueError: There is nothing to choose from.
    """
    items = _items(r, rs)
    if not items:
        msg = "first() got nothing to choose from"
        raise ValueError(msg)
    plain = [item for item in items if not is_result(item)]
    if plain or len(items) == 1:
        return [*plain, *items][0]
    done = [item for item in items if item._self_call.order is not None]
    if done:
        return min(done, key=lambda item: item._self_call.order)
    return items[0]._self_call.scope.beside("first", lambda _: next(finish_order(items)), items)


def parallel_reduce(f: Callable[[Any, Any], Any], iterable: Iterable[Any], initializer: Any = _NOTHING) -> Any:
    """Reduce values and results to one, calling `f` with any two as soon as they are there.

    With a dependency it returns at once; with a plain function it waits, because that runs here.

    Args:
        f: A dependency or a plain function of two arguments, in any order and grouping.
        iterable: Values and results; n of them take n - 1 calls.
        initializer: One more of them.

    Raises:
        ValueError: There is nothing to reduce.
    """
    items = [*([] if initializer is _NOTHING else [initializer]), *iterable]
    if not items:
        msg = "parallel_reduce() got nothing to reduce; give it an initializer"
        raise ValueError(msg)
    if isinstance(f, Dependency) and len(items) > 1:
        results = [item for item in items if is_result(item)]
        return f.scope.beside("parallel_reduce", lambda scope: _reduced(Dependency(scope, f.what), items), results)
    return _reduced(f, items)


def _reduced(f: Callable[[Any, Any], Any], items: list[Any]) -> Any:
    plain: deque[Any] = deque()
    finishing = Finishing()

    def take(item: Any) -> None:
        if is_result(item):
            finishing.add(item)
        else:
            plain.append(item)

    def there() -> Any:
        return plain.popleft() if plain else finishing.next()

    for item in items:
        take(item)
    made = items[0]
    for number in range(1, len(items)):
        made = f(there(), there())
        if number < len(items) - 1:
            take(made)
    return made


def _items(r: Any, rs: tuple[Any, ...]) -> list[Any]:
    return [r, *rs] if rs or is_result(r) or not isinstance(r, Iterable) or isinstance(r, str | bytes) else list(r)
