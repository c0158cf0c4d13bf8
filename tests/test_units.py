from __future__ import annotations

import pytest

from raflow.units import count, did_you_mean, duration, plural, rate, shortened, size


@pytest.mark.parametrize(
    ("number", "text", "short"),
    [
        (0, "0", "0"),
        (99_999, "99,999", "99,999"),
        (1_234_567, "1,234,567", "1.23 M"),
        (999_600, "999,600", "1.00 M"),
    ],
)
def test_counts_have_thousands_or_three_digits(number: int, text: str, short: str) -> None:
    assert (count(number), count(number, compact=True)) == (text, short)


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(None, "–"), (0.0, "0"), (0.4, "0"), (12.3, "12"), (1234.5, "1,230"), (239_876.0, "240,000")],
)
def test_rates_have_three_digits(per_s: float | None, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (12_345_678, "12.3 MB"), (5e18, "5000 PB")],
)
def test_sizes_have_three_digits_and_a_unit(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.123, "0.12 s"),
        (0.999, "1.0 s"),
        (7, "7 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min 00 s"),
        (7199, "1 h 59 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plurals_have_an_s() -> None:
    assert [plural(number, "split") for number in (0, 1, 2_000)] == ["0 splits", "1 split", "2,000 splits"]


def test_long_texts_lose_their_middle() -> None:
    assert [shortened("abcdefgh", width) for width in (8, 7, 6, 2)] == ["abcdefgh", "abc…fgh", "abc…gh", "a…"]


def test_a_name_that_is_not_there_has_a_hint_if_a_known_one_is_like_it() -> None:
    assert did_you_mean("zoen", ["fare", "zone"]) == "; did you mean 'zone'?"
    assert did_you_mean("x", ["fare", "zone"]) == ""
