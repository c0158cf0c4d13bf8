"""Which files are read, how they are packed, and what is said when there are none."""

from __future__ import annotations

import datetime as dt
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import make_dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fsspec.utils import infer_storage_options

from raflow import Flow
from raflow.connectors.files import ArrowFiles, CsvFiles, JsonLinesFiles, ParquetFiles
from raflow.connectors.files.listing import DataFile
from raflow.connectors.files.splitting import Piece, byte_ranges, pack
from raflow.connectors.memory import MemorySource
from raflow.errors import InvalidOption, MissingExtra, SourceError
from raflow.places import Location
from raflow.schema import is_fixed
from raflow.sinks import SinkContext

Rows = Callable[..., list[dict[str, Any]]]
MIB = 1 << 20


def csv(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"v\n{value}\n")


def values(rows: Rows, path: Any) -> list[Any]:
    return [row["v"] for row in rows(CsvFiles(path))]


def test_paths_globs_directories_and_lists_are_read_in_order(tmp_path: Path, rows: Rows) -> None:
    for n, name in enumerate(["b.csv", "a.csv", "sub/c.csv", "sub/deep/d.csv"]):
        csv(tmp_path / name, n)

    assert values(rows, tmp_path / "b.csv") == [0]
    assert values(rows, str(tmp_path / "*.csv")) == [1, 0]
    assert values(rows, str(tmp_path / "**" / "*.csv")) == [1, 0, 2, 3]
    assert values(rows, tmp_path) == [1, 0, 2, 3]
    assert values(rows, str(tmp_path) + "/s*") == [2, 3]
    assert values(rows, [tmp_path / "sub", str(tmp_path / "a*"), tmp_path / "a.csv"]) == [2, 3, 1]


@contextmanager
def served(answer: Callable[[str], bytes]) -> Iterator[str]:
    """Serve what `answer` returns for a path, without ranges; the length only of what is no stream."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = answer(self.path)
            self.send_response(200)
            if "stream" not in self.path:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["a", "stream"])
def test_files_of_a_web_server_are_read_whether_it_tells_their_size_or_not(rows: Rows, name: str) -> None:
    page = f'<a href="{name}.csv">{name}.csv</a>'.encode()
    with served(lambda path: b"v\n1\n2\n" if path.endswith(".csv") else page) as url:
        source = CsvFiles(f"{url}/*.csv")

        assert rows(source) == rows(CsvFiles(f"{url}/{name}.csv")) == [{"v": 1}, {"v": 2}]
        assert [entry.size for entry in source.inputs()] == [6 if name == "a" else None]


class Hosted(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A server whose paths do not hold its host; every file holds the host as its only value."""

    protocol = "hosted"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(infer_storage_options(path)["path"])

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {"host": infer_storage_options(path)["host"]}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": len(self._text)}

    def _open(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._text)

    @property
    def _text(self) -> bytes:
        return f"v\n{self.storage_options['host']}\n".encode()


def test_equal_paths_on_two_hosts_are_two_files(rows: Rows) -> None:
    fsspec.register_implementation("hosted", Hosted, clobber=True)
    urls = ["hosted://h1/d/a.csv", "hosted://h2/d/a.csv", "hosted://h1/d/a.csv"]

    assert values(rows, urls) == ["h1", "h2"]
    assert [entry.name for entry in CsvFiles(urls).inputs()] == urls[:2]


def test_urls_that_differ_only_in_what_is_not_shown_are_several_files(rows: Rows) -> None:
    with served(lambda path: f"v\n{path.rpartition('=')[2]}\n".encode()) as url:
        source = CsvFiles([f"{url}/export?key={month}" for month in ("jan", "feb", "jan")])

        assert rows(source) == [{"v": "jan"}, {"v": "feb"}]
        assert [entry.name for entry in source.inputs()] == [f"{url}/export?key=***", f"{url}/export?key=*** (2)"]


def test_hidden_files_are_no_data_unless_they_are_named(tmp_path: Path, rows: Rows) -> None:
    for name in ("a.csv", "_SUCCESS", ".a.csv.crc", "_temporary/b.csv", ".staging/c.csv"):
        csv(tmp_path / name, name)

    assert values(rows, tmp_path) == ["a.csv"]
    assert values(rows, str(tmp_path / "**")) == ["a.csv"]
    assert values(rows, tmp_path / "_SUCCESS") == ["_SUCCESS"]


def test_linked_files_and_folders_are_read_under_the_names_of_the_links(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "kept" / "a.csv", 1)
    csv(tmp_path / "kept" / "deep" / "b.csv", 2)
    folder = tmp_path / "in"
    csv(folder / "c.csv", 3)
    (folder / "d.csv").symlink_to(tmp_path / "kept" / "a.csv")
    (folder / "k=7").symlink_to(Path("..") / "kept")

    assert sorted(values(rows, folder)) == [1, 1, 2, 3]
    assert [row for row in rows(CsvFiles(folder)) if row["k"] == 7] == [{"v": 1, "k": 7}]
    assert values(rows, str(folder / "*.csv")) == [3, 1]
    assert values(rows, str(folder / "*" / "a.csv")) == [1]
    assert values(rows, str(folder / "k*")) == [1, 2]
    assert {entry.size for entry in CsvFiles(folder).inputs()} == {4}


def test_links_that_lead_back_are_followed_once(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "x" / "a.csv", 1)
    csv(tmp_path / "y" / "b.csv", 2)
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    (tmp_path / "x" / "to_y").symlink_to(tmp_path / "y")
    (tmp_path / "y" / "to_x").symlink_to(tmp_path / "x")

    assert values(rows, tmp_path / "x") == [1, 2]
    assert sorted(values(rows, str(tmp_path / "**" / "*.csv"))) == [1, 1, 2, 2]


def test_a_link_that_leads_nowhere_is_named_unless_it_is_no_data(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "a.csv", 1)
    (tmp_path / ".#a.csv").symlink_to("me@host:1")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "gone" / "gone.csv")

    with pytest.raises(SourceError, match=r"/gone\.csv is a link to .*/gone/gone\.csv, which cannot be reached; mend"):
        CsvFiles(tmp_path).schema()
    assert values(rows, str(tmp_path / "a*")) == [1]


def test_a_name_with_brackets_is_a_file_if_it_exists(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "sales [2024].csv", 7)

    assert values(rows, tmp_path / "sales [2024].csv") == [7]


def test_relative_paths_are_read_from_any_folder_later(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv(tmp_path / "a.csv", 1)
    monkeypatch.chdir(tmp_path)
    source = CsvFiles("a.csv")
    monkeypatch.chdir("/")

    assert rows(source) == [{"v": 1}]


@pytest.mark.parametrize("kind", [ArrowFiles, CsvFiles, JsonLinesFiles, ParquetFiles])
def test_missing_paths_and_empty_globs_and_folders_say_so_and_name_the_path(tmp_path: Path, kind: Any) -> None:
    for path, message in [
        (tmp_path / "no", r"reading .*/no: it does not exist"),
        (tmp_path / "*.no", r"no file matches .*/\*\.no"),
        (tmp_path, r"no file in "),
    ]:
        for ask in (kind(path).schema, kind(path).splits, kind(path).inputs):
            with pytest.raises(SourceError, match=message):
                ask()
    with pytest.raises(InvalidOption, match="path is an empty list"):
        kind([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", 1)
    (tmp_path / "a.csv").chmod(0)

    with pytest.raises(SourceError, match=r"a\.csv: no permission"):
        CsvFiles(tmp_path).schema()


def test_a_missing_driver_and_an_unknown_protocol_say_what_to_do() -> None:
    with pytest.raises(MissingExtra, match="pip install adlfs"):
        ParquetFiles("abfs://container/x.parquet").schema()
    with pytest.raises(InvalidOption, match="Protocol not known: nosuch"):
        ParquetFiles("nosuch://x").splits()


def test_secrets_are_never_shown() -> None:
    source = ParquetFiles(
        ["s3://user:hidden@bucket/x", "https://host/x?token=hidden"], storage_options={"secret": "hidden"}
    )
    locations = [Location.of("s3://b/x", {"secret": "hidden"})]

    assert "hidden" not in repr(source) + repr(vars(source)) + repr(locations)


def test_locality_follows_the_path() -> None:
    assert ParquetFiles("memory://x").local_only
    assert not ParquetFiles("memory://x").one_node
    assert ParquetFiles(["s3://b/x", "/tmp/x"]).one_node
    assert not ParquetFiles("s3://b/x").one_node
    assert not ParquetFiles("s3://b/x").local_only


def test_a_glob_or_list_cannot_be_a_sink() -> None:
    for path in ("out/*.csv", ["a", "b"]):
        with pytest.raises(InvalidOption, match="give one folder"):
            CsvFiles(path).start(SinkContext("run"))


def test_folders_add_columns(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "year=2024" / "city=S%C3%A3o%20Paulo" / "a.csv", 1)
    csv(tmp_path / "year=2025" / "city=__HIVE_DEFAULT_PARTITION__" / "a.csv", 2)

    source = CsvFiles(tmp_path)
    assert source.schema() == pa.schema({"v": pa.int64(), "year": pa.int64(), "city": pa.string()})
    expected = [{"v": 1, "year": 2024, "city": "São Paulo"}, {"v": 2, "year": 2025, "city": None}]
    assert rows(source) == expected
    assert rows(source, pa.schema({"year": pa.string()})) == [{"year": "2024"}, {"year": "2025"}]
    assert rows(CsvFiles(str(tmp_path / "*" / "*" / "a.csv"))) == expected


def test_numbers_of_folders_keep_their_zeros(tmp_path: Path, rows: Rows) -> None:
    for value in ("00501", "02134", "10001"):
        csv(tmp_path / "zips" / f"zip={value}" / "a.csv", 1)
    assert rows(CsvFiles(tmp_path / "zips")) == [{"v": 1, "zip": one} for one in ("00501", "02134", "10001")]

    for name, values, kind in [
        ("plain", ["0", "-7", "10", "9" * 18], pa.int64()),
        ("minus", ["-0"], pa.string()),
        ("minus zero", ["-01"], pa.string()),
        ("long", ["1" * 19], pa.string()),
        ("arabic", ["٣"], pa.string()),
    ]:
        for value in values:
            csv(tmp_path / name / f"k={value}" / "a.csv", 1)
        assert CsvFiles(tmp_path / name).schema().field("k").type == kind


@pytest.mark.parametrize(("kind", "text"), [(CsvFiles, "v\n1\n"), (JsonLinesFiles, '{"v": 1}\n')])
def test_a_declared_type_is_also_that_of_a_folders_column(tmp_path: Path, rows: Rows, kind: Any, text: str) -> None:
    for value in ("501", "-3"):
        (tmp_path / f"zip={value}").mkdir()
        (tmp_path / f"zip={value}" / "a").write_text(text)

    for declared, expected in [("string", ["-3", "501"]), ("float64", [-3.0, 501.0]), ("int16", [-3, 501])]:
        source = kind(tmp_path, schema={"zip": declared})
        assert source.schema().field("zip").type == pa.type_for_alias(declared)
        assert is_fixed(source.schema().field("zip"))
        assert [row["zip"] for row in rows(source, pa.schema([source.schema().field("zip")]))] == expected


def test_a_folder_that_does_not_fit_the_declared_type_is_named(tmp_path: Path, rows: Rows) -> None:
    csv(tmp_path / "zip=12" / "a.csv", 1)
    csv(tmp_path / "zip=A1" / "a.csv", 1)

    with pytest.raises(SourceError, match=r"zip=A1/a\.csv: 'A1' of its folder zip=A1 is not int64; rename it or"):
        rows(CsvFiles(tmp_path, schema={"zip": "int64"}))
    with pytest.raises(SourceError, match="is not list<"):
        rows(CsvFiles(tmp_path, schema={"zip": pa.list_(pa.int64())}))


@pytest.mark.parametrize("kind", [ParquetFiles, CsvFiles, JsonLinesFiles, ArrowFiles])
@pytest.mark.parametrize(
    ("annotation", "keys"),
    [
        (str, ["1", "a/b", ""]),
        (str, ["1", "2"]),
        (int, [1, 10**18 + 5]),
        (float, [1.0, 2.5]),
        (bool, [True, False]),
        (dt.date, [dt.date(2024, 1, 1)]),
        (dt.datetime, [dt.datetime(2024, 1, 1, 10), dt.datetime(2024, 1, 2, 0, 0, 0, 5)]),
        (dt.datetime, [dt.datetime(2024, 1, 1, 10, tzinfo=dt.timezone.utc)]),
        (bytes, [b"ab"]),
        (Decimal, [Decimal("1.25")]),
        (str | None, [None, "1"]),
    ],
)
def test_a_folder_that_was_written_is_read_back_with_the_same_record_type(
    tmp_path: Path, kind: Any, annotation: Any, keys: list[Any]
) -> None:
    record = make_dataclass("Record", [("v", int), ("k", annotation)])

    def kept(one: Any) -> Any:
        return one

    kept.__annotations__ = {"one": record, "return": record}
    records = [record(n, key) for n, key in enumerate(keys)]
    flow = Flow()
    flow.read(MemorySource(records)).map(kept).write(kind(tmp_path / "out", partition_by="k"))
    flow.run(engine="local")

    found = Flow().read(kind(tmp_path / "out")).map(kept).collect(engine="local")
    assert [record(**row) for row in sorted(found, key=lambda row: row["v"])] == records


def test_a_folder_that_does_not_fit_the_record_type_is_named_also_where_a_filter_reads_less(tmp_path: Path) -> None:
    for value in ("1", "A1"):
        (tmp_path / f"zip={value}").mkdir()
        pq.write_table(pa.table({"v": [1]}), tmp_path / f"zip={value}" / "a.parquet")
    source, columns = ParquetFiles(tmp_path), pa.schema({"zip": pa.int64()})

    splits = source.splits_where(pc.field("zip") == 1, columns)
    with pytest.raises(SourceError, match="'A1' of its folder zip=A1 is not int64"):
        _ = [list(source.read(split, columns, lambda _: None)) for split in splits]


def test_the_folder_beats_a_column_in_the_file(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "k=1").mkdir()
    pq.write_table(pa.table({"k": ["in the file"]}), tmp_path / "k=1" / "a.parquet")

    assert rows(ParquetFiles(tmp_path)) == [{"k": 1}]


def file(name: str, size: int) -> DataFile:
    return DataFile(0, name, name, size, "v")


@pytest.mark.parametrize(
    ("sizes", "least", "most"),
    [
        ([1000] * 10_000, 16, 64),
        ([2 * MIB], 1, 1),
        ([20 * MIB], 5, 5),
        ([640 * MIB], 16, 17),
        ([22 * MIB] * 20, 16, 40),
        ([10 << 30], 107, 110),
        ([0], 1, 1),
        ([1000] * 3, 3, 3),
    ],
)
def test_splits_follow_the_size_of_the_input(sizes: list[int], least: int, most: int) -> None:
    files = [file(f"{n}.csv", size) for n, size in enumerate(sizes)]

    splits = pack(list(byte_ranges(files)), "bytes")

    assert least <= len(splits) <= most
    assert sum(split.bytes or 0 for split in splits) == sum(sizes)
    assert {entry.name for split in splits for entry in split.inputs} == {one.shown for one in files}
    covered = [piece for split in splits for piece in split.payload]
    assert sum(stop - start for _, _, start, stop, *_ in covered) == sum(sizes)


def test_adjacent_pieces_of_a_file_become_one() -> None:
    one = file("a", 1280 * MIB)
    groups = [Piece(one, n, n + 1, 20 * MIB, rows=5, first_row=5 * n) for n in range(64)]

    splits = pack(groups, "row groups")

    assert len(splits) == 16 + 6
    assert splits[1].name == "a row groups 3-5"
    assert splits[1].payload == [[0, "a", 3, 6, 15, 15]]
    assert splits[1].rows == 15


def test_inputs_change_when_a_file_does(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", 1)
    source = CsvFiles(tmp_path)
    before = source.inputs()
    assert before == list(source.splits()[0].inputs)

    csv(tmp_path / "a.csv", 23)
    assert [entry.name for entry in source.inputs()] == [entry.name for entry in before]
    assert source.inputs() != before


def test_months_and_hours_with_a_leading_zero_are_numbers(tmp_path: Path, rows: Rows) -> None:
    for month in ("01", "12"):
        folder = tmp_path / f"month={month}" / "hour=00"
        folder.mkdir(parents=True)
        (folder / "1.csv").write_text("v\n1\n")
    assert rows(CsvFiles(tmp_path)) == [{"v": 1, "month": month, "hour": 0} for month in (1, 12)]
