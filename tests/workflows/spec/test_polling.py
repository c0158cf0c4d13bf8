from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from raflow.workflows.spec import PollingOptions
from raflow.workflows.spec.polling import poll

FAST = PollingOptions(delay=0, backoff=0, initial_delay=0, jitter=0)


def after(tries: int) -> Callable[[], bool]:
    """Say yes after so many questions."""
    answers = iter([False] * (tries - 1) + [True])
    return lambda: next(answers)


def test_it_is_asked_until_the_answer_is_yes() -> None:
    poll(after(5), FAST)
    poll(after(5), replace(FAST, max_tries=5))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (replace(FAST, max_tries=3), RuntimeError, "max_tries=3"),
        (replace(FAST, max_duration=0), TimeoutError, "max_duration=0 s"),
        (replace(FAST, stop=lambda: True), RuntimeError, "stop"),
    ],
)
def test_its_bounds_are_errors_that_name_them(options: PollingOptions, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        poll(after(1000), options)


def test_the_waits_can_be_the_users_own() -> None:
    waits = iter([0.0, 0.001, 0.0])
    poll(after(4), replace(FAST, delay=1000, max_delay=1000, sleep_duration_func=lambda: next(waits)))
    assert next(waits, None) is None


def test_waits_grow_up_to_the_longest_one() -> None:
    poll(after(2000), replace(FAST, backoff=1e-9, max_delay=1e-6))  # without a bound this would take for ever


def test_each_try_can_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        poll(after(3), replace(FAST, verbose=True))
    assert [record.getMessage() for record in caplog.records] == [
        "[main] still running after 1 tries",
        "[main] still running after 2 tries",
    ]
