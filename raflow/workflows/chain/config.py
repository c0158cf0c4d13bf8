"""What a workflow works with."""

from __future__ import annotations

from typing import Any

from raflow.errors import InvalidOption


class Config:
    """The providers of a workflow.

    Args:
        storage: Where results are kept for `resume`: an object with `post`, `get` and `key`, such as those of
            `raflow.providers`. None: the tasks themselves keep them, in this process.
        later: `notify`, `log`, `server`, `scheduler`, `tracer` and `metrics` are to come.

    Raises:
        InvalidOption: The storage lacks a method, or a provider is given that does not exist yet.
    """

    def __init__(self, storage: Any = None, **later: Any) -> None:
        missing = [
            name
            for name in ("post", "get", "key")
            if storage is not None and not callable(getattr(storage, name, None))
        ]
        if missing:
            msg = f"storage is {storage!r}; it needs methods post, get and key, and lacks {', '.join(missing)}"
            raise InvalidOption(msg)
        if isinstance(storage, type):
            msg = f"storage is the class {storage.__name__}; give an instance: {storage.__name__}()"
            raise InvalidOption(msg)
        _none_of(later)
        self.storage = storage


_LATER = ("notify", "log", "server", "scheduler", "tracer", "metrics")


def _none_of(later: dict[str, Any]) -> None:
    for name, value in later.items():
        if name not in _LATER:
            msg = f"Config has no option {name!r}; there are: storage, {', '.join(_LATER)}"
            raise InvalidOption(msg)
        if value is not None:
            msg = f"{name}={value!r} would do nothing: {name} providers are not there yet; leave it out"
            raise InvalidOption(msg)
