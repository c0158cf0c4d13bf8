from __future__ import annotations

from typing import Annotated

import pytest

from raflow import Flow, Scope, dependency
from raflow.connectors.memory import MemorySource
from raflow.dependencies.needs import check, needs
from raflow.errors import InvalidDependency, InvalidDependencyHierarchyOrder, InvalidOption
from raflow.http import Request


@dependency(scope=Scope.PROCESS)
class Visit:
    def __init__(self, request: Request) -> None:
        self.path = request.url.path


@dependency(scope="replica")
class Pool:
    pass


@dependency(scope=Scope.NO_SCOPE)
def session(pool: Pool) -> object:
    return object()


@dependency(scope=Scope.NO_SCOPE)
def stamp(visit: Visit) -> str:
    return visit.path


@dependency(scope=Scope.PROCESS)
class Chicken:
    def __init__(self, egg: Egg) -> None: ...


@dependency(scope=Scope.PROCESS)
class Egg:
    def __init__(self, chicken: Annotated[object, nest]) -> None: ...  # noqa: F821


class Silent(Pool):
    pass


def use(visit: Visit, label: str, session: Annotated[object, session], plain: Silent) -> None: ...


def test_a_function_needs_what_its_annotations_name_and_nothing_else() -> None:
    assert needs(use) == {"visit": Visit, "session": session}


def test_one_that_holds_what_lives_shorter_is_refused_and_both_are_named() -> None:
    with pytest.raises(InvalidDependencyHierarchyOrder, match="Cache has the scope REPLICA and depends on Visit"):

        @dependency(scope=Scope.REPLICA)
        class Cache:
            def __init__(self, visit: Visit) -> None: ...


def test_the_request_lives_shorter_than_a_replica() -> None:
    with pytest.raises(InvalidDependencyHierarchyOrder, match="Early has the scope GLOBAL and depends on Request"):

        @dependency(scope=Scope.GLOBAL)
        class Early:
            def __init__(self, request: Request) -> None: ...


def test_one_without_a_scope_lives_as_long_as_its_parts_allow() -> None:
    @dependency(scope=Scope.REPLICA)
    def fine(session: Annotated[object, session]) -> None: ...

    with pytest.raises(InvalidDependencyHierarchyOrder, match="late .* depends on stamp"):

        @dependency(scope=Scope.REPLICA)
        def late(stamp: Annotated[str, stamp]) -> None: ...


def test_what_nothing_can_give_is_refused() -> None:
    with pytest.raises(InvalidDependency, match="nothing gives its parameter 'url'"):

        @dependency(scope=Scope.REPLICA)
        class Client:
            def __init__(self, url: str) -> None: ...


def test_a_name_that_does_not_exist_is_told_when_it_is_needed() -> None:
    with pytest.raises(InvalidDependency, match="Chicken: its annotations use 'nest'"):
        check(Chicken)


def test_a_circle_names_its_chain() -> None:
    @dependency(scope=Scope.PROCESS)
    class Bird:
        def __init__(self, nest: object) -> None: ...

    @dependency(scope=Scope.PROCESS)
    class Nest:
        def __init__(self, bird: object) -> None: ...

    # As names of the module that come later would be read.
    Bird.__init__.__annotations__["nest"] = Nest
    Nest.__init__.__annotations__["bird"] = Bird
    with pytest.raises(InvalidDependency, match="Bird → Nest → Bird"):
        check(Bird)

    def watch(record: dict, bird: object) -> None: ...  # type: ignore[type-arg]

    watch.__annotations__["bird"] = Bird
    app = Flow()
    app.consumer(source=MemorySource([{"n": 1}]))(watch)
    with pytest.raises(InvalidDependency, match="Bird → Nest → Bird"):
        app.plan()
    app = Flow()
    app.service().endpoint("/")(watch)
    with pytest.raises(InvalidDependency, match="Bird → Nest → Bird"):
        app.asgi()


def test_an_unknown_scope_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidOption, match="PROCESS, REPLICA, GLOBAL, NO_SCOPE"):
        dependency(scope="session")
