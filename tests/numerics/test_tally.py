"""Figures of columns, batch by batch, against those of all rows at once."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkde.numerics.tally import Tally

GAPS = [np.nan, np.inf, -np.inf]


def tally_of(batches, *, spread=True):
    tally = Tally(batches[0].shape[1], spread=spread)
    for batch in batches:
        tally.take(batch)
    return tally


@given(
    seed=st.integers(0, 2**32 - 1),
    n_columns=st.sampled_from([1, 3, 16, 17, 40]),
    cuts=st.sets(st.integers(1, 49), max_size=4),
    gaps=st.integers(0, 200),
)
def test_any_batches_give_the_figures_of_all_rows(seed, n_columns, cuts, gaps):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, n_columns)) + 1e6 * rng.normal(size=n_columns)
    rows[rng.integers(0, 50, gaps), rng.integers(0, n_columns, gaps)] = rng.choice(GAPS, gaps)
    tally = tally_of(np.split(rows, sorted(cuts)))
    assert tally.n_rows == 50
    assert tally.n_missing == np.isnan(rows).sum()
    assert tally.n_infinite == np.isinf(rows).sum()
    for column in range(n_columns):
        values = rows[:, column]
        finite = values[np.isfinite(values)]
        found = tally.figures(column, scale=-2.0, offset=1.0)
        assert found["missing"] == np.isnan(values).sum()
        assert found["infinite"] == np.isinf(values).sum()
        if not finite.size:
            assert found["value_range"] is found["mean"] is found["standard_deviation"] is None
            continue
        decoded = finite * -2.0 + 1.0
        assert found["value_range"] == [decoded.min(), decoded.max()]
        np.testing.assert_allclose(found["mean"], decoded.mean(), rtol=1e-12)
        if finite.size > 1:
            expected = decoded.std(ddof=1)
            np.testing.assert_allclose(found["standard_deviation"], expected, rtol=1e-7)
        else:
            assert found["standard_deviation"] is None


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f4", "?"])
def test_any_type_of_numbers(dtype):
    rows = np.array([[0, 1], [1, 1], [1, 1]]).astype(dtype)
    tally = tally_of([rows[:2], rows[2:]])
    assert json.loads(json.dumps(tally.figures(0)))["value_range"] == [0, 1]
    assert tally.figures(1)["standard_deviation"] == 0
    assert tally.n_constant == 1


def test_a_large_offset_costs_no_digits():
    rows = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    found = tally_of(np.split(rows, 10)).figures(0)["standard_deviation"]
    np.testing.assert_allclose(found, (rows - 1e9).std(ddof=1), rtol=1e-8)


def test_what_overflows_is_not_told():
    tally = tally_of([np.array([[1e300], [-1e300]])])
    assert tally.figures(0)["standard_deviation"] is None
    assert tally.value_range() == (-1e300, 1e300)
    assert tally.value_range(1e10) is None


def test_without_a_spread_there_is_the_rest():
    tally = tally_of([np.array([[1.0, 2.0], [1.0, np.nan]])], spread=False)
    assert (tally.n_constant, tally.n_missing) == (2, 1)
    assert tally.figures(0)["mean"] is tally.figures(0)["standard_deviation"] is None


def test_one_row_says_nothing_of_constants():
    assert tally_of([np.zeros((1, 3))]).n_constant == 0
