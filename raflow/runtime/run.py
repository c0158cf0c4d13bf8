"""The user's handle of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from raflow.errors import InvalidOption, RunFailed
from raflow.metrics import RunStats, Status

if TYPE_CHECKING:
    from raflow.runtime.driver import Driver
    from raflow.runtime.serving.served import Served

CONTROL_TOKEN = "RAFLOW_CONTROL_TOKEN"
"""The variable of the environment that holds the token of control routes; without it a run makes one."""


@dataclass(frozen=True)
class Access:
    """How a run is controlled from outside of its process."""

    url: str
    """Of its control routes, on this machine alone."""
    token: str = field(repr=False)
    """What they want as `Authorization: Bearer TOKEN`."""


class Run:
    """One execution of a Flow, from `Flow.run()` or `Flow.start()`.

    Attributes:
        id: Sorts by time; `resume=` takes it.
        ending: What it was asked for: to drain, or to stop; None if neither.
        control: How it is controlled from outside of its process; None without `control_port`.
    """

    def __init__(self, driver: Driver | Served, preview: Callable[[], list[dict[str, Any]]] | None = None) -> None:
        self._driver = driver
        self._preview = preview
        self.id = driver.context.run_id
        self.ending: Literal["drain", "stop"] | None = None
        self.control: Access | None = None

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.status().value}>"

    def status(self) -> Status:
        """Return where the run stands."""
        return self._driver.status

    def stats(self) -> RunStats:
        """Return what has been done so far; at most half a second old."""
        return self._driver.stats()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended, at most so many seconds; returns whether it has.

        Raises:
            RunFailed: It failed; `__cause__` is the user's error.
        """
        over = self.settled(timeout_s)
        if over:
            self.raise_error()
        return over

    def settled(self, timeout_s: float | None = None) -> bool:
        """Wait like `wait`, but do not raise when the run has failed."""
        return self._driver.ended.wait(timeout_s)

    def drain(self, timeout_s: float | None = None) -> None:
        """Start nothing new, finish what is under way; returns at once, `wait` tells when it is done.

        Args:
            timeout_s: Stop what is not finished by then; None: `FlowOptions.drain_timeout_s`.
        """
        self.ending = self.ending or "drain"
        self._driver.tell("drain", timeout_s)

    def hold(self, held: bool = True) -> None:
        """Start nothing new until `hold(False)`, e.g. while results are taken slower than they come."""
        self._driver.tell("hold", held)

    def scale(self, replicas: int) -> None:
        """Have so many HTTP replicas, within the bounds of their options; the autoscaler goes on from there.

        Raises:
            InvalidOption: The run has no collectors and services.
        """
        if self.url is None:
            msg = f"run {self.id} answers no HTTP: the pools of its processors are sized by their options"
            raise InvalidOption(msg)
        self._driver.tell("scale", replicas)

    def stop(self) -> None:
        """End now; what is not committed stays invisible, and `resume` does it again."""
        self.ending = "stop"
        self._driver.tell("stop")

    @property
    def url(self) -> str | None:
        """Where its collectors and services answer; None if it has none."""
        http = self.stats().http
        return http.url if http else None

    def preview(self) -> list[dict[str, Any]]:
        """Return the results of a dry run (`limit=`); empty for other runs."""
        return self._preview() if self._preview else []

    def raise_error(self) -> None:
        """Raise what ended the run, if anything did.

        Raises:
            RunFailed: It failed; `__cause__` is the user's error.
        """
        error = self._driver.error
        if isinstance(error, RunFailed):
            raise error from error.__cause__
        if error is not None:
            msg = f"run {self.id} failed: {error}"
            raise RunFailed(msg) from error
