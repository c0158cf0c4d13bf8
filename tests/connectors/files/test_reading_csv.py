"""CSV as real files have it: ranges, headers, quotes, encodings, compressions, types, bad lines."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raflow import Flow, consumer
from raflow.connectors.files import CsvFiles
from raflow.errors import InvalidOption, RecordError, SchemaError, SourceError
from raflow.schema import SchemaWidened, fix, is_fixed
from raflow.sources import Rejected

Read = Callable[..., tuple[pa.Table, list[Rejected]]]
Rows = Callable[..., list[dict[str, Any]]]


@dataclass
class Row:
    id: int
    name: str


def _keeping(taken: list[Row]) -> Callable[[Row], None]:
    def keep(record: Row) -> None:
        taken.append(record)

    return keep


PEOPLE = b"id,name,height\n1,Ada,1.65\n2,Bo,1.8\n3,,\n"
EXPECTED = [
    {"id": 1, "name": "Ada", "height": 1.65},
    {"id": 2, "name": "Bo", "height": 1.8},
    {"id": 3, "name": None, "height": None},
]


@pytest.mark.parametrize("ranges", [0, 1, 2, 5, 13])
@pytest.mark.parametrize(
    "text",
    [
        PEOPLE,
        PEOPLE.rstrip(b"\n"),
        PEOPLE.replace(b"\n", b"\r\n"),
        PEOPLE.replace(b"\n", b"\n\n"),
        b"\xef\xbb\xbf" + PEOPLE,
        b"\n\n" + PEOPLE + b"\n\n",
    ],
    ids=["plain", "no last newline", "crlf", "blank lines", "byte order mark", "blank ends"],
)
def test_every_range_of_every_kind_of_lines_gives_the_same_records(
    tmp_path: Path, rows: Rows, text: bytes, ranges: int
) -> None:
    (tmp_path / "people.csv").write_bytes(text)

    assert rows(CsvFiles(tmp_path / "people.csv"), ranges=ranges) == EXPECTED


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_are_read_whole_also_when_they_have_several_members(
    tmp_path: Path, rows: Rows, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / f"people.csv{suffix}").write_bytes(pack(PEOPLE[:20]) + pack(PEOPLE[20:]))

    assert rows(CsvFiles(tmp_path)) == EXPECTED


def test_zstd_and_zip_archives_are_read(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "people.csv.zst").write_bytes(pa.compress(PEOPLE, "zstd", asbytes=True))
    with zipfile.ZipFile(tmp_path / "people.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/people.csv", PEOPLE)
        archive.writestr("a/people.csv", PEOPLE)
        archive.writestr("__MACOSX/people.csv", b"\0")

    assert rows(CsvFiles(tmp_path)) == EXPECTED * 3


def test_a_truncated_archive_is_an_error_that_names_the_file(tmp_path: Path, read: Read) -> None:
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress(PEOPLE * 1000)[:-20])

    with pytest.raises(SourceError, match=r"people\.csv\.gz"):
        read(CsvFiles(tmp_path))


def test_files_may_have_their_columns_in_another_order(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,x\n")
    (tmp_path / "2.csv").write_bytes(b"c,b,a\n9,y,2\n")

    found = [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": "y", "c": 9}]
    assert rows(CsvFiles(tmp_path)) == found


def test_only_wanted_columns_are_read_and_rows_are_counted_without_any(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(PEOPLE)
    source = CsvFiles(tmp_path)

    assert read(source, pa.schema([("height", pa.float64())]))[0].column_names == ["height"]
    assert read(source, pa.schema([]))[0].num_rows == 3


@pytest.mark.parametrize("ranges", [0, 3])
def test_headers_can_be_absent_renamed_or_below_other_lines(tmp_path: Path, rows: Rows, ranges: int) -> None:
    path = tmp_path / "1.csv"
    path.write_bytes(b"1;2\n3;4\n")
    assert rows(CsvFiles(path, header=False, delimiter=";"), ranges=ranges) == [
        {"f0": 1, "f1": 2},
        {"f0": 3, "f1": 4},
    ]
    named = CsvFiles(path, header=False, delimiter=";", column_names=["a", "b"])
    assert rows(named, ranges=ranges)[0] == {"a": 1, "b": 2}

    path.write_bytes(b"made by a tool\n\nx,y\n1,2\n")
    assert rows(CsvFiles(path, skip_rows=1), ranges=ranges) == [{"x": 1, "y": 2}]
    assert rows(CsvFiles(path, skip_rows=1, column_names=["a", "b"]), ranges=ranges) == [{"a": 1, "b": 2}]


def test_quoted_newlines_are_values_when_asked_for(tmp_path: Path, rows: Rows) -> None:
    path = tmp_path / "1.csv"
    path.write_bytes(b'"a\nb",n\n"x\n\n""y""",1\nz,2\n')

    assert rows(CsvFiles(path, newlines_in_values=True)) == [
        {"a\nb": 'x\n\n"y"', "n": 1},
        {"a\nb": "z", "n": 2},
    ]


def test_a_quote_within_a_value_opens_nothing_where_newlines_may_be_in_values(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_bytes(b'size 5",n\n5" pipe,1\n"a\nb",2\nodd 6",x\n"c\n""d""",4\n')
    source = CsvFiles(tmp_path, newlines_in_values=True)
    table, rejected = read(source, pa.schema([('size 5"', pa.string()), fix(pa.field("n", pa.int64()))]))
    assert table.to_pylist() == [
        {'size 5"': '5" pipe', "n": 1}, {'size 5"': "a\nb", "n": 2}, {'size 5"': 'c\n"d"', "n": 4},
    ]  # fmt: skip
    assert [one.text for one in rejected] == ['odd 6",x']


def test_escaped_quotes_do_not_end_a_value(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,n\n" + rb'"\"x\"' + b"\n" + rb'\\",1' + b"\nz,2\n")

    source = CsvFiles(tmp_path, newlines_in_values=True, escape_char="\\")
    assert rows(source) == [{"a": '"x"\n\\', "n": 1}, {"a": "z", "n": 2}]


@pytest.mark.parametrize(("encoding", "ranges"), [("latin-1", 4), ("utf-16", 0), ("shift_jis", 3)])
def test_other_encodings_are_translated(tmp_path: Path, rows: Rows, encoding: str, ranges: int) -> None:
    word = "naïve" if encoding == "latin-1" else "ソース"
    (tmp_path / "1.csv").write_bytes(f"{word},n\n{word},1\n{word},2\n".encode(encoding))

    found = rows(CsvFiles(tmp_path, encoding=encoding), ranges=ranges)
    assert found == [{word: word, "n": 1}, {word: word, "n": 2}]


def test_nulls_are_unquoted_in_text_but_may_be_quoted_in_numbers(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.csv").write_bytes(b'"s","n"\n"","1"\n"NA",""\nNA,NA\n,\n"x","2"\n')

    assert rows(CsvFiles(tmp_path)) == [
        {"s": "", "n": 1},
        {"s": "NA", "n": None},
        {"s": None, "n": None},
        {"s": None, "n": None},
        {"s": "x", "n": 2},
    ]
    assert rows(CsvFiles(tmp_path, null_values=["NA"], schema={"n": "string"}))[3] == {"s": "", "n": ""}


def test_types_are_agreed_upon_from_all_parts_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b,c,d\n1,,1,2024-01-01\n")
    (tmp_path / "2.csv").write_bytes(b"a,b,c,d\n1.5,7,x,2024-01-02\n")
    big = b"e\n" + b"1\n" * (3 << 20) + b"0.5\n"
    (tmp_path / "3.csv").write_bytes(big)

    found = CsvFiles(tmp_path).schema()
    assert found == pa.schema(
        {"a": pa.float64(), "b": pa.int64(), "c": pa.string(), "d": pa.date32(), "e": pa.float64()}
    )


def test_declared_types_beat_inferred_ones_and_never_widen(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.csv").write_bytes(b"zip,at,n\n00501,2024-01-01 10:00:00,1\n")
    source = CsvFiles(tmp_path, schema={"zip": "string", "at": "timestamp[us]", "new": pa.decimal128(5, 2)})

    assert [str(field.type) for field in source.schema()] == [
        "string",
        "timestamp[us]",
        "int64",
        "decimal128(5, 2)",
    ]
    assert is_fixed(source.schema().field("zip"))
    assert not is_fixed(source.schema().field("n"))
    assert rows(source)[0]["zip"] == "00501"
    with pytest.raises(InvalidOption, match="'zip' is 'text'"):
        CsvFiles(tmp_path, schema={"zip": "text"})


@pytest.mark.parametrize("ranges", [0, 1, 3, 7])
def test_bad_lines_are_rejected_with_their_absolute_number_and_all_others_delivered(
    tmp_path: Path, read: Read, ranges: int
) -> None:
    lines = [f"{n},{n / 2},name {n}" for n in range(500)]
    lines[99] = "99,oops,name 99"
    lines[250] = "250,1.5"
    lines[251] = ""
    lines[499] = "x,y," + "z" * 300
    path = tmp_path / "1.csv"
    path.write_text("id,half,name\n" + "\n".join(lines))
    columns = pa.schema({"id": pa.int64(), "half": pa.float64(), "name": pa.string()})

    table, rejected = read(CsvFiles(path), columns, ranges=ranges)

    assert table.column("id").to_pylist() == [n for n in range(500) if n not in (99, 250, 251, 499)]
    assert [bad.position for bad in rejected] == [f"{path} line {n}" for n in (101, 252, 501)]
    value, malformed, several = rejected
    assert isinstance(value.error, RecordError)
    assert str(value.error) == f"{path} line 101: column 'half' is 'oops', not double"
    assert isinstance(malformed.error, SourceError)
    assert str(malformed.error).endswith("line 252: CSV parse error: Expected 3 columns, got 2: 250,1.5")
    assert "'id' is 'x', not int64; column 'half' is 'y', not double" in str(several.error)
    assert len(several.text) == 200


def test_line_numbers_are_right_in_compressed_files_and_behind_quoted_newlines(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv.gz").write_bytes(gzip.compress(b'a,b\n1,"x\ny"\nbad,z\n'))

    source = CsvFiles(tmp_path, newlines_in_values=True)
    table, rejected = read(source, pa.schema({"a": pa.int64(), "b": pa.string()}))

    assert table.to_pylist() == [{"a": 1, "b": "x\ny"}]
    assert rejected[0].position.endswith("1.csv.gz line 4")


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_quoted_newline_does_not_make_good_lines_after_it_bad(tmp_path: Path, read: Read, before: int) -> None:
    (tmp_path / "1.csv").write_bytes(b"n,text\n" + b"0,w\n" * before + b'1,"a\nb"\n2,x\nbad,y\n3,z\n')

    table, rejected = read(CsvFiles(tmp_path), pa.schema([fix(pa.field("n", pa.int64())), ("text", pa.string())]))

    assert table.to_pylist()[before:] == [{"n": 1, "text": "a\nb"}, {"n": 2, "text": "x"}, {"n": 3, "text": "z"}]
    assert [bad.text for bad in rejected] == ["bad,y"]
    assert rejected[0].position.endswith(f"line {before + 5}")


NOTE = b'"one\ntwo, ""three""\n\nfour"'
CUT = (
    r"1\.csv.*: a value in quotes goes on past a newline around byte .* set newlines_in_values=True, or quote_char=None"
)


def notes(*names: str, value: bytes = NOTE) -> tuple[bytes, pa.Schema]:
    """Return a CSV text of 50 records, and its columns; the values of `text` are quoted."""
    values = [value if name == "text" else b"7" for name in names]
    kinds = pa.schema([fix(pa.field(name, pa.string() if name == "text" else pa.int64())) for name in names])
    return b"\n".join([",".join(names).encode(), *[b",".join(values)] * 50, b""]), kinds


@pytest.mark.parametrize("names", [("text",), ("n", "text"), ("text", "n")])
@pytest.mark.parametrize("ranges", [2, 3, 7])
def test_a_range_that_ends_inside_of_quotes_is_an_error_that_says_what_to_do(
    tmp_path: Path, read: Read, names: tuple[str, ...], ranges: int
) -> None:
    text, columns = notes(*names)
    (tmp_path / "1.csv").write_bytes(text)

    with pytest.raises(SourceError, match=CUT):
        read(CsvFiles(tmp_path), columns, ranges=ranges)
    assert read(CsvFiles(tmp_path, newlines_in_values=True), columns)[0].num_rows == 50


@pytest.mark.parametrize("within", [b"ne", b"two"])
def test_what_does_not_fit_in_a_range_that_begins_inside_of_quotes_is_the_same_error(
    tmp_path: Path, within: bytes
) -> None:
    text, columns = notes("text", "n")
    path = tmp_path / "1.csv"
    path.write_bytes(text)
    start = text.index(within, len(text) // 2)
    split = replace(CsvFiles(path).splits()[0], payload=[[0, str(path), start, len(text), None, None]])
    rejected: list[Rejected] = []

    with pytest.raises(SourceError, match=CUT):
        list(CsvFiles(path).read(split, columns, rejected.append))
    assert rejected == []


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_block_that_ends_inside_of_quotes_is_an_error_and_one_that_does_not_is_none(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("raflow.connectors.files.text.BLOCK_BYTES", 64)
    for value, is_cut in [(NOTE, True), (b'"one, ""two"""', False), (b'5" pipe', False), (b'""', False)]:
        text, columns = notes("text", value=value)
        (tmp_path / f"1.csv{suffix}").write_bytes(gzip.compress(text) if suffix else text)
        if is_cut:
            with pytest.raises(SourceError, match=CUT):
                read(CsvFiles(tmp_path), columns)
        else:
            assert read(CsvFiles(tmp_path), columns)[0].num_rows == 50


def test_a_sample_may_end_inside_of_quotes(tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.connectors.files.text._SAMPLE_BYTES", 64)
    (tmp_path / "1.csv").write_bytes(notes("n", "text")[0])

    assert rows(CsvFiles(tmp_path)) == [{"n": 7, "text": 'one\ntwo, "three"\n\nfour'}] * 50


def test_a_quote_that_nothing_closes_does_not_make_good_lines_before_it_bad(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(b'n,text\n1,x\nbad,y\n3,z\n4,"a\n5,b\n')

    table, rejected = read(CsvFiles(tmp_path), pa.schema([fix(pa.field("n", pa.int64())), ("text", pa.string())]))

    assert table.to_pylist() == [{"n": 1, "text": "x"}, {"n": 3, "text": "z"}, {"n": 4, "text": "a\n5,b\n"}]
    assert [bad.text for bad in rejected] == ["bad,y"]


def test_bytes_that_are_no_utf8_are_a_bad_line(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\nx,1\n\xff,2\n")

    table, rejected = read(CsvFiles(tmp_path, schema={"a": "string"}))

    assert table.num_rows == 1
    assert rejected[0].position.endswith("line 3")


@pytest.mark.parametrize("ranges", [0, 3])
@pytest.mark.parametrize("newlines_in_values", [False, True])
def test_bytes_that_an_encoding_lacks_are_a_bad_line(
    tmp_path: Path, read: Read, ranges: int, newlines_in_values: bool
) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\nna\xefve,1\nx\x81\xe9,2\n\xe9t\xe9,y\nz,4\n")
    source = CsvFiles(tmp_path, encoding="cp1252", newlines_in_values=newlines_in_values)
    columns = pa.schema([("a", pa.string()), fix(pa.field("b", pa.int64()))])

    assert source.schema().field("a").type == pa.string()
    table, rejected = read(source, columns, ranges=0 if newlines_in_values else ranges)

    assert table.to_pylist() == [{"a": "naïve", "b": 1}, {"a": "z", "b": 4}]
    found = {one.position.rsplit(" ", 1)[1]: one for one in rejected}
    assert {line: one.text for line, one in found.items()} == {"3": "x\ufffdé,2", "4": "été,y"}
    assert str(found["3"].error).endswith("1.csv line 3: cp1252 has no byte 81: x\ufffdé,2")


def test_a_file_of_nothing_but_bytes_that_its_encoding_lacks_has_no_records(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(b"a\n\x81\n\x8d\n")

    table, rejected = read(CsvFiles(tmp_path, encoding="cp1252"))
    assert (table.num_rows, len(rejected)) == (0, 2)


@pytest.mark.parametrize(
    ("encoding", "text", "message"),
    [
        ("utf-16", "a\n1\n".encode("utf-16") + b"\x00\xd8\x00\x00", r"1\.csv: bytes 00 d8 are no utf-16.* \(illegal"),
        ("cp1252", b"a\x81\n1\n", r"1\.csv: bytes 81 are no .*; check encoding= or mend the file"),
    ],
    ids=["no ASCII", "header"],
)
def test_bytes_without_a_line_of_their_own_are_an_error_that_names_the_file(
    tmp_path: Path, rows: Rows, encoding: str, text: bytes, message: str
) -> None:
    (tmp_path / "1.csv").write_bytes(text)

    with pytest.raises(SourceError, match=message):
        rows(CsvFiles(tmp_path, encoding=encoding), pa.schema({"a": pa.int64()}))


def test_what_reject_raises_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a\n1\nx\n")
    source = CsvFiles(tmp_path)

    def stop(bad: Rejected) -> None:
        raise bad.error

    with pytest.raises(RecordError, match="line 3: column 'a' is 'x', not int64"):
        list(source.read(source.splits()[0], pa.schema({"a": pa.int64()}), stop))


def test_floats_in_an_integer_column_widen_the_run_unless_the_record_type_wants_integers(
    tmp_path: Path, read: Read
) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,1\n1.5,2\nx,3\n")
    columns = pa.schema({"a": pa.int64(), "b": pa.int64()})

    with pytest.raises(SchemaWidened) as widened:
        read(CsvFiles(tmp_path), columns)
    assert widened.value.schema == pa.schema({"a": pa.float64(), "b": pa.int64()})

    table, rejected = read(CsvFiles(tmp_path), widened.value.schema)
    assert table.column("a").to_pylist() == [1.0, 1.5]
    assert len(rejected) == 1

    _, rejected = read(CsvFiles(tmp_path), pa.schema([fix(field) for field in columns]))
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == ["3", "4"]


def test_late_fractions_of_seconds_widen_the_run(tmp_path: Path, read: Read) -> None:
    whole, fraction = "2024-01-01T10:00:00", "2024-01-01T10:00:00.25"
    lines = ["at,zoned,clock", f"{whole},{whole}Z,10:00:00", f"{fraction},{fraction}Z,10:00:00.25", "x,x,x"]
    (tmp_path / "1.csv").write_text("\n".join(lines))
    columns = pa.schema({"at": pa.timestamp("s"), "zoned": pa.timestamp("s", "UTC"), "clock": pa.time32("s")})
    finer = pa.schema({"at": pa.timestamp("us"), "zoned": pa.timestamp("us", "UTC"), "clock": pa.time64("us")})

    with pytest.raises(SchemaWidened) as widened:
        read(CsvFiles(tmp_path), columns)
    assert widened.value.schema == finer
    table, rejected = read(CsvFiles(tmp_path), finer)
    assert (table.num_rows, len(rejected)) == (2, 1)
    assert len(read(CsvFiles(tmp_path), pa.schema([fix(field) for field in columns]))[1]) == 2


def test_fractions_of_nanoseconds_widen_the_run_further(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_text("at\n2024-01-01T10:00:00.25\n2024-01-01T10:00:00.123456789\n")
    for unit in ("s", "us"):
        with pytest.raises(SchemaWidened) as widened:
            read(CsvFiles(tmp_path), pa.schema({"at": pa.timestamp(unit)}))
        assert widened.value.schema == pa.schema({"at": pa.timestamp("ns")})


def test_a_column_without_a_type_gets_one_when_values_come(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,\n2,2024-01-01\nbroken\n")

    with pytest.raises(SchemaWidened) as widened:
        read(CsvFiles(tmp_path), pa.schema({"a": pa.int64(), "b": pa.null()}))
    assert widened.value.schema == pa.schema({"a": pa.int64(), "b": pa.date32()})


def test_a_type_that_csv_cannot_hold_is_refused_by_name(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.csv").write_bytes(PEOPLE)

    with pytest.raises(SchemaError, match=r"column 'name' should be list<"):
        read(CsvFiles(tmp_path), pa.schema({"name": pa.list_(pa.string())}))


def test_headers_that_name_a_column_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b,a\n1,2,3\n")

    with pytest.raises(SourceError, match=r"1\.csv: the header names column 'a' twice"):
        CsvFiles(tmp_path).schema()


def test_line_ends_that_cannot_be_cut_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\r1,2\r")

    with pytest.raises(SourceError, match=r"1\.csv: lines end with a carriage return alone"):
        CsvFiles(tmp_path).schema()


def test_many_bad_lines_of_all_kinds_cost_little(tmp_path: Path, read: Read) -> None:
    lines = [f"{n},{n / 2},name {n}" for n in range(60_000)]
    for n in range(0, 60_000, 60):
        lines[n] = ("x,1,y", "1,2", "1,,\xff", "1,2,3,4")[n // 60 % 4]
    (tmp_path / "1.csv").write_bytes("\n".join(lines).encode("latin-1"))
    columns = pa.schema({"a": pa.int64(), "b": pa.float64(), "c": pa.string()})

    source = CsvFiles(tmp_path, header=False, column_names=["a", "b", "c"])
    table, rejected = read(source, columns)

    assert table.num_rows == 59_000
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == [str(n + 1) for n in range(0, 60_000, 60)]
    assert {type(bad.error) for bad in rejected} == {RecordError, SourceError}


def test_empty_files_have_no_records(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.csv").write_bytes(b"")
    (tmp_path / "2.csv").write_bytes(PEOPLE)
    (tmp_path / "3.csv").write_bytes(b"id,name,height\n")

    assert rows(CsvFiles(tmp_path)) == EXPECTED


def test_a_file_of_a_header_alone_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"id,name\n")
    taken: list[Row] = []
    flow = Flow("empty")
    flow.add_consumer(consumer(source=CsvFiles(tmp_path), name="p")(_keeping(taken)))

    flow.run(engine="local")

    assert taken == []
    assert CsvFiles(tmp_path).schema() == pa.schema({"id": pa.null(), "name": pa.null()})
    assert CsvFiles(tmp_path, schema={"id": "int64"}).schema().field("id").type == pa.int64()
    named = CsvFiles(tmp_path, header=False, skip_rows=1, column_names=["a", "b"])
    assert named.schema().names == ["a", "b"]


def test_a_column_of_few_of_very_many_files_is_read(tmp_path: Path, rows: Rows) -> None:
    for n in range(40):
        (tmp_path / f"{n:02}.csv").write_bytes(b"a,b\n1,2\n" if n == 38 else b"a\n1\n")
    source = CsvFiles(tmp_path)
    assert source.schema() == pa.schema({"a": pa.int64(), "b": pa.null()})

    with pytest.raises(SchemaWidened) as widened:
        rows(source)
    assert rows(source, widened.value.schema)[38] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ",,"}, "delimiter is ',,'"),
        ({"encoding": "klingon"}, "encoding is 'klingon'"),
        ({"compression": "rar"}, "compression is 'rar'"),
        ({"if_exists": "ask"}, "if_exists is 'ask'"),
        ({"max_rows_per_file": 0}, "max_rows_per_file is 0"),
        ({"newlines_in_values": True, "quote_char": None}, "needs a quote_char"),
    ],
)
def test_options_that_cannot_be_used_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        CsvFiles("people.csv", **options)
