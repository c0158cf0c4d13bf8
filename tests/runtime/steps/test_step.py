from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from raflow.errors import NotSerializable, StepTimedOut, UserTraceback
from raflow.metrics import Status
from raflow.runtime.failure import explain
from raflow.runtime.steps.step import Part, Step, arguments
from raflow.runtime.steps.values import Earlier, Slot, pack, unpack


def same(*values: Any, **named: Any) -> Any:
    return values, named


def done(name: str, *values: Any, expands: bool = False) -> Step:
    step = Step(name, same, expands=expands)
    step.status = Status.SUCCEEDED
    step.values = tuple(pack(value, name) for value in values)
    return step


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_step_that_was_made_waits_and_is_called_like_its_function() -> None:
    step = Step("double", same)
    assert (step.id, step.status, step.attempts, step.order) == ("double", Status.PENDING, 0, -1)
    assert (step.error, step.values, step.parts, list(step.needs())) == (None, None, [], [])


def test_two_steps_with_the_same_fields_are_two() -> None:
    one, two = Step("double", same, (1,)), Step("double", same, (1,))
    assert one != two
    assert len({one, two}) == 2


def test_it_needs_the_steps_in_its_arguments_and_those_that_it_is_after() -> None:
    steps = [Step(name, same) for name in "abcdefg"]
    a, b, c, d, e, f, g = steps
    step = Step("s", same, (a, [b, ({"x": c},)]), {"k": {d: frozenset({e})}, "p": Part(f, 3)}, after=(g,))
    assert set(step.needs()) == set(steps)


def test_it_does_not_need_what_stands_in_other_containers() -> None:
    assert list(Step("s", same, (OrderedDict(a=1), [1, "text", None])).needs()) == []


def test_an_argument_that_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotSerializable, match="contains itself"):
        list(Step("s", same, (ring,)).needs())


def test_arguments_have_slots_in_the_place_of_steps() -> None:
    a, b = done("a", 1), done("b", [2])
    packed, values = arguments(Step("s", same, (a, {"k": [b, a]}), {"n": 5}))
    assert unpack(packed) == ((Slot(0), {"k": [Slot(1), Slot(2)]}), {"n": 5})
    assert [unpack(value) for value in values] == [1, [2], 1]  # type: ignore[arg-type]


def test_an_expanded_step_is_a_list_and_its_parts_are_its_items() -> None:
    items = done("items", "x", "y", "z", expands=True)
    assert [part.index for part in items.parts] == [0, 1, 2]
    packed, values = arguments(Step("s", same, (items.parts[2], items)))
    assert unpack(packed) == ((Slot(0), [Slot(1), Slot(2), Slot(3)]), {})
    assert [unpack(value) for value in values] == ["z", "x", "y", "z"]  # type: ignore[arg-type]


def test_an_expanded_step_without_items_is_an_empty_list() -> None:
    assert unpack(arguments(Step("s", same, (done("items", expands=True),)))[0]) == (([],), {})


def test_a_step_that_has_not_ended_is_one_of_the_same_call() -> None:
    assert arguments(Step("s", same, (Step("a", same),)))[1] == [Earlier("a")]


def test_an_argument_that_cannot_travel_names_the_step() -> None:
    with pytest.raises(NotSerializable, match=r"an argument of step s_3 cannot travel: .*generator"):
        arguments(Step("s", same, ((n for n in range(3)),), id="s_3"))


def test_a_step_in_a_container_that_is_not_gone_into_is_refused() -> None:
    with pytest.raises(NotSerializable, match="OrderedDict"):
        arguments(Step("s", same, (OrderedDict(a=Step("a", same)),)))


def test_the_error_is_the_last_one_with_the_users_traceback_as_its_cause() -> None:
    step = Step("s", same)
    step.failures = [explain(raised("first"), "s"), explain(raised("last"), "s")]
    step.status = Status.FAILED
    assert str(step.error) == "last"
    assert step.error is not None
    assert isinstance(step.error.__cause__, UserTraceback)
    assert "raise ValueError(text)" in str(step.error.__cause__)


def test_the_error_keeps_the_cause_that_it_has() -> None:
    step, cause = Step("s", same), KeyError("cause")
    error = raised("last")
    error.__cause__ = cause
    step.failures, step.status = [explain(error, "s")], Status.FAILED
    assert step.error is error
    assert step.error.__cause__ is cause


def test_errors_of_ours_need_no_traceback() -> None:
    step = Step("s", same)
    step.failures, step.status = [explain(StepTimedOut("too long"), "s")], Status.TIMED_OUT
    assert step.error is not None
    assert step.error.__cause__ is None


def test_a_step_that_succeeded_in_the_end_has_no_error() -> None:
    step = done("s", 1)
    step.failures = [explain(raised("first"), "s")]
    assert step.error is None
