"""Arrow without pandas until user code imports it.

Arrow imports pandas to look at the first list that becomes an array: most of a second of CPU and 50 MB in each
replica, though what is no pandas object needs none.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa

_lock = threading.Lock()
_done: list[Late] = []


def without_pandas() -> None:
    """Have Arrow settle that there is no pandas, until something imports it; again is harmless."""
    shim = getattr(pa.lib, "_pandas_api", None)
    with _lock:
        if _done or shim is None or "pandas" in sys.modules:
            return
        late = Late(shim)
        _done.append(late)
        sys.meta_path.insert(0, late)
        late.is_hidden = True
        pa.array([0])
        late.is_hidden = False


class Late:
    """Finds no pandas while it is hidden; later it has Arrow look again once pandas is there.

    Args:
        shim: What of Arrow knows whether there is pandas.
    """

    def __init__(self, shim: Any) -> None:
        self._shim = shim
        self.is_hidden = False

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Find pandas as others do, and see its import end."""
        del path, target
        if name != "pandas":
            return None
        if self.is_hidden:
            raise ImportError(name)
        with suppress(ValueError):  # another thread was first
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader)
        return spec

    def _watch(self, loader: Any) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._shim.__init__()  # as new: it asks for pandas when it needs to know

        loader.exec_module = exec_module
