"""Replicas that leave."""

from __future__ import annotations

from typing import Any

import pytest

from raflow.runtime.pool import Member

DRAIN_S = 60.0


@pytest.mark.parametrize(
    ("held", "after_s", "is_late"),
    [
        ({"units": ["a call"]}, 59.0, False),
        ({"units": ["a call"]}, 61.0, True),
        ({"holds": {"a unit": 0.0}}, 600.0, False),
        ({"holds": {"a unit": 0.0}, "units": ["a call"]}, 61.0, True),
        ({"ready": False}, 2.0, False),
        ({"ready": False}, 4.0, True),
    ],
    ids=["a call", "a long call", "a long unit", "both", "not ready", "long not ready"],
)
def test_one_that_leaves_is_ended_when_it_takes_too_long_itself(
    held: dict[str, Any], after_s: float, is_late: bool
) -> None:
    nothing: Any = None
    member = Member(0, nothing, **{"ready": True, "leaving": 100.0, **held})
    assert member.is_late(100.0 + after_s, DRAIN_S) is is_late
