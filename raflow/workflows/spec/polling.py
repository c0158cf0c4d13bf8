"""How patiently a client asks whether an app run has ended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raflow.workflows.spec.logs import log


@dataclass(frozen=True)
class PollingOptions:
    """How often to ask, and for how long. Any object with these attributes will do for `@app`."""

    backoff: float = 0.1
    """Doubles with each try and is added to `delay`, in seconds."""
    delay: float = 0.1
    """Between two tries, in seconds."""
    initial_delay: float = 0.2
    """Before the first try, in seconds."""
    max_delay: float = 5.0
    """The longest wait, in seconds."""
    max_duration: float = -1
    """Seconds after which the run is given up; -1: no bound."""
    max_tries: int = -1
    """Tries after which the run is given up; -1: no bound."""
    jitter: float = 0.1
    """Up to so many seconds are added to each wait, at random."""
    verbose: bool = False
    """Whether each try is logged."""
    stop: Callable[[], bool] | None = None
    """Asked before each try whether to give the run up."""
    sleep_duration_func: Callable[[], float] | None = None
    """Returns each wait, in the place of `delay`, `backoff`, `max_delay` and `jitter`."""


def poll(ask: Callable[[], bool], options: Any) -> None:
    """Ask until the answer is yes.

    Args:
        ask: Returns whether it is over.
        options: With the attributes of `PollingOptions`.

    Raises:
        TimeoutError: `max_duration` is over.
        RuntimeError: It was asked `max_tries` times, or `stop` said so.
    """
    began, tries = time.monotonic(), 0
    time.sleep(options.initial_delay)
    while True:
        if options.stop and options.stop():
            msg = "it was given up, as stop of its polling options said"
            raise RuntimeError(msg)
        if ask():
            return
        tries += 1
        _check(options, tries, time.monotonic() - began)
        if options.verbose:
            log(f"still running after {tries} tries")
        time.sleep(_wait(options, tries))


def _check(options: Any, tries: int, passed: float) -> None:
    if 0 <= options.max_duration <= passed:
        msg = f"it has not ended within max_duration={options.max_duration:g} s of its polling options"
        raise TimeoutError(msg)
    if 0 <= options.max_tries <= tries:
        msg = f"it has not ended within max_tries={options.max_tries} of its polling options"
        raise RuntimeError(msg)


def _wait(options: Any, tries: int) -> float:
    if options.sleep_duration_func:
        return float(options.sleep_duration_func())
    grown = options.delay + options.backoff * 2.0 ** min(tries - 1, 60)
    return float(min(options.max_delay, grown) + random.uniform(0, options.jitter))
