"""Sessions in endpoints, collectors and consumers, on SQLite and PostgreSQL."""

import json
import logging
import pickle
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from raflow import Flow, Scope, dependency
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.dependencies import AsyncSessionDep, SessionDep
from raflow.errors import InvalidDependency, InvalidOption, MissingExtra, SinkError
from raflow.http import HTTPException
from raflow.sinks import Part
from tests.http.hosts import serving
from tests.runtime.serving.conftest import until


class Base(DeclarativeBase):
    pass


class Visit(Base):
    __tablename__ = "visits"
    name: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
def visits(database: str) -> Iterator[Any]:
    """Returns the names in the table, as another program sees them."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)

    def names() -> list[str]:
        with Session(engine) as session:
            return sorted(session.scalars(select(Visit.name)))

    yield names
    engine.dispose()


def asynchronous(url: str) -> str:
    return url.replace("sqlite:", "sqlite+aiosqlite:")


def guests(database: str, engines: list[Engine]) -> Flow:
    """A service that notes visits."""
    one, other = SessionDep(database), SessionDep(database)
    app = Flow("guests")
    service = app.service()

    @service.endpoint("/visits/{name}", "POST")
    def note(name: str, session: Annotated[Session, one], fails: bool = False) -> str:
        session.add(Visit(name=name))
        engines.append(session.get_bind())  # type: ignore[arg-type]
        if fails:
            session.flush()
            raise HTTPException(409, "not today")
        return name

    @service.endpoint("/pools")
    def pools(session: Annotated[Session, one], same: Annotated[Session, one], third: Annotated[Session, other]) -> Any:
        engines.append(third.get_bind())  # type: ignore[arg-type]
        return [session is same, session is third]

    return app


def test_a_request_is_committed_before_its_reply_or_rolled_back(database: str, visits: Any) -> None:
    engines: list[Engine] = []
    with serving(guests(database, engines)) as client:
        assert client.post("/visits/ada").json() == "ada"
        assert visits() == ["ada"]
        assert client.post("/visits/bob?fails=true").status_code == 409
        assert visits() == ["ada"]


def test_a_commit_that_fails_fails_the_request(database: str, visits: Any) -> None:
    with serving(guests(database, [])) as client:
        found = [client.post("/visits/ada") for _ in range(2)]
    assert [reply.status_code for reply in found] == [200, 500]
    assert found[1].json()["detail"] == "internal error"
    assert visits() == ["ada"]


def test_a_replica_has_one_engine_for_a_database_and_keeps_no_connection_busy(database: str, visits: Any) -> None:
    engines: list[Engine] = []
    with serving(guests(database, engines)) as client:
        client.post("/visits/ada")
        client.post("/visits/ada")
        client.post("/visits/bob?fails=true")
        assert client.get("/pools").json() == [True, False]
        assert {id(engine) for engine in engines} == {id(engines[0])}
        assert engines[0].pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_session_is_open_until_the_last_row_is_streamed(database: str, visits: Any) -> None:
    app, db = Flow("guests"), SessionDep(database)

    @app.service().endpoint("/visits")
    def names(session: Annotated[Session, db]) -> Iterator[str]:
        session.add(Visit(name="ada"))
        session.flush()
        yield from session.scalars(select(Visit.name))

    with serving(app) as client:
        assert client.get("/visits").text == '"ada"\n'
    assert visits() == ["ada"]


def test_what_a_function_does_after_its_time_is_up_is_not_committed(database: str, visits: Any) -> None:
    app, gate, engines = Flow("guests"), threading.Event(), list[Engine]()
    db, ended = SessionDep(database), threading.Event()

    @app.service(request_timeout_s=0.1).endpoint("/{name}", "POST")
    def note(name: str, session: Annotated[Session, db]) -> None:
        engines.append(session.get_bind())  # type: ignore[arg-type]
        session.add(Visit(name=name))
        session.flush()
        assert gate.wait(30)
        try:
            session.add(Visit(name=f"{name} again"))
            session.flush()  # fails, if it comes just when the session is closed
        finally:
            ended.set()

    with serving(app) as client:
        assert client.post("/ada").status_code == 504
        gate.set()
        assert ended.wait(30)
        until(lambda: not engines[0].pool.checkedout())  # type: ignore[attr-defined]
    assert visits() == []


def test_asynchronous_functions_get_asynchronous_sessions(database: str, visits: Any) -> None:
    app = Flow("guests")

    @app.service().endpoint("/visits/{name}", "POST")
    async def note(name: str, session: Annotated[AsyncSession, AsyncSessionDep(asynchronous(database))]) -> list[str]:
        session.add(Visit(name=name))
        await session.flush()
        return [*await session.scalars(select(Visit.name))]

    with serving(app) as client:
        assert client.post("/visits/ada").json() == ["ada"]
        assert client.post("/visits/ada").status_code == 500
        assert visits() == ["ada"]


def collecting(database: str, sink: MemorySink, **options: Any) -> Flow:
    db = SessionDep(database)
    app = Flow("guests")

    @app.collector("/visits", sink=sink, **options)
    def note(visit: dict[str, Any], session: Annotated[Session, db]) -> dict[str, Any]:
        session.add(Visit(name=visit["name"]))
        if visit.get("fails"):
            session.flush()
            raise HTTPException(409, "not today")
        return visit

    return app


def test_a_collector_does_all_of_a_request_or_nothing(database: str, visits: Any) -> None:
    sink = MemorySink()
    with serving(collecting(database, sink)) as client:
        assert client.post("/visits", json={"name": "ada"}).status_code == 200
        assert client.post("/visits", json={"name": "bob", "fails": True}).status_code == 409
        reply = client.post("/visits", json=[{"name": "cy"}, {"name": "di", "fails": True}])
        assert (reply.status_code, reply.json()["records"]) == (422, 0)
        assert "nothing of this request is written" in reply.json()["detail"]
        assert reply.json()["errors"] == [{"index": 1, "status": 409, "message": "not today"}]
        assert client.post("/visits", json=[{"name": "ed"}, {"name": "flo"}]).json()["records"] == 2
    assert visits() == ["ada", "ed", "flo"]
    assert [row["name"] for row in sink.records()] == ["ada", "ed", "flo"]


def test_dead_letters_are_kept_of_what_is_rolled_back(database: str, visits: Any) -> None:
    sink, letters = MemorySink(), MemorySink()
    with serving(collecting(database, sink, on_error=letters)) as client:
        reply = client.post("/visits", json=[{"name": "ada"}, {"name": "bob", "fails": True}])
        assert (reply.status_code, reply.json()["records"]) == (422, 0)
        assert reply.json()["errors"] == [{"index": 1, "status": 409, "message": "not today", "kept": True}]
    assert (visits(), sink.table().num_rows) == ([], 0)
    assert [row["record"] for row in letters.records()] == ['{"name": "bob", "fails": true}']


def test_a_result_that_does_not_fit_rolls_all_of_its_request_back(database: str, visits: Any) -> None:
    sink, letters = MemorySink(), MemorySink()
    with serving(collecting(database, sink, on_error=letters)) as client:
        assert client.post("/visits", json={"name": "ada", "seat": 1}).status_code == 200
        reply = client.post("/visits", json=[{"name": "bob", "seat": 2}, {"name": "cy", "seat": "any"}])
        assert (reply.status_code, reply.json()["records"]) == (422, 0)
        assert reply.json()["detail"] == "a result does not fit, so nothing of this request is written"
        assert [error["index"] for error in reply.json()["errors"]] == [1]
        assert visits() == ["ada"]
        assert client.post("/visits", json={"name": "di", "seat": "any"}).status_code == 422
        assert client.post("/visits", json=[{"name": "bob", "seat": 2}, {"name": "cy", "seat": 3}]).status_code == 200
    assert visits() == ["ada", "bob", "cy"]
    assert [row["name"] for row in sink.records()] == ["ada", "bob", "cy"]
    assert [json.loads(row["record"])["name"] for row in letters.records()] == ["cy", "di"]


def test_so_does_one_of_a_batch(database: str, visits: Any) -> None:
    sink, db, app = MemorySink(), SessionDep(database), Flow("guests")

    @app.collector("/visits", sink=sink)
    def note(batch: list[dict[str, Any]], session: Annotated[Session, db]) -> list[dict[str, Any]]:
        session.add_all([Visit(name=visit["name"]) for visit in batch])
        return batch

    with serving(app) as client:
        assert client.post("/visits", json=[{"name": "ada", "seat": 1}]).status_code == 200
        reply = client.post("/visits", json=[{"name": "bob", "seat": 2}, {"name": "cy", "seat": "any"}])
        assert (reply.status_code, reply.json()["records"]) == (422, 0)
    assert (visits(), [row["name"] for row in sink.records()]) == (["ada"], ["ada"])


def test_a_reply_is_kept_for_its_key_only_after_the_commit(database: str, visits: Any) -> None:
    with serving(collecting(database, MemorySink())) as client:
        assert client.post("/visits", json={"name": "ada"}).status_code == 200
        key = {"Idempotency-Key": "1"}
        assert client.post("/visits", json={"name": "ada"}, headers=key).status_code == 500
        assert client.post("/visits", json={"name": "ada"}, headers=key).status_code == 500
        again = [client.post("/visits", json={"name": "bob"}, headers={"Idempotency-Key": "2"}) for _ in range(2)]
        assert [reply.status_code for reply in again] == [200, 200]
        assert again[1].headers["idempotent-replayed"] == "true"
    assert visits() == ["ada", "bob"]


def test_what_the_database_refuses_keeps_rows_out_of_the_sink(database: str, visits: Any) -> None:
    sink = MemorySink()
    with serving(collecting(database, sink)) as client:
        assert client.post("/visits", json={"name": "ada"}).status_code == 200
        assert client.post("/visits", json=[{"name": "bob"}, {"name": "ada"}]).status_code == 500
    assert (visits(), [row["name"] for row in sink.records()]) == (["ada"], ["ada"])


def test_so_do_asynchronous_sessions_in_dependencies(database: str, visits: Any) -> None:
    sink, db = MemorySink(), AsyncSessionDep(asynchronous(database))

    @dependency(scope=Scope.PROCESS)
    class Guests:
        def __init__(self, session: Annotated[AsyncSession, db]) -> None:
            self.session = session

    app = Flow("guests")

    @app.collector("/visits", sink=sink)
    async def note(visit: dict[str, Any], guests: Guests) -> dict[str, Any]:
        guests.session.add(Visit(name=visit["name"]))
        return visit

    with serving(app) as client:
        assert [client.post("/visits", json={"name": "ada"}).status_code for _ in range(2)] == [200, 500]
    assert (visits(), [row["name"] for row in sink.records()]) == (["ada"], ["ada"])


class FullSink(MemorySink):
    def commit(self, parts: Sequence[Part]) -> None:
        raise SinkError("the disk is full")


def test_a_sink_that_fails_rolls_the_session_back(database: str, visits: Any) -> None:
    with serving(collecting(database, FullSink())) as client:
        assert client.post("/visits", json={"name": "ada"}).status_code == 503
    assert visits() == []


def test_a_commit_that_fails_by_itself_is_no_success_and_the_next_try_writes_again(postgres: str) -> None:
    engine, sink, app = create_engine(postgres), MemorySink(), Flow("guests")
    later = "REFERENCES visits(name) DEFERRABLE INITIALLY DEFERRED"
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE visits (name text PRIMARY KEY)"))
        connection.execute(text(f"CREATE TABLE seats (name text {later})"))
    db = SessionDep(postgres)

    @app.collector("/seats", sink=sink)
    def seat(seat: dict[str, Any], session: Annotated[Session, db]) -> dict[str, Any]:
        session.execute(text("INSERT INTO seats VALUES (:name)"), seat)
        return seat

    with serving(app) as client:
        key = {"Idempotency-Key": "1"}
        failed = client.post("/seats", json={"name": "ada"}, headers=key)
        assert (failed.status_code, failed.json()["detail"]) == (500, "internal error")
        assert [row["name"] for row in sink.records()] == ["ada"]
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO visits VALUES ('ada')"))
        assert client.post("/seats", json={"name": "ada"}, headers=key).status_code == 200
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT name FROM seats")).all() == ["ada"]
    assert [row["name"] for row in sink.records()] == ["ada", "ada"]
    engine.dispose()


NAMES = [{"name": name} for name in ("ada", "bob", "cy")]


def test_consumers_get_one_for_each_call(database: str, visits: Any, engine: str) -> None:
    app = Flow("visits")
    db = SessionDep(database, pool_size=1)

    @app.consumer(source=MemorySource(NUMBERED), on_error="skip", num_replicas=1)
    def note(visit: dict[str, Any], session: Annotated[Session, db]) -> None:
        session.add(Visit(name=visit["name"]))
        if visit["name"] == "bob":
            session.flush()
            raise ValueError(visit)

    app.run(engine=engine)
    assert visits() == ["ada", "cy"]


NUMBERED = [{"n": n, **one} for n, one in enumerate(NAMES)]


def test_batch_functions_get_one_for_each_batch_and_asynchronous_ones_theirs(database: str, visits: Any) -> None:
    app = Flow("visits")
    db, async_db = SessionDep(database), AsyncSessionDep(asynchronous(database))
    sessions = []

    @app.consumer(source=MemorySource(NAMES), num_replicas=1)
    def whole(batch: list[dict[str, Any]], session: Annotated[Session, db]) -> None:
        sessions.append(session)
        session.add_all([Visit(name=one["name"]) for one in batch])

    @app.consumer(source=MemorySource([{"name": "di"}, {"name": "ed"}]), num_replicas=1)
    async def each(visit: dict[str, Any], session: Annotated[AsyncSession, async_db]) -> None:
        session.add(Visit(name=visit["name"]))

    app.run(engine="local")
    assert visits() == ["ada", "bob", "cy", "di", "ed"]
    assert len(sessions) == 1


def test_synchronous_consumers_are_told_that_they_cannot_await_a_session(tmp_path: Any) -> None:
    app = Flow("visits")
    db = AsyncSessionDep(f"sqlite+aiosqlite:///{tmp_path}/a.db")

    @app.consumer(source=MemorySource(NAMES))
    def note(visit: dict[str, Any], session: Annotated[AsyncSession, db]) -> None: ...

    with pytest.raises(InvalidDependency, match="make it an async function"):
        app.plan()


def test_other_dependencies_may_hold_a_session(database: str, visits: Any) -> None:
    db = SessionDep(database)

    @dependency(scope=Scope.PROCESS)
    class Guests:
        def __init__(self, session: Annotated[Session, db]) -> None:
            self.session = session

        def note(self, name: str) -> None:
            self.session.add(Visit(name=name))

    app = Flow("guests")

    @app.service().endpoint("/{name}", "POST")
    def note(name: str, guests: Guests) -> None:
        guests.note(name)

    with serving(app) as client:
        assert client.post("/ada").status_code == 200
    assert visits() == ["ada"]


URL = "postgresql://ada:hush@127.0.0.1:1/shop?sslkey=hush2"


def test_no_secret_shows(caplog: pytest.LogCaptureFixture) -> None:
    db = SessionDep(URL)
    assert repr(db) == "SessionDep('postgresql+psycopg://***@127.0.0.1:1/shop?sslkey=***')"
    copy = pickle.loads(pickle.dumps(db))
    assert copy.database.url.password == "hush"
    app = Flow("guests")

    @app.service().endpoint("/")
    def root(session: Annotated[Session, db]) -> None:
        session.scalar(select(1))

    with serving(app) as client, caplog.at_level(logging.DEBUG):
        reply = client.get("/")
    assert reply.status_code == 500
    assert "connection failed" in caplog.text
    assert "hush" not in caplog.text + reply.text


def test_user_and_password_may_come_apart() -> None:
    url = SessionDep("postgresql://host/shop", user="ada", password=SecretStr("hu:sh@")).database.url
    assert (url.username, url.password, url.host) == ("ada", "hu:sh@", "host")


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("no url, secret=hush", {}, "cannot be read; it is such as postgresql://"),
        ("nosuch://ada:hush@host/shop", {}, "knows no database 'nosuch'"),
        ("sqlite://", {}, "an empty database of its own"),
        ("sqlite:////tmp/a.db", {"pool_sise": 3}, "pool_sise"),
    ],
)
def test_what_cannot_be_a_database_is_told_at_once(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said) as raised:
        SessionDep(url, **options)
    assert "hush" not in str(raised.value)


def test_a_driver_of_the_wrong_kind_or_none_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidOption, match="requires an async driver"):
        AsyncSessionDep("sqlite:////tmp/a.db")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match="pip install psycopg"):
        SessionDep("postgresql://host/shop")
