"""What is not installed with raflow itself: loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import Any

from raflow.errors import MissingExtra


def load(module: str, what: str, extra: str) -> Any:
    """Return a module that needs packages of an extra.

    Args:
        module: Its name.
        what: Needs it, for the error: "HTTP".
        extra: Its name.

    Raises:
        MissingExtra: A package is not installed.
    """
    try:
        return importlib.import_module(module)
    except MissingExtra:
        raise
    except ImportError as error:
        msg = f"{what} needs {error.name or module}, which is not installed: pip install 'raflow[{extra}]'"
        raise MissingExtra(msg) from error
