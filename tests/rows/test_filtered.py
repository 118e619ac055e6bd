"""Filtered sources: the same rows as those that NumPy picks, whatever the chunks."""

import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.rows.dask_source import DaskSource
from dkde.rows.filtered import Filtered, KeptArray, kept_of
from dkde.rows.kept import Kept
from dkde.rows.sources import ArraySource
from dkde.rows.variables import VariablesSource

ROWS = np.arange(600.0).reshape(200, 3)


def _kept(keep, start, *cuts):
    masks = np.split(keep, [cut for cut in cuts if cut <= len(keep)])
    return Kept.of("x > 1", start, start + len(keep), masks)


def _sources():
    grid = xr.Variable(("a", "b", "c"), ROWS.reshape(20, 10, 3)).chunk({"a": 3, "b": 4})
    return {
        "dask": DaskSource(da.from_array(ROWS, chunks=(17, 3))),
        "grid": VariablesSource([grid], ("a", "b"), (20, 10), ["x"]),
        "memory": ArraySource(ROWS),
    }


@pytest.mark.parametrize("kind", _sources())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_range_is_that_of_the_kept_rows(kind, data):
    source = _sources()[kind]
    start = data.draw(st.integers(0, 150))
    share = data.draw(st.sampled_from([0.03, 0.5, 1.0]))
    n = data.draw(st.integers(1, 200 - start))
    keep = np.random.default_rng(data.draw(st.integers(0, 99))).random(n) < share
    kept = _kept(keep, start, *data.draw(st.sampled_from([(), (1, 9), (8, 64), (3, 3, 100)])))
    found = pickle.loads(pickle.dumps(kept_of(source, kept)))
    wanted = start + np.flatnonzero(keep)
    assert found.shape == (len(wanted), 3)
    a = data.draw(st.integers(0, len(wanted)))
    b = data.draw(st.integers(a, len(wanted)))
    np.testing.assert_array_equal(found.read(a, b), ROWS[wanted[a:b]])
    np.testing.assert_array_equal(kept.numbers(a, b), wanted[a:b])
    rows = np.arange(start, start + n + 1)
    np.testing.assert_array_equal(kept.rank(rows), np.concatenate([[0], np.cumsum(keep)]))
    if a < b:
        cuts = found.cuts(a, b)
        assert cuts[0] == a
        assert cuts[-1] == b
        assert sorted(set(cuts)) == cuts
        numbers = source.row_name(int(wanted[a]))
        assert found.row_name(a) == numbers
        assert (np.diff(found.chunk_of(np.arange(a, b))) >= 0).all()


def test_long_ranges_are_looked_up_in_groups():
    keep = np.random.default_rng(1).random(300_000) < 0.2
    kept = _kept(keep, 5, 100_001, 200_000)
    wanted = 5 + np.flatnonzero(keep)
    assert kept.n_rows == len(wanted)
    np.testing.assert_array_equal(kept.numbers(20_000, 50_000), wanted[20_000:50_000])
    rows = np.array([5, 40_000, 40_001, 250_000, 300_005])
    np.testing.assert_array_equal(kept.rank(rows), np.searchsorted(wanted, rows))


def test_pieces_are_joined_where_few_rows_are_kept_and_memory_counts_what_is_read():
    source = DaskSource(da.zeros((4_000_000, 2), chunks=(400_000, 2)))
    keep = np.zeros(4_000_000, bool)
    keep[::40] = True
    found = kept_of(source, _kept(keep, 0))
    assert isinstance(found, Filtered)
    assert found.cuts(0, 100_000) == [0, 100_000]
    # Beside 100,000 rows of which few come from each chunk, a chunk with its own copies exists.
    assert source.read_rows == 4 * found.read_rows
    assert found.copies == (1 + source.copies) * 4


def test_the_key_says_which_rows_are_kept_and_not_by_which_words():
    some, same = (Kept.of(text, 0, 3, [np.array([True, False, True])]) for text in ("a", "b"))
    other = Kept.of("a", 0, 3, [np.array([True, True, True])])
    assert some.key == same.key != other.key
    array = kept_of(ArraySource(ROWS[:3], masked=(2, 1)), some)
    assert isinstance(array, KeptArray)
    assert array.masked == (1, 1)
    assert array.row_name(1) == "row 2"
