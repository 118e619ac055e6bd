"""Ranges of rows that are read together are those that are read one by one."""

import numpy as np
import pytest
import zarr

import dkde
from dkde.engine.reading import read_present, read_present_each
from dkde.rows.side import Part, Rows, Side
from dkde.rows.sources import ArraySource, ZarrSource

RANGES = [(0, 8), (20, 28), (60, 68), (95, 100)]


def made(weights):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 3))
    values[rng.random(100) < 0.3, 1] = np.nan
    values[10] = 0.0
    store = zarr.create_array(zarr.storage.MemoryStore(), data=values, chunks=(64, 3))
    rows = Rows((Part(ZarrSource(store), 0, 100, "a"),), drops_missing=True)
    return Side(
        rows, ArraySource(weights), ArraySource(rng.integers(0, 5, 100)),
        ArraySource(rng.uniform(0.5, 2, 100)),
    )  # fmt: skip


def test_weights_groups_and_scales_stay_with_their_rows():
    side = made(np.random.default_rng(1).uniform(0, 1, 100))
    found = list(read_present_each(side, RANGES))
    for each, (start, stop) in zip(found, RANGES, strict=True):
        for value, alone in zip(each, read_present(side, start, stop), strict=True):
            np.testing.assert_array_equal(value, alone)
    assert any(each.n_missing for each in found)


def test_a_row_between_the_ranges_is_not_refused():
    weights = np.ones(100)
    weights[10] = -1.0
    side = made(weights)
    assert len(list(read_present_each(side, RANGES))) == len(RANGES)
    with pytest.raises(dkde.InputError, match="weight of row 10"):
        list(read_present_each(side, [(0, 8), (9, 12)]))
