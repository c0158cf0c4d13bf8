"""Deadlines with the clock of a real event loop."""

from __future__ import annotations

import asyncio

from raflow.http.application.deadlines import Deadlines


async def _waited(deadlines: Deadlines, names: str, removed: str = "") -> tuple[list[str], list[float]]:
    """Add deadlines one after the other, remove some, and return the others as they were called, with their times."""
    loop, called, took = asyncio.get_running_loop(), list[str](), list[float]()
    done = asyncio.Event()
    lates = {}
    for name in names:
        began = loop.time()

        def late(name: str = name, began: float = began) -> None:
            called.append(name)
            took.append(loop.time() - began)
            if len(called) == len(names) - len(removed):
                done.set()

        lates[name] = late
        deadlines.add(late)
        await asyncio.sleep(0.01)
    for name in removed:
        deadlines.remove(lates[name])
        deadlines.remove(lates[name])
    await asyncio.wait_for(done.wait(), 10)
    return called, took


def test_what_is_not_removed_is_called_in_order_and_not_before_its_time() -> None:
    called, took = asyncio.run(_waited(Deadlines(0.1), "abcd", removed="ac"))
    assert called == ["b", "d"]
    assert all(each >= 0.099 for each in took), took


def test_deadlines_after_an_idle_time_are_called() -> None:
    async def twice() -> list[str]:
        deadlines = Deadlines(0.05)
        first, _ = await _waited(deadlines, "a")
        second, _ = await _waited(deadlines, "bc", removed="b")
        return first + second

    assert asyncio.run(twice()) == ["a", "c"]


def test_deadlines_work_on_another_event_loop_when_the_first_has_ended_before_its_timer() -> None:
    deadlines = Deadlines(0.05)

    async def left() -> None:
        deadlines.add(lambda: None)

    asyncio.run(left())
    assert asyncio.run(_waited(deadlines, "a"))[0] == ["a"]


def test_who_is_late_may_be_added_again_and_what_is_added_again_waits_for_its_whole_time() -> None:
    async def called() -> list[str]:
        deadlines, found, done = Deadlines(0.05), list[str](), asyncio.Event()

        def again() -> None:
            found.append("again")
            if found.count("again") < 3:
                deadlines.add(again)

        def last() -> None:
            found.append("last")
            done.set()

        deadlines.add(last)
        deadlines.add(again)
        deadlines.add(last)
        await asyncio.sleep(0.03)
        deadlines.add(last)
        await asyncio.wait_for(done.wait(), 10)
        while found.count("again") < 3:
            await asyncio.sleep(0.01)
        return found

    assert asyncio.run(called()) == ["again", "last", "again", "again"]
