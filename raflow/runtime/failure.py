"""Errors on their way between processes: the error itself where it can travel, and the user's frames as text."""

from __future__ import annotations

import asyncio
import importlib
import traceback
from dataclasses import dataclass, replace
from traceback import TracebackException
from typing import Any

from raflow.errors import RaflowError, RunFailed, UserTraceback


@dataclass(frozen=True)
class Failure:
    """Why a unit of work, a replica's set-up or a step failed."""

    error: BaseException
    """As raised, or a stand-in with its type and text if it cannot travel."""
    traceback: str
    """The user's frames as text."""
    where: str
    """`setup`, `read`, `process`, `write` or `teardown`; and at which record, if it was one. Of a step: its id."""


def explain(error: BaseException, where: str, beside: tuple[str, ...] = ()) -> Failure:
    """Return an error as a value that can travel, with the user's frames as text.

    Args:
        error: What was raised.
        where: In what; see `Failure`.
        beside: Beginnings of the names of further files that are not the user's.
    """
    ours = isinstance(error, RaflowError)
    others = (*_NOT_THE_USERS, *beside)
    text = "" if ours else "".join(_users(TracebackException.from_exception(error), others).format())
    return Failure(error.with_traceback(None), text, where)


def portable(failure: Failure, pickle: Any) -> Failure:
    """Return a failure whose error can travel: its type and text in place of one that cannot.

    Args:
        failure: What happened.
        pickle: The module by which it travels.
    """
    try:
        pickle.loads(pickle.dumps(failure.error))
    except Exception:
        return replace(failure, error=RaflowError(said(failure.error)))
    return failure


def said(error: BaseException) -> str:
    """Return an error's type and text; only the type where it has no text to give."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def restore(failure: Failure) -> BaseException:
    """Return the error, with its traceback shown above it."""
    error = failure.error
    if failure.traceback and error.__cause__ is None:
        error.__cause__ = UserTraceback(failure.traceback)
    return error


_NOT_THE_USERS = (
    __file__.rsplit("/", 2)[0],
    asyncio.__file__.rsplit("/", 1)[0],
    importlib.__file__,
    "<frozen importlib",
)


def _users(told: TracebackException, others: tuple[str, ...]) -> TracebackException:
    """Keep only the user's frames, also of the errors that led to this one."""
    own = [frame for frame in told.stack if not frame.filename.startswith(others)]
    told.stack = traceback.StackSummary.from_list(own) if own else None  # type: ignore[assignment]
    for before in (told.__cause__, told.__context__):
        if before is not None:
            _users(before, others)
    return told


def run_failed(failure: Failure, processor: str, replica: int | None = None, split: str | None = None) -> RunFailed:
    """Return the error with which a failure that a replica has told ends a run."""
    error = restore(failure)
    text = f"{type(error).__name__}: {error}" if not isinstance(error, RaflowError) else str(error)
    failed = RunFailed(
        f"processor {processor!r} failed in {failure.where}: {text}",
        processor=processor,
        replica=None if replica is None else f"{processor}[{replica}]",
        split=split,
        traceback=failure.traceback,
    )
    failed.__cause__ = error
    return failed
