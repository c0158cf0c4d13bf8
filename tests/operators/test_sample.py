from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption
from raflow.operators.contract import Place
from raflow.operators.sample import Sample

BATCH = pa.record_batch({"n": range(10_000)})


def kept(sample: Sample, unit: str = "a.parquet:0") -> list[int]:
    return sample.apply(BATCH, Place(unit, 0))["n"].to_pylist()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, BATCH.num_rows), max_size=5))
def test_a_repeated_unit_gives_the_same_rows_however_it_is_cut(cuts: list[int]) -> None:
    sample, places = Sample(0.3, 7), [0, *sorted(cuts), BATCH.num_rows]
    found: list[int] = []
    for start, end in pairwise(places):
        found += sample.apply(BATCH.slice(start, end - start), Place("a.parquet:0", start))["n"].to_pylist()
    assert found == kept(sample)


def test_about_the_fraction_is_kept() -> None:
    assert 2_700 < len(kept(Sample(0.3, 7))) < 3_300


def test_units_and_seeds_choose_other_rows() -> None:
    chosen = [kept(Sample(0.3, 7)), kept(Sample(0.3, 8)), kept(Sample(0.3, 7), "a.parquet:1")]
    assert len(set(map(tuple, chosen))) == 3


def test_a_smaller_fraction_is_part_of_a_larger_one() -> None:
    assert set(kept(Sample(0.1))) < set(kept(Sample(0.2)))


def test_none_and_all_can_be_kept() -> None:
    assert kept(Sample(0)) == []
    assert len(kept(Sample(1))) == BATCH.num_rows
    assert Sample(0.5).apply(BATCH.slice(0, 0), Place("u", 0)).schema == Sample(0.5).schema(BATCH.schema)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_beyond_all_or_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidOption, match="it must be from 0 to 1"):
        Sample(fraction)
