from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import pytest

from raflow import Flow, consumer
from raflow.connectors.files import JsonLinesFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import DuplicateName, FlowError, InvalidOption, InvalidProcessor

SOURCE = MemorySource([{"n": 1}])


@consumer(source=SOURCE)
def plus_one(record: dict[str, Any]) -> dict[str, Any]:
    """Adds one."""
    return {"n": record["n"] + 1}


def test_calling_a_processor_calls_the_function() -> None:
    assert plus_one({"n": 1}) == {"n": 2}
    assert plus_one.__doc__ == "Adds one."


def test_a_processor_pickles_by_its_import_path() -> None:
    again = pickle.loads(pickle.dumps(plus_one))
    assert again is plus_one


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (lambda a, b: None, "a, b"),
        (lambda: None, "none"),
        (lambda *, a: None, "a"),
        (type("Empty", (), {}), "process"),
        (type("Needy", (), {"__init__": lambda self, x: None, "process": lambda self, r: None}), "'x'"),
        (42, "42"),
    ],
)
def test_code_that_cannot_be_a_processor_is_refused_where_it_is_declared(code: Any, text: str) -> None:
    with pytest.raises(InvalidProcessor, match=text):
        consumer(source=SOURCE, name="p")(code)


def test_a_second_parameter_with_a_default_is_allowed() -> None:
    def scaled(record: dict[str, Any], factor: int = 2) -> dict[str, Any]:
        return {"n": record["n"] * factor}

    assert consumer(source=SOURCE)(scaled)({"n": 2}) == {"n": 4}


def test_a_partial_function_has_the_name_of_what_it_calls() -> None:
    def scaled(record: dict[str, Any], factor: int) -> dict[str, Any]:
        return {"n": record["n"] * factor}

    assert consumer(source=SOURCE)(functools.partial(scaled, factor=2)).name == "scaled"


def test_unknown_options_and_wrong_ends_are_refused() -> None:
    with pytest.raises(InvalidOption, match="num_replica'.*num_replicas"):
        consumer(source=SOURCE, num_replica=2)
    with pytest.raises(InvalidOption, match="source is '/data'"):
        consumer(source="/data")
    with pytest.raises(InvalidOption, match="sink is '/out'"):
        consumer(source=SOURCE, sink=["/out"])  # type: ignore[list-item]


def test_two_processors_of_one_name_are_refused() -> None:
    flow = Flow("twice")
    flow.add_consumer(plus_one)
    with pytest.raises(DuplicateName, match="'twice'.*'plus_one'"):
        flow.add_consumer(plus_one)


def test_an_undecorated_function_is_no_consumer() -> None:
    with pytest.raises(InvalidProcessor, match="@consumer"):
        Flow().add_consumer(len)  # type: ignore[arg-type]


def unknown(record: Elsewhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def opaque(record: threading_lock) -> None:  # type: ignore[valid-type]
    pass


threading_lock = type("ThreadingLock", (), {})


@pytest.mark.parametrize(("code", "text"), [(unknown, "'unknown'.*'Elsewhere'"), (opaque, "ThreadingLock")])
def test_an_annotation_that_is_no_record_type_is_refused_by_plan(code: Any, text: str) -> None:
    flow = Flow()
    flow.add_consumer(consumer(source=SOURCE)(code))
    with pytest.raises(InvalidProcessor, match=text):
        flow.plan()


def test_an_empty_flow_has_no_plan() -> None:
    with pytest.raises(FlowError, match="no processors"):
        Flow().plan()


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def test_sinks_of_one_processor_that_write_over_each_others_files_are_refused(tmp_path: Path) -> None:
    out, kept = JsonLinesFiles(tmp_path / "out"), JsonLinesFiles(f"{tmp_path}/out/")
    bad, twice = Flow(), Flow()
    bad.add_consumer(consumer(source=SOURCE, sink=out, on_error=kept, name="bad")(same))
    with pytest.raises(InvalidOption, match=rf"sink and on_error of processor 'bad' .*{tmp_path}/out'.*two folders"):
        bad.plan()
    twice.add_consumer(consumer(source=SOURCE, sink=[out, kept], name="twice")(same))
    with pytest.raises(InvalidOption, match=rf"two sinks of processor 'twice' both write to .*{tmp_path}/out'"):
        twice.plan()


def test_sinks_of_one_processor_may_write_to_several_folders(tmp_path: Path) -> None:
    sinks = [JsonLinesFiles(tmp_path / "out"), JsonLinesFiles(tmp_path / "copy"), MemorySink(), MemorySink()]
    flow = Flow()
    flow.add_consumer(consumer(source=SOURCE, sink=sinks, on_error=JsonLinesFiles(tmp_path / "bad"), name="p")(same))
    assert [sink.place is None for op in flow.plan().ops() for sink in op.all_sinks] == [
        False,
        False,
        True,
        True,
        False,
    ]
