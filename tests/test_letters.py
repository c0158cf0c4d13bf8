from __future__ import annotations

import json

import pyarrow as pa

from raflow.letters import DEAD_LETTERS, as_json, batch_of, letter, row_as_json


def test_halves_of_characters_are_kept_as_text_that_every_sink_can_hold() -> None:
    half = chr(0xDC80)
    try:
        msg = f"no such place: {half}"
        raise LookupError(msg)
    except LookupError as error:
        kept = letter(as_json({"name": half}), error, processor="tell", attempt=2, position="a.csv, line 3")

    (row,) = batch_of([kept]).to_pylist()
    assert list(row) == DEAD_LETTERS.names
    assert (row["record"], row["error"]) == ('{"name": "\\udc80"}', "no such place: \\udc80")
    assert row["traceback"].endswith("LookupError: no such place: \\udc80\n")
    assert (row["error_type"], row["processor"], row["attempt"]) == ("LookupError", "tell", 2)


def test_an_error_that_was_never_raised_has_no_traceback() -> None:
    assert letter("{}", ValueError("no"), processor="tell", attempt=1, position="")["traceback"] == ""


def test_a_record_with_values_that_python_lacks_is_kept_with_arrows_text_of_them() -> None:
    days = pa.array([0, 10_000_000], pa.int32()).cast(pa.date32())
    batch = pa.record_batch({"day": days, "took": pa.array([1, 2**62], pa.duration("s")), "n": [1, 2]})
    assert json.loads(row_as_json(batch, 0)) == {"day": "1970-01-01", "took": "0:00:01", "n": 1}
    far = json.loads(row_as_json(batch, 1))
    assert (far["n"], "29349" in far["day"], str(2**62) in far["took"]) == (2, True, True)
