"""Dependencies of consumers, in runs on the local engine."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import cloudpickle
import httpx
import pytest

from raflow import Flow, FlowCredentials, FlowOptions, Scope, dependency
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import InvalidDependency, RunFailed
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


@dependency(scope=Scope.REPLICA)
class Model:
    async def __init__(self, table: Annotated[dict[int, str], table]) -> None:  # type: ignore[misc]
        await asyncio.sleep(0)
        self.table = table


@dependency(scope=Scope.PROCESS)
class Guess:
    async def __init__(self, model: Model) -> None:  # type: ignore[misc]
        self.name = model.table[1]


@dependency(scope=Scope.GLOBAL)
async def licence() -> AsyncIterator[dict[str, int]]:
    events.append("taken")
    yield {"made in": os.getpid(), "number": len(events)}
    events.append("returned")


@dependency(scope=Scope.REPLICA)
class Office:
    def __init__(self, licence: Licence) -> None:
        self.licence = licence


@dependency(scope=Scope.GLOBAL)
def unwilling() -> Iterator[None]:
    yield
    msg = "the licence server is gone"
    raise ConnectionError(msg)


@dependency(scope=Scope.PROCESS)
class Visit:
    def __init__(self, request: Request) -> None: ...


Licence = Annotated[dict[str, int], licence]
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


def test_what_makes_an_instance_may_be_awaited() -> None:
    def named(record: dict[str, Any], model: Model) -> dict[str, Any]:
        return {"name": model.table[record["n"]]}

    async def guessed(record: dict[str, Any], guess: Guess) -> dict[str, Any]:
        return {"name": guess.name}

    def waits(record: dict[str, Any], guess: Guess) -> None: ...

    assert results(named) == [{"name": "one"}, {"name": "two"}]
    assert results(guessed) == [{"name": "one"}, {"name": "one"}]
    with pytest.raises(InvalidDependency, match="Guess, which is awaited for each call"):
        results(waits)


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
    def visited(record: dict[str, Any], visit: Visit) -> None: ...

    def hurried(record: dict[str, Any], answer: Answer) -> None: ...

    for code, why in [(visited, "of a request"), (hurried, "make it an async function")]:
        with pytest.raises(InvalidDependency, match=rf"consumer '{code.__name__}'.*{why}"):
            results(code)


def test_the_driver_makes_what_is_global_once_and_tears_it_down_at_the_end(engine: str) -> None:
    app, sink = Flow("licensed"), MemorySink()

    @app.consumer(source=MemorySource(NUMBERS), num_replicas=2)
    def first(record: dict[str, Any], licence: Licence) -> dict[str, Any]:
        return {"n": record["n"], **licence}

    @app.consumer(source=first, sink=sink, num_replicas=1)
    def second(record: dict[str, Any], office: Office) -> dict[str, Any]:
        return {**record, "same": {"n": record["n"], **office.licence} == record}

    app.run(engine=engine)
    found = [{"made in": os.getpid(), "number": 1, "same": True, "n": n} for n in (1, 2)]
    assert sorted(sink.records(), key=lambda row: row["n"]) == found
    assert events == ["taken", "returned"]


def test_one_run_has_one_of_what_is_global_for_data_and_http() -> None:
    app, sink = Flow("both"), MemorySink()

    @app.consumer(source=MemorySource(NUMBERS), sink=sink)
    def note(record: dict[str, Any], licence: Licence) -> dict[str, Any]:
        return licence

    @app.service().endpoint("/")
    def root(licence: Licence) -> dict[str, Any]:
        return licence

    run = app.start(engine="local", port=0)
    assert httpx.get(str(run.url)).json() == {"made in": os.getpid(), "number": 1}
    run.drain()
    run.wait()
    assert {row["number"] for row in sink.records()} == {1}
    assert events == ["taken", "returned"]


def test_a_teardown_of_what_is_global_that_fails_fails_the_run() -> None:
    def held(record: dict[str, Any], one: Annotated[None, unwilling]) -> None: ...

    with pytest.raises(RunFailed, match="licence server"):
        results(held)


class Naming:
    async def __call__(self, record: dict[str, Any], table: Table) -> dict[str, Any]:
        return {"name": table[record["n"]]}


def test_an_instance_that_can_be_called_gets_its_dependencies() -> None:
    assert results(Naming()) == [{"name": "one"}, {"name": "two"}]
