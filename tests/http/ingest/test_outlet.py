from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pyarrow.parquet as pq
import pytest

from raflow import Flow
from raflow.connectors.files import JsonLinesFiles, ParquetFiles
from raflow.connectors.files.appending import LinesAppender
from raflow.errors import RunFailed, SinkError
from raflow.http.ingest import outlet as outlets
from raflow.http.ingest.conversion import Results
from raflow.http.ingest.outlet import FlushFailed, Full, Outlet
from raflow.http.ingest.writing import Writing
from raflow.options import CollectorOptions
from raflow.sinks import Sink, SinkContext
from tests.http.hosts import serving
from tests.http.sinks import FullSink, HeldSink


def results(*ns: Any) -> Results:
    return Results([{"n": n} for n in ns], False, len(ns))


@asynccontextmanager
async def opened(*sinks: Sink, **options: Any) -> AsyncIterator[Outlet]:
    chosen = CollectorOptions(**options)
    outlet = Outlet(Writing(sinks, SinkContext("run"), "c", chosen, None), chosen, "c")
    await outlet.open()
    try:
        yield outlet
    finally:
        await outlet.close()


async def reached(sink: HeldSink) -> None:
    assert await asyncio.to_thread(sink.reached.acquire, timeout=30)


def test_what_comes_while_a_flush_is_under_way_shares_the_next_one() -> None:
    sink = HeldSink()

    async def write() -> None:
        async with opened(sink) as outlet:
            sink.go.clear()
            first = asyncio.create_task(outlet.write(results(0)))
            await reached(sink)
            others = [asyncio.create_task(outlet.write(results(n))) for n in range(1, 50)]
            await asyncio.sleep(0)  # so that they have been given
            assert not first.done()
            sink.go.set()
            await asyncio.gather(first, *others)

    asyncio.run(write())
    assert sink.ns() == list(range(50))
    first, second = sink.units
    assert (first.endswith(".1"), second) == (True, f"{first[:-1]}2")


def test_what_comes_within_the_linger_shares_a_flush() -> None:
    sink = HeldSink()

    async def write() -> None:
        async with opened(sink, linger_ms=60_000) as outlet:
            given = [asyncio.create_task(outlet.write(results(n))) for n in range(3)]
            await asyncio.sleep(0)
            assert sink.units == []
        # The end has not waited for the linger.
        await asyncio.gather(*given)

    asyncio.run(write())
    assert (len(sink.units), sink.ns()) == (1, [0, 1, 2])


def test_a_failing_flush_fails_exactly_its_requests_and_the_next_one_works() -> None:
    sink, twin = HeldSink(), HeldSink()

    async def write() -> list[Any]:
        async with opened(twin, sink) as outlet:
            sink.go.clear()
            first = asyncio.create_task(outlet.write(results(0)))
            await reached(sink)
            others = [asyncio.create_task(outlet.write(results(n))) for n in (1, 2)]
            await asyncio.sleep(0)
            sink.breaks = 1
            sink.go.set()
            outcome = await asyncio.gather(first, return_exceptions=True)
            return [*outcome, *await asyncio.gather(*others, return_exceptions=True)]

    outcome = asyncio.run(write())
    assert [type(one) for one in outcome] == [FlushFailed, type(None), type(None)]
    assert sink.ns() == [1, 2]
    assert twin.ns() == [1, 2], "what the other sink had of the failed flush is taken back"


def test_a_client_that_left_does_not_keep_the_others_from_their_reply() -> None:
    sink = HeldSink()

    async def write() -> None:
        async with opened(sink) as outlet:
            sink.go.clear()
            gone = asyncio.create_task(outlet.write(results(0)))
            await reached(sink)
            stays = asyncio.create_task(outlet.write(results(1)))
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            sink.go.set()
            await stays

    asyncio.run(write())
    assert sink.ns() == [0, 1]


def test_what_is_cancelled_before_its_flush_begins_is_not_written_later() -> None:
    sink = HeldSink()

    async def write() -> None:
        async with opened(sink) as outlet:
            sink.go.clear()
            first = asyncio.create_task(outlet.write(results(0)))
            await reached(sink)
            late = [asyncio.create_task(outlet.write(results(n))) for n in (1, 2)]
            await asyncio.sleep(0)  # so that they have been given
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            sink.go.set()
            await first
            await outlet.write(results(3))

    asyncio.run(write())
    assert sink.ns() == [0, 3]


def test_an_outlet_goes_on_when_all_that_it_lingered_for_is_cancelled() -> None:
    sink = HeldSink()

    async def write() -> None:
        async with opened(sink, linger_ms=1) as outlet:
            late = asyncio.create_task(outlet.write(results(1)))
            await asyncio.sleep(0)
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
            await outlet.write(results(2))

    asyncio.run(write())
    assert sink.ns() == [2]


def test_a_request_that_got_504_while_the_sink_stalled_is_not_written_later() -> None:
    app, sink = held(request_timeout_s=0.05)
    with serving(app) as client:
        sink.go.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/collect", json={"n": 1})
            assert sink.reached.acquire(timeout=30)
            assert client.post("/collect", json={"n": 2}).status_code == 504
            assert first.result().status_code == 504
        sink.go.set()
        assert client.post("/collect", json={"n": 3}).status_code == 200
    assert sink.ns() == [1, 3]


def test_a_full_buffer_takes_no_more_until_it_is_written() -> None:
    sink = HeldSink()

    async def accept() -> None:
        async with opened(sink, ack="accepted", linger_ms=0, buffer_records=3) as outlet:
            sink.go.clear()
            outlet.accept(results(1))
            await reached(sink)
            outlet.accept(results(2, 3))
            with pytest.raises(Full):
                outlet.accept(results(4))
            sink.go.set()
            await reached(sink)

    asyncio.run(accept())
    assert sink.ns() == [1, 2, 3]


def test_what_was_accepted_is_tried_again_until_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    sink = HeldSink()
    sink.breaks = 1

    async def accept() -> None:
        async with opened(sink, ack="accepted", linger_ms=0) as outlet:
            outlet.accept(results(1))
            await reached(sink)
            await reached(sink)

    with caplog.at_level(logging.ERROR, "raflow.http"):
        asyncio.run(accept())
    assert sink.ns() == [1]
    assert "were not written" in caplog.text


def test_what_is_accepted_and_cannot_be_written_at_the_end_is_said_to_be_lost(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "_CLOSING_S", 0.01)

    async def accept() -> None:
        async with opened(FullSink(), ack="accepted", linger_ms=60_000) as outlet:
            outlet.accept(results(1, 2))

    with (
        caplog.at_level(logging.ERROR, "raflow.http"),
        pytest.raises(SinkError, match=r"'c' has lost 2 accepted record\(s\)"),
    ):
        asyncio.run(accept())
    assert "loses 2 accepted record(s)" in caplog.text


def test_what_is_accepted_is_tried_again_at_the_end_until_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "_RETRY_S", (0.001,))
    sink = HeldSink()
    sink.breaks = 3

    async def accept() -> None:
        async with opened(sink, ack="accepted", linger_ms=60_000) as outlet:
            outlet.accept(results(1, 2))

    asyncio.run(accept())
    assert (sink.ns(), sink.breaks) == ([1, 2], 0)


def test_a_run_that_has_lost_what_it_accepted_fails_when_it_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "_CLOSING_S", 0.01)
    app = Flow()
    for name in ("one", "other"):
        options: dict[str, Any] = {"sink": FullSink(), "ack": "accepted", "linger_ms": 60_000}
        app.collector(f"/{name}", name=name, **options)(lambda record: record)
    run = app.start(engine="local", port=0)
    try:
        assert httpx.post(f"{run.url}/one", json={"n": 1}, timeout=30).status_code == 202
        run.drain()
        with pytest.raises(RunFailed, match=r"'one' has lost 1 accepted record"):
            run.wait(30)
    finally:
        run.stop()


def test_a_misfit_is_its_own_requests_and_all_results_of_a_record_are_written_or_none() -> None:
    sink = HeldSink()
    bad, good = results(1), Results([[{"n": 1}, {"n": "two"}], {"n": 3}], False, 2)

    async def write() -> None:
        async with opened(sink) as outlet:
            await asyncio.gather(outlet.write(bad), outlet.write(good))

    asyncio.run(write())
    assert (bad.misfits, list(good.misfits)) == ({}, [0])
    assert sink.ns() == [1, 3]


def test_a_request_that_is_written_whole_or_not_at_all_decides_nothing_for_others_if_it_is_not() -> None:
    sink = HeldSink()
    bad, good = (Results(values, False, 2, is_whole=True) for values in ([{"n": 1}, {"n": "a"}], [{"n": "b"}] * 2))

    async def write() -> None:
        async with opened(sink, linger_ms=50) as outlet:
            await asyncio.gather(outlet.write(bad), outlet.write(good))

    asyncio.run(write())
    assert (list(bad.misfits), good.misfits) == ([1], {})
    assert [row["n"] for row in sink.records()] == ["b", "b"]
    assert len(sink.units) == 1


def held(**options: Any) -> tuple[Flow, HeldSink]:
    app, sink = Flow(), HeldSink()

    @app.collector("/collect", sink=sink, **options)
    async def collect(record: dict[str, Any]) -> dict[str, Any]:
        return record

    return app, sink


def test_a_reply_says_that_nothing_was_written_and_never_why() -> None:
    app, sink = held()
    with serving(app) as client:
        sink.breaks = 1
        reply = client.post("/collect", json={"n": 1})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert len(reply.json()["error_id"]) == 16
        assert "hush" not in reply.text
        assert client.post("/collect", json={"n": 2}).status_code == 200
    assert sink.ns() == [2]


def test_accepted_is_202_and_written_at_the_end() -> None:
    app, sink = held(ack="accepted", linger_ms=60_000, buffer_records=2)
    with serving(app) as client:
        replies = [client.post("/collect", json={"n": n}) for n in range(3)]
        assert [one.status_code for one in replies] == [202, 202, 503]
        assert replies[2].headers["retry-after"] == "1"
        assert sink.ns() == []
    assert sink.ns() == [0, 1]


def test_a_late_key_gets_the_reply_of_the_work_that_went_on() -> None:
    app, sink = held(request_timeout_s=0.05)
    headers = {"Idempotency-Key": "one"}
    with serving(app) as client:
        sink.go.clear()
        assert client.post("/collect", json={"n": 1}, headers=headers).status_code == 504
        sink.go.set()
        again = client.post("/collect", json={"n": 1}, headers=headers)
        while again.status_code == 504:
            again = client.post("/collect", json={"n": 1}, headers=headers)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert sink.ns() == [1]


def test_work_that_outlived_its_request_counts_until_the_sink_has_it() -> None:
    app, sink = held(request_timeout_s=0.2, max_concurrent_requests=2)
    with serving(app) as client:
        sink.go.clear()
        for n in (1, 2):
            assert client.post("/collect", json={"n": n}, headers={"Idempotency-Key": f"{n}"}).status_code == 504
        refused = client.post("/collect", json={"n": 3}, headers={"Idempotency-Key": "3"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "Idempotency-Key" in refused.json()["detail"]
        sink.go.set()
        again = refused
        while again.status_code in (503, 504):
            again = client.post("/collect", json={"n": 3}, headers={"Idempotency-Key": "3"})
        assert again.status_code == 200
    assert sink.ns() == [1, 2, 3]


def test_a_failed_key_is_tried_again() -> None:
    app, sink = held()
    headers = {"Idempotency-Key": "one"}
    with serving(app) as client:
        sink.breaks = 1
        assert client.post("/collect", json={"n": 1}, headers=headers).status_code == 503
        reply: httpx.Response = client.post("/collect", json={"n": 1}, headers=headers)
        assert (reply.status_code, "idempotent-replayed" in reply.headers) == (200, False)
    assert sink.ns() == [1]


def flushed_files(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_bytes().splitlines()) for path in folder.iterdir()}


def test_flushes_to_json_lines_share_a_file_that_is_durable_before_the_reply(tmp_path: Path) -> None:
    async def write() -> None:
        async with opened(JsonLinesFiles(tmp_path)) as outlet:
            for n in range(3):
                await outlet.write(results(n))
                ((name, rows),) = flushed_files(tmp_path).items()
                assert (name.startswith("."), rows) == (True, n + 1)

    asyncio.run(write())
    assert list(flushed_files(tmp_path).values()) == [3]
    assert next(iter(flushed_files(tmp_path))).startswith("part-run-c.")


def test_a_file_is_seen_when_it_is_large_enough(tmp_path: Path) -> None:
    async def write() -> None:
        async with opened(JsonLinesFiles(tmp_path), roll_bytes=1) as outlet:
            await outlet.write(results(1))
            await outlet.write(results(2))
            await outlet.write(results(3))

    asyncio.run(write())
    assert sum(flushed_files(tmp_path).values()) == 3
    assert all(name.startswith("part-") for name in flushed_files(tmp_path))


def test_a_file_is_seen_when_it_is_old_enough_though_nothing_more_comes(tmp_path: Path) -> None:
    rolled = threading.Event()

    class Watched(JsonLinesFiles):
        def appender(self, context: SinkContext, unit: str) -> LinesAppender | None:
            made = super().appender(context, unit)
            assert made
            roll, watched = made.roll, cast("Any", made)

            def roll_and_tell() -> None:
                roll()
                rolled.set()

            watched.roll = roll_and_tell
            return made

    async def write() -> None:
        async with opened(Watched(tmp_path), roll_s=0.01) as outlet:
            await outlet.write(results(1))
            assert await asyncio.to_thread(rolled.wait, 30)
            assert next(iter(flushed_files(tmp_path))).startswith("part-run-c.")

    asyncio.run(write())


def test_a_failing_flush_to_an_open_file_leaves_nothing_of_it(tmp_path: Path) -> None:
    sink = HeldSink()

    async def write() -> list[Any]:
        async with opened(JsonLinesFiles(tmp_path), sink) as outlet:
            await outlet.write(results(1))
            sink.breaks = 1
            failed: list[Any] = [*await asyncio.gather(outlet.write(results(2)), return_exceptions=True)]
            await outlet.write(results(3))
            return failed

    # The file is flushed before the other sink fails: its client is told that nothing was written, and tries again.
    assert [type(one) for one in asyncio.run(write())] == [FlushFailed]
    assert sink.ns() == [1, 3]
    assert sorted(flushed_files(tmp_path).values()) == [1, 1]


def test_rows_stay_where_an_earlier_flush_put_them_though_another_sink_fails(tmp_path: Path) -> None:
    first, other = HeldSink(), HeldSink()

    class Broken(JsonLinesFiles):
        def appender(self, context: SinkContext, unit: str) -> LinesAppender | None:
            made = super().appender(context, unit)
            append, broken = made.append if made else None, cast("Any", made)

            def append_or_fail(batch: Any) -> None:
                if batch["n"][0].as_py() == 2:
                    msg = "the disk is full"
                    raise SinkError(msg)
                assert append
                append(batch)

            broken.append = append_or_fail
            return made

    async def write() -> list[Any]:
        async with opened(first, Broken(tmp_path / "broken"), other, JsonLinesFiles(tmp_path / "lines")) as outlet:
            return [
                *await asyncio.gather(outlet.write(results(1)), return_exceptions=True),
                *await asyncio.gather(outlet.write(results(2)), return_exceptions=True),
                *await asyncio.gather(outlet.write(results(3)), return_exceptions=True),
            ]

    outcome = asyncio.run(write())
    assert [type(one) for one in outcome] == [type(None), FlushFailed, type(None)]
    assert (first.ns(), other.ns()) == ([1, 3], [1, 3])
    assert sum(flushed_files(tmp_path / "lines").values()) == 2
    assert sum(flushed_files(tmp_path / "broken").values()) == 2


def test_what_was_accepted_waits_as_few_batches_and_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    sink = HeldSink()
    sink.breaks = 1

    async def accept() -> None:
        async with opened(sink, ParquetFiles(tmp_path), ack="accepted", linger_ms=10) as outlet:
            for n in range(300):
                outlet.accept(results(n))
            outlet.accept(results(*range(300, 1000)))
            outlet.accept(results(1000))
            await reached(sink)
            await reached(sink)

    asyncio.run(accept())
    assert (len(sink.units), sink.ns()) == (1, list(range(1001)))
    (file,) = tmp_path.glob("*.parquet")
    with pq.ParquetFile(file) as written:
        assert (written.metadata.num_rows, written.num_row_groups) == (1001, 1)


def test_an_accepted_record_whose_type_came_to_differ_while_it_waited_costs_no_other_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = HeldSink()

    async def accept() -> None:
        async with opened(sink, ack="accepted", linger_ms=10) as outlet:
            outlet.accept(Results([{"n": -1, "kind": "text"}] * 600, False, 600))  # left for the flush to convert
            for n in range(100):
                outlet.accept(results(n) if n != 77 else Results([{"n": n, "kind": 5}], False, 1))

    with caplog.at_level(logging.ERROR, "raflow.http"):
        asyncio.run(accept())
    assert sink.ns() == [-1] * 600 + [n for n in range(100) if n != 77]
    assert caplog.text.count("1 accepted record(s) were dropped") == 1


def test_an_accepted_batch_of_which_a_result_does_not_fit_is_dropped_whole_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = HeldSink()

    async def accept() -> None:
        async with opened(sink, ack="accepted", linger_ms=10) as outlet:
            outlet.accept(Results([{"n": 1}], True, 3))
            outlet.accept(Results([{"n": 2}, {"n": "two"}], True, 3))

    with caplog.at_level(logging.ERROR, "raflow.http"):
        asyncio.run(accept())
    assert sink.ns() == [1]
    assert caplog.text.count("3 accepted record(s) were dropped") == 1


def test_one_accepted_record_that_a_sink_cannot_hold_costs_no_other_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def accept() -> None:
        async with opened(ParquetFiles(tmp_path), ack="accepted", linger_ms=10) as outlet:
            for n in range(200):
                outlet.accept(results(n) if n != 77 else Results([{"m": {}}], False, 1))

    with caplog.at_level(logging.ERROR, "raflow.http"):
        asyncio.run(accept())
    assert sorted(pq.read_table(tmp_path)["n"].to_pylist()) == [n for n in range(200) if n != 77]
    assert "loses 1 accepted record(s)" in caplog.text


def test_a_request_that_a_sink_cannot_hold_fails_alone_and_spoils_nothing_after_it(tmp_path: Path) -> None:
    """Parquet has no struct without fields; a client may send one to a collector of dicts."""

    async def write() -> list[Any]:
        async with opened(ParquetFiles(tmp_path), linger_ms=50) as outlet:
            given = [outlet.write(one) for one in (results(1), Results([{"m": {}}], False, 1), results(3))]
            outcome: list[Any] = [*await asyncio.gather(*given, return_exceptions=True)]
            await outlet.write(results(4))
            return outcome

    outcome = asyncio.run(write())
    assert [type(one) for one in outcome] == [type(None), FlushFailed, type(None)]
    assert outcome[1].is_final
    assert sorted(pq.read_table(tmp_path)["n"].to_pylist()) == [1, 3, 4]


def test_an_accepted_record_that_no_sink_can_hold_is_dropped_and_not_tried_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def accept() -> None:
        async with opened(ParquetFiles(tmp_path), ack="accepted", linger_ms=0) as outlet:
            outlet.accept(Results([{"m": {}}], False, 1))
            outlet.accept(results(1))

    with caplog.at_level(logging.ERROR, "raflow.http"):
        asyncio.run(accept())
    assert "loses 1 accepted record(s)" in caplog.text
    assert pq.read_table(tmp_path)["n"].to_pylist() == [1]


@pytest.mark.parametrize("sink", [JsonLinesFiles, ParquetFiles])
def test_records_without_fields_harm_nobody(tmp_path: Path, sink: Any) -> None:
    async def write() -> list[Any]:
        async with opened(sink(tmp_path)) as outlet:
            given = [Results([{}], False, 1), results(1), Results([{"n": None}], False, 1)]
            return [*await asyncio.gather(*map(outlet.write, given), return_exceptions=True)]

    assert asyncio.run(write())[1:] == [None, None]
