from __future__ import annotations

from raflow.letters import DEAD_LETTERS, as_json, batch_of, letter


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
