"""Dependencies of consumers, in runs on the local engine."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import cloudpickle
import pytest

from raflow import Flow, FlowCredentials, FlowOptions, Scope, dependency
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import InvalidDependency
from raflow.http import Request

events: list[str] = []
NUMBERS = [{"n": 1}, {"n": 2}]


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


@dependency(scope=Scope.REPLICA)
def table() -> Iterator[dict[int, str]]:
    events.append("open")
    yield {1: "one", 2: "two"}
    events.append("close")


@dependency(scope=Scope.PROCESS)
def call(table: Annotated[dict[int, str], table]) -> Iterator[list[str]]:
    events.append("begin")
    try:
        yield []
    finally:
        events.append("end")


@dependency(scope=Scope.PROCESS)
async def answer() -> AsyncIterator[int]:
    yield 42


@dependency(scope=Scope.GLOBAL)
class Everywhere:
    pass


@dependency(scope=Scope.PROCESS)
class Visit:
    def __init__(self, request: Request) -> None: ...


Table = Annotated[dict[int, str], table]
Answer = Annotated[int, answer]


def results(code: Any, **options: Any) -> list[dict[str, Any]]:
    app, sink = Flow(flow_options=FlowOptions(num_replicas=1, **options)), MemorySink()
    app.consumer(source=MemorySource(NUMBERS), sink=sink)(code)
    app.run(engine="local")
    return sink.records()


def test_a_replica_makes_one_for_all_its_records_and_tears_it_down() -> None:
    def named(record: dict[str, Any], table: Table) -> dict[str, Any]:
        return {"name": table[record["n"]]}

    assert results(named) == [{"name": "one"}, {"name": "two"}]
    assert events == ["open", "close"]


def test_what_belongs_to_a_call_is_shared_within_it_and_ends_with_it() -> None:
    def same(one: Annotated[list[str], call], record: dict[str, Any], two: Annotated[list[str], call]) -> Any:
        yield {"n": record["n"], "same": one is two}

    assert results(same) == [{"n": 1, "same": True}, {"n": 2, "same": True}]
    assert events == ["open", "begin", "end", "begin", "end", "close"]


def test_asynchronous_functions_get_what_is_awaited() -> None:
    async def add(record: dict[str, Any], answer: Answer) -> dict[str, Any]:
        return {"n": record["n"] + answer}

    assert results(add) == [{"n": 43}, {"n": 44}]


def test_classes_keep_their_setup_and_teardown_within_that_of_their_dependencies() -> None:
    class Named:
        def setup(self) -> None:
            events.append("setup")

        def process(self, record: dict[str, Any], table: Table) -> dict[str, Any]:
            return {"name": table[record["n"]]}

        def teardown(self) -> None:
            events.append("teardown")

    assert results(Named) == [{"name": "one"}, {"name": "two"}]
    assert events == ["open", "setup", "teardown", "close"]


def test_a_record_that_fails_ends_its_call_and_not_the_replica() -> None:
    def odd(record: dict[str, Any], trace: Annotated[list[str], call]) -> dict[str, Any]:
        if record["n"] == 1:
            raise ValueError("one")
        return record

    assert results(odd, on_error="skip") == [{"n": 2}]
    assert events == ["open", "begin", "end", "begin", "end", "close"]


def test_the_keys_of_the_flow_are_there_and_do_not_show() -> None:
    def keys(record: dict[str, Any], credentials: FlowCredentials) -> dict[str, Any]:
        aws = credentials.aws_credentials
        assert aws.secret_access_key is not None
        return {"secret": aws.secret_access_key.get_secret_value(), "shown": repr(credentials)}

    found = results(keys, aws_access_key_id="id-1", aws_secret_access_key="hush")
    assert found[0]["secret"] == "hush"
    assert "hush" not in found[0]["shown"]
    assert "id-1" not in found[0]["shown"]


def test_what_it_is_made_of_travels() -> None:
    app = Flow()

    @app.consumer(source=MemorySource(NUMBERS))
    def named(record: dict[str, Any], table: Table) -> dict[str, Any]:
        return {"name": table[record["n"]]}

    (stage,) = app.plan().stages
    (work,) = [op.work for op in stage.ops if op.name == "named"]
    assert pickle.loads(cloudpickle.dumps(work)).function.__name__ == "named"


def test_what_only_http_has_is_refused_before_the_run() -> None:
    def everywhere(record: dict[str, Any], one: Everywhere) -> None: ...

    def visited(record: dict[str, Any], visit: Visit) -> None: ...

    def hurried(record: dict[str, Any], answer: Answer) -> None: ...

    for code, why in [(everywhere, "only HTTP"), (visited, "of a request"), (hurried, "make it an async function")]:
        with pytest.raises(InvalidDependency, match=rf"consumer '{code.__name__}'.*{why}"):
            results(code)
