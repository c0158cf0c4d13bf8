"""Stores: what several replicas agree on, each with a copy of its own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from raflow.errors import InvalidOption, StoreError
from raflow.stores import Allowances, Claim, KeptReply, OwnAllowances, ReplyStore, SqlAllowances, SqlReplies
from raflow.stores import allowances as module

DONE = KeptReply(200, {"content-type": "application/json"}, b'{"success":true}')
Copies = Callable[[Any], Any]


class Clock:
    """A clock that a test moves; all copies of a store have the same one."""

    now = 1_000_000_000.0

    def __call__(self) -> float:
        return Clock.now


@pytest.fixture
def copies() -> Iterator[Copies]:
    """Returns a store as another replica has it; all are closed at the end."""
    Clock.now = 1_000_000_000.0
    made: list[Any] = []

    def copy(store: Any) -> Any:
        made.append(pickle.loads(pickle.dumps(store)))
        return made[-1]

    yield copy
    for one in made:
        one.close()


def test_one_of_several_replicas_is_granted_a_key(database: str, copies: Copies) -> None:
    stores = [copies(SqlReplies(database)) for _ in range(8)]

    def claim(number: int) -> bool:
        store: ReplyStore = stores[number]
        return store.claim("k", b"d", f"owner {number}", 60).is_granted

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(claim, range(8))) == [False] * 7 + [True]


def test_the_others_get_the_reply_that_was_kept(database: str, copies: Copies) -> None:
    one, other = copies(SqlReplies(database)), copies(SqlReplies(database))
    assert one.claim("k", b"d", "one", 60) == Claim(True, b"d")
    assert other.claim("k", b"else", "other", 60) == Claim(False, b"d")
    other.keep("k", "other", KeptReply(500, {}, b"not theirs"))
    one.keep("k", "one", DONE)
    one.release("k", "one")
    assert other.claim("k", b"d", "other", 60) == Claim(False, b"d", DONE)
    assert copies(SqlReplies(database, name="another")).claim("k", b"d", "third", 60).is_granted


def test_what_was_released_or_whose_owner_died_is_granted_again(database: str, copies: Copies) -> None:
    one, other = (copies(SqlReplies(database, keep_s=100, now=Clock())) for _ in range(2))
    one.claim("k", b"d", "one", 10)
    one.release("k", "one")
    assert other.claim("k", b"d", "other", 10).is_granted
    Clock.now += 11
    assert one.claim("k", b"d", "one again", 10).is_granted
    other.keep("k", "other", KeptReply(500, {}, b"too late"))
    one.keep("k", "one again", DONE)
    Clock.now += 99
    assert other.claim("k", b"d", "other", 10).reply == DONE
    Clock.now += 2
    assert other.claim("k", b"new", "other", 10).is_granted


def test_a_claim_lasts_for_as_long_as_its_owner_renews_it(database: str, copies: Copies) -> None:
    one, other = (copies(SqlReplies(database, keep_s=100, now=Clock())) for _ in range(2))
    one.claim("k", b"d", "one", 10)
    for _ in range(3):
        Clock.now += 9
        one.renew("k", "one", 10)
        other.renew("k", "other", 1000)
    assert not other.claim("k", b"d", "other", 10).is_granted
    Clock.now += 11
    assert other.claim("k", b"d", "other", 10).is_granted
    one.renew("k", "one", 1000)
    other.keep("k", "other", DONE)
    other.renew("k", "other", 10)
    Clock.now += 99
    assert one.claim("k", b"d", "one again", 10).reply == DONE


@pytest.fixture(params=["own", "sqlite", "postgres"])
def allowances(request: pytest.FixtureRequest, copies: Copies) -> Iterator[list[Allowances]]:
    """The allowances of two replicas, which for those of one replica are the same."""
    if request.param == "own":
        yield [OwnAllowances(Clock())] * 2
        return
    sqlite = f"sqlite:///{request.getfixturevalue('tmp_path')}/test.db"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres")
    yield [copies(SqlAllowances(url, now=Clock())) for _ in range(2)]


def test_an_allowance_comes_back_evenly(allowances: list[Allowances]) -> None:
    one, other = allowances
    assert [one.take("a", 5, 10), other.take("a", 5, 10)] == [0, 0]
    assert one.take("a", 5, 10) == pytest.approx(5)
    assert other.take("a", 5, 10) == pytest.approx(5)
    assert other.take("b", 5, 10) == 0
    Clock.now += 5
    assert [one.take("a", 5, 10), bool(other.take("a", 5, 10))] == [0, True]
    Clock.now += 1000
    assert [bool(one.take("a", 5, 10)) for _ in range(3)] == [False, False, True]


def test_replicas_that_ask_at_once_get_no_more_than_there_is(database: str, copies: Copies) -> None:
    stores = [copies(SqlAllowances(database)) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: stores[n % 4].take("a", 100, 1000), range(40)))
    assert sum(not wait for wait in found) == 10


def test_what_one_replica_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KEYS", 3)
    seconds = iter(range(100))
    store = OwnAllowances(lambda: next(seconds))
    assert [store.take(key, 50, 50) for key in "abcdefgh"] == [0] * 8
    assert list(store._full_at) == ["f", "g", "h"]


def test_rows_that_have_run_out_are_deleted(database: str, copies: Copies) -> None:
    store = copies(SqlAllowances(database, now=Clock()))
    for key in "abc":
        store.take(key, 1, 10)
    Clock.now += 1000
    store.take("d", 1, 10)
    with store._open() as connection:
        assert [row.key for row in connection.execute(store._rows.select())] == ["d"]


def test_a_store_that_is_not_there_says_so_and_nothing_secret() -> None:
    store = SqlReplies("postgresql://ada:hush@127.0.0.1:1/shop", connect_args={"connect_timeout": 1})
    assert repr(store) == "SqlReplies('postgresql+psycopg://***@127.0.0.1:1/shop', name='default')"
    with pytest.raises(StoreError, match="SqlReplies.*cannot be used: connection failed") as raised:
        store.claim("k", b"d", "one", 60)
    assert "hush" not in str(raised.value)
    store.close()


def test_a_database_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.stores.sql._INSERTS", {})
    with pytest.raises(InvalidOption, match="write a ReplyStore or Allowances"):
        SqlReplies("sqlite:////tmp/a.db")
