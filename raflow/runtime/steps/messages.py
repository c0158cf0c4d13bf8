"""What driver and workers tell each other: tasks on their way there, reports on their way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.values import Packed


@dataclass(frozen=True)
class Task:
    """One attempt of a step, ready to travel."""

    id: str
    code: Any
    """The function, as `Workers.ship` returned it."""
    arguments: Packed
    inputs: tuple[Any, ...]
    """What the slots of the arguments stand for: values, `Earlier` ones, or slots of what came beside."""
    timeout: float
    retry_on: Any
    expands: bool
    heartbeat: float = 0.0
    """Seconds within which it must give a sign of life; 0: no bound."""


@dataclass(frozen=True)
class Begun:
    """A task has really started."""

    call: int
    task: str


@dataclass(frozen=True)
class Beat:
    """A task has given a sign of life."""

    call: int
    task: str
    said: str


@dataclass(frozen=True)
class Ended:
    """A task has ended, well or not."""

    call: int
    task: str
    attempt: Attempt


@dataclass(frozen=True)
class Left:
    """These tasks were not begun and go back; the call goes on without them."""

    call: int
    tasks: tuple[str, ...]


class InputsLost(Exception):
    """Values that a call needs are gone with the node on which they were."""


@dataclass(frozen=True)
class Over:
    """The call has ended."""

    call: int
    error: BaseException | None = None
    """Why its worker was lost; tasks without an end have perhaps begun. After `InputsLost` they have not."""


Report: TypeAlias = "Begun | Beat | Ended | Left | Over"
Post: TypeAlias = Callable[[Report], None]
