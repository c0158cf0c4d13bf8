"""Messages and timers of one thread."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from raflow.runtime.steps.inbox import Inbox


def test_messages_come_in_their_order_also_those_that_are_nothing() -> None:
    inbox = Inbox()
    for message in (1, None, 2):
        inbox.put(message)
    assert (len(inbox), list(inbox.waiting()), len(inbox)) == (3, [1, None, 2], 0)


def test_what_comes_while_messages_are_taken_is_left_for_the_next_time() -> None:
    inbox = Inbox()
    inbox.put("first")
    for message in inbox.waiting():
        inbox.put(f"after {message}")
    assert list(inbox.waiting()) == ["after first"]


def test_next_waits_for_a_message_of_another_thread() -> None:
    inbox = Inbox()
    threading.Timer(0.05, inbox.put, ["late"]).start()
    assert inbox.next() == "late"


def test_next_waits_no_longer_than_until_something_is_due() -> None:
    inbox, done = Inbox(), list[float]()
    began = time.monotonic()
    for delay_s in (0.1, 0.02, 0.06):
        inbox.later(delay_s, lambda delay_s=delay_s: done.append(delay_s))  # type: ignore[misc]
    while len(done) < 3:
        assert inbox.next() is None
        inbox.do_due()
    assert time.monotonic() - began >= 0.1
    assert all(before < after for before, after in pairwise(done))


def test_what_is_due_together_is_done_in_the_order_in_which_it_was_asked_for() -> None:
    inbox, done = Inbox(), list[int]()
    for number in range(9):
        inbox.later(-1.0, lambda number=number: done.append(number))  # type: ignore[misc]
    inbox.do_due()
    assert done == list(range(9))


def test_what_is_sent_later_comes_behind_what_was_told_before() -> None:
    inbox, done = Inbox(), list[str]()
    inbox.behind(-1.0, lambda: done.append("timer"))
    inbox.put("message")
    inbox.do_due()
    first, action = inbox.waiting()
    action()
    assert (first, done) == ("message", ["timer"])


def test_what_was_to_be_done_can_be_forgotten() -> None:
    inbox = Inbox()
    inbox.later(-1.0, lambda: inbox.put("too late"))
    inbox.forget_due()
    inbox.do_due()
    assert len(inbox) == 0
