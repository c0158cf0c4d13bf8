"""Which steps are open, and what each of them waits for."""

from __future__ import annotations

from collections import deque

from raflow.runtime.steps.sharing import key_of
from raflow.runtime.steps.step import Step


class Board:
    """The steps of a run that have not ended.

    Args:
        ahead: Whether a step may share a call with the one that it waits for.
    """

    def __init__(self, *, ahead: bool) -> None:
        self.ahead = ahead
        self.open: dict[Step, int] = {}
        """Steps that have not ended, with the number of steps that they wait for."""
        self.after: dict[Step, list[Step]] = {}
        """Those that wait for a step."""
        self.given: set[Step] = set()
        """Steps that are on their way; some before what they wait for has ended, in the same call."""
        self.alone: set[Step] = set()
        """Steps that share no call any more, because a worker was lost with them."""
        self.remade: set[Step] = set()
        """Steps that have succeeded and are done again, because their values are lost."""

    def first(self, steps: deque[Step], number: int) -> list[Step]:
        """Take so many steps at most that may share a call."""
        taken = [steps.popleft()]
        while len(taken) < number and taken[0] not in self.alone and steps[0] not in self.alone:
            taken.append(steps.popleft())
        return taken

    def followed(self, steps: list[Step], most: int) -> list[Step]:
        """Return steps, each with those that can follow it in the same call because they wait for it alone."""
        found: list[Step] = []
        for step in steps:
            follower: Step | None = step
            while follower is not None:
                found.append(follower)
                follower = self._follower(follower) if len(found) < most else None
        return found

    def _follower(self, step: Step) -> Step | None:
        after = self.after.get(step, ())
        if not self.ahead or len(after) != 1 or step.expands or step in self.alone:
            return None
        other = after[0]
        waits_for_it_alone = self.open.get(other) == 1 and other not in self.alone and other not in self.given
        same_worker = not other.host and not other.options.first_delay and key_of(other)[1] == key_of(step)[1]
        return other if waits_for_it_alone and same_worker else None

    def waits_again(self, step: Step) -> bool:
        """Let a step wait for those that it needs and that are done again; return whether there are any."""
        if not self.remade:
            return False
        again = [need for need in dict.fromkeys(step.needs()) if need in self.remade]
        for need in again:
            self.after.setdefault(need, []).append(step)
        self.open[step] += len(again)
        return bool(again)
