# mypy: disable-error-code="misc,attr-defined,no-redef"
from __future__ import annotations

import pytest

from raflow.errors import DuplicateName, InvalidOption, InvalidStep
from raflow.workflows.spec import FlowSpec, app, foreach, join, needs, optional, repeat, step


def test_a_decorated_function_stays_the_function_that_it_is() -> None:
    def double(number: int) -> int:
        return number * 2

    assert step(double) is double
    assert double(4) == 8


def test_decorators_write_down_what_they_say_in_any_order() -> None:
    def first() -> None: ...

    @join()
    @step(retry=3, timeout=10, num_cpus=2)
    @foreach
    @repeat(2)
    @needs(predecessors=[first])
    @optional(condition=lambda step: True)
    def both() -> None: ...

    said = both.step
    assert said.get_id() == "both"
    assert (said.is_needs(), said.is_foreach(), said.is_join(), said.is_repeat(), said.is_app()) == (True,) * 4 + (
        False,
    )
    assert said.get_repetitions() == 2
    assert (said.options.retry, said.options.timeout, said.options.num_cpus) == (3, 10, 2)


@pytest.mark.parametrize("decorator", [foreach, join])
def test_foreach_and_join_work_with_and_without_parentheses(decorator: object) -> None:
    def bare() -> None: ...
    def called() -> None: ...

    decorator(bare)  # type: ignore[operator]
    decorator()(called)  # type: ignore[operator]
    for function in (bare, called):
        said = function.step
        assert said.is_foreach() or said.is_join()


def test_step_works_with_empty_parentheses() -> None:
    @step()
    def plain() -> None: ...

    assert plain.step.declared


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(InvalidOption, match="retries"):
        step(retries=3)


@pytest.mark.parametrize("number", [-1, 1.5, True, None])
def test_repeat_wants_a_whole_number_from_0_on(number: object) -> None:
    with pytest.raises(InvalidOption, match="@repeat"):
        repeat(number)  # type: ignore[arg-type]


def test_a_bare_repeat_or_needs_is_told_what_is_missing() -> None:
    with pytest.raises(InvalidOption, match=r"@repeat\(3\)"):

        @repeat  # type: ignore[arg-type]
        def again() -> None: ...

    with pytest.raises(InvalidStep, match="predecessors="):

        @needs  # type: ignore[arg-type]
        def after() -> None: ...


def test_a_condition_must_be_a_function() -> None:
    with pytest.raises(InvalidOption, match="@optional"):
        optional(condition=True)  # type: ignore[arg-type]


def test_a_class_cannot_be_a_step() -> None:
    with pytest.raises(InvalidStep, match="cannot be a step"):
        step(int)


def test_two_steps_of_one_name_in_a_class_are_refused() -> None:
    with pytest.raises(DuplicateName, match=r"Twice has two steps of the name 'read'"):

        class Twice(FlowSpec):
            @step
            def read(data: int) -> int:
                return data

            @step(retry=2)
            def read(data: int) -> int:  # noqa: F811
                return data


def test_an_app_takes_options_or_parameters_but_not_both() -> None:
    with pytest.raises(InvalidOption, match="parameters and options"):
        app("solve.py:run", parameters={"a": 1}, options={"a": 2})

    @app("solve.py:run", parameters={"a": 1})
    @step
    def solve() -> None: ...

    assert solve.step.app.options == {"a": 1}
    assert solve.step.get_app_id() == "solve.py:run"
