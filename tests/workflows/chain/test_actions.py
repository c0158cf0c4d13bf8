"""`@action`: what is decorated, what it is given, how it travels."""

from __future__ import annotations

import asyncio
import functools
import pickle
import sys
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from raflow.errors import InvalidOption, NotCallableObject
from raflow.runtime.steps.values import by_value
from raflow.workflows.chain import Action, Context, action
from raflow.workflows.chain.actions import as_action


@action
def plain() -> str:
    """Say so."""
    return "plain"


@action(retry=3, timeout=10, retry_delay=2, backoff=True)
def double(previous_context: Any) -> Any:
    return previous_context.storage * 2


class Steps:
    @action
    def method(self) -> str:
        return "method"


def given(step: Any) -> Any:
    return step.given(Context("initial"), Context("previous"))


def test_a_decorated_function_can_be_called_as_before_and_keeps_its_name_and_text() -> None:
    assert plain() == "plain"
    assert double(Context(storage=4)) == 8
    assert (plain.__name__, plain.__doc__) == ("plain", "Say so.")


def test_options_are_those_of_steps() -> None:
    assert (double.options.retry, double.options.timeout, double.delays) == (3, 10, [0, 2, 4])
    assert plain.delays == [0]


def test_an_unknown_option_and_an_impossible_value_are_errors_at_once() -> None:
    with pytest.raises(InvalidOption, match="retries"):
        action(retries=3)
    with pytest.raises(InvalidOption, match="timeout"):
        action(timeout=-1)


def test_what_cannot_be_called_cannot_be_an_action() -> None:
    with pytest.raises(NotCallableObject, match="3, which cannot be called"):
        action(3)  # type: ignore[call-overload]


def test_contexts_are_given_by_name_only_where_there_is_such_a_parameter() -> None:
    assert given(action(lambda: ())) == ()
    assert given(action(lambda previous_context: previous_context.storage)) == "previous"
    both = action(lambda previous_context, initial_context: (previous_context.storage, initial_context.storage))
    assert given(both) == ("previous", "initial")
    assert given(action(lambda **others: others)) == {}
    assert given(action(lambda first=1, *rest: (first, rest))) == (1, ())


def test_positional_and_keyword_only_parameters_get_their_contexts() -> None:
    def by_position(previous_context: Any, initial_context: Any, /) -> Any:
        return previous_context.storage, initial_context.storage

    def by_name(*, initial_context: Any) -> Any:
        return initial_context.storage

    assert given(action(by_position)) == ("previous", "initial")
    assert given(action(by_name)) == "initial"


def test_wrappers_made_with_functools_wraps_are_seen_through() -> None:
    def takes_all(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return ["wrapped", function(*args, **kwargs)]

        return wrapper

    def takes_positions(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return ["positions", function(*args)]

        return wrapper

    def gives_it_itself(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper() -> Any:
            return function(Context("its own"))

        return wrapper

    def inner(previous_context: Any) -> Any:
        return previous_context.storage

    assert given(action(takes_all(inner))) == ["wrapped", "previous"]
    assert given(action(takes_positions(inner))) == ["positions", "previous"]
    assert given(action(gives_it_itself(inner))) == "its own"


def test_partial_functions_and_objects_with_call_are_actions_too() -> None:
    class Adder:
        def __call__(self, initial_context: Any) -> str:
            return initial_context.storage + "!"

    def add(number: int, previous_context: Any) -> Any:
        return number, previous_context.storage

    assert given(action(functools.partial(add, 3))) == (3, "previous")
    assert action(functools.partial(add, 3)).name == "add"
    assert given(action(Adder())) == "initial!"


def test_an_async_function_called_directly_is_a_coroutine() -> None:
    @action
    async def later() -> int:
        return 5

    assert asyncio.run(later()) == 5


def test_methods_bind_with_and_without_self_and_as_static_and_class_methods() -> None:
    class Kinds:
        @action
        def bound(self, previous_context: Any) -> Any:
            return type(self).__name__, previous_context.storage

        @action
        def free(previous_context: Any) -> Any:
            return previous_context.storage

        @action
        def bare() -> str:
            return "bare"

        @action
        @staticmethod
        def static(initial_context: Any) -> Any:
            return initial_context.storage

        @classmethod
        @action
        def of_class(cls) -> str:
            return cls.__name__

    one: Any = Kinds()
    assert given(one.bound) == ("Kinds", "previous")
    assert given(one.free) == "previous"
    assert given(one.bare) == one.bare() == "bare"
    assert given(one.static) == "initial"
    assert one.of_class() == "Kinds"
    assert isinstance(Kinds.bound, Action)


def test_a_decorated_class_stays_a_class() -> None:
    @action(retry=2)
    class Step:
        pass

    class Child(Step):
        pass

    assert isinstance(Step(), Step)
    assert isinstance(Child(), Step)
    found = as_action(Step)
    assert found is not None
    assert (found.name, found.options.retry) == ("Step", 2)


def test_actions_travel_by_import_path_and_closures_by_value() -> None:
    number = 7

    @action(retry=4)
    def local() -> int:
        return number

    again = pickle.loads(cloudpickle.dumps(local))
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert pickle.loads(pickle.dumps(Steps.method)) is Steps.method
    assert pickle.loads(pickle.dumps(Steps().method))() == "method"
    assert (again(), again.options.retry) == (7, 4)


def test_actions_of_a_module_that_workers_cannot_import_travel_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from raflow.workflows.chain import action

@action(retry=4)
def add(*numbers):
    return add(sum(numbers)) if numbers[1:] else numbers[0]

class Steps:
    @action
    def method(self):
        return add(3, 4)
"""
    module = ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    exec(source, vars(module))
    with by_value(module):
        data = cloudpickle.dumps((module.add, module.Steps))
    monkeypatch.delitem(sys.modules, "only_here")
    add, steps = pickle.loads(data)
    assert (add(3, 4), add.options.retry, steps().method()) == (7, 4, 7)
