"""Folds: scikit-learn's, as one number a row."""

import threading
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, LeaveOneOut, RepeatedKFold, ShuffleSplit, TimeSeriesSplit

import dkde
from dkde.errors import InputError
from dkde.estimation.folds import counting_rows, fold_numbers, folds_of_splits
from dkde.inputs.sides import catalog_of, operands, side
from dkde.workers.cluster import pool_for


def assert_folds(numbers, splitter, n_rows):
    assert numbers.shape == (n_rows,)
    assert numbers.dtype == np.int64
    for fold, (train, test) in enumerate(splitter.split(np.empty(n_rows))):
        np.testing.assert_array_equal(np.flatnonzero(numbers == fold), np.sort(test))
        np.testing.assert_array_equal(np.flatnonzero(numbers != fold), np.sort(train))


@given(st.integers(2, 200), st.data())
def test_a_number_is_k_fold(n_rows, data):
    n_folds = data.draw(st.integers(2, n_rows))
    assert_folds(fold_numbers(n_folds, n_rows), KFold(n_folds), n_rows)
    assert_folds(fold_numbers(np.int32(n_folds), n_rows), KFold(n_folds), n_rows)


@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.data())
def test_shuffled_as_k_fold_shuffles(n_rows, seed, data):
    n_folds = data.draw(st.integers(2, n_rows))
    numbers = fold_numbers(n_folds, n_rows, shuffle=True, random_state=seed)
    assert_folds(numbers, KFold(n_folds, shuffle=True, random_state=seed), n_rows)


def test_a_random_state_is_used_up_as_k_fold_does():
    ours, theirs = (np.random.RandomState(3) for _ in range(2))
    for _ in range(2):
        numbers = fold_numbers(4, 30, shuffle=True, random_state=ours)
        assert_folds(numbers, KFold(4, shuffle=True, random_state=theirs), 30)


def test_leave_one_out_has_a_fold_for_each_row():
    assert_folds(fold_numbers("loo", 9), LeaveOneOut(), 9)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_given_folds_are_kept(dtype):
    given_folds = np.array([7, 7, 2, 0, 7], dtype)
    np.testing.assert_array_equal(fold_numbers(given_folds, 5), given_folds)
    assert fold_numbers(given_folds, 5).dtype == np.int64
    np.testing.assert_array_equal(fold_numbers(given_folds.tolist(), 5), given_folds)


@pytest.mark.parametrize(
    ("folds", "n_rows", "keywords", "message"),
    [
        (1, 9, {}, "folds is 1; at least two are needed"),
        (0, 9, {}, "folds is 0"),
        (-3, 9, {}, "folds is -3"),
        (10, 9, {}, "there are 9 rows and 10 folds; take fewer folds"),
        ("leave one out", 9, {}, "folds is 'leave one out'; give a number of folds, \"loo\""),
        ("loo", 1, {}, "there is 1 row, and no other to score it under"),
        (5.0, 9, {}, r"folds is of shape \(\) and dtype float64; give a number of folds"),
        (None, 9, {}, r"folds is of shape \(\) and dtype object"),
        ([0, 1], 3, {}, r"folds is of shape \(2,\) and dtype int64; .* one integer for each of 3"),
        ([[0, 1]], 2, {}, r"folds is of shape \(1, 2\)"),
        ([0.0, 1.0], 2, {}, r"dtype float64"),
        ([4, 4, 4], 3, {}, "folds puts all rows into one fold; at least two are needed"),
        (3, 9, {"random_state": 1}, "random_state"),
        (3, 9, {"shuffle": "yes"}, "shuffle must be True or False"),
        (3, 9, {"shuffle": True, "random_state": "seed"}, "'seed'"),
    ],
)
def test_refusals(folds, n_rows, keywords, message):
    with pytest.raises(InputError, match=message):
        fold_numbers(folds, n_rows, **keywords)


class TestSplits:
    def test_of_any_splitter_that_holds_out_each_row_once(self):
        splitter = KFold(4, shuffle=True, random_state=5)
        assert_folds(folds_of_splits(splitter.split(np.empty(30)), 30), splitter, 30)

    def test_by_masks_as_scikit_learn_takes_them(self):
        mask = np.array([True, False, False, True])
        numbers = folds_of_splits([(~mask, mask), (mask, ~mask)], 4)
        np.testing.assert_array_equal(numbers, [0, 1, 1, 0])

    @pytest.mark.parametrize(
        ("splitter", "message"),
        [
            (
                RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
                "split 2 of cv holds out rows",
            ),
            (ShuffleSplit(8, test_size=0.5, random_state=0), "split 1 of cv holds out rows"),
            (ShuffleSplit(1, test_size=0.5, random_state=0), "cv never holds out row"),
            (TimeSeriesSplit(3), "split 0 of cv does not train on all rows that it does not hold"),
        ],
    )
    def test_of_others_are_refused(self, splitter, message):
        with pytest.raises(InputError, match=message):
            folds_of_splits(splitter.split(np.empty(30)), 30)

    def test_what_is_wrong_is_named(self):
        rows = np.arange(4)
        with pytest.raises(InputError, match="never holds out row 2; hold out each row once"):
            folds_of_splits([(rows[2:], rows[:2]), (rows[:3], rows[3:])], 4)
        with pytest.raises(InputError, match="split 1 of cv does not train on all rows"):
            folds_of_splits([(rows[2:], rows[:2]), (rows[:1], rows[2:])], 4)
        with pytest.raises(InputError, match="split 0 of cv does not train on all rows"):
            folds_of_splits([(rows, rows[:2]), (rows[:2], rows[2:])], 4)


def side_of(rows, weights=None, *, drops):
    (operand,) = operands(catalog_of(None), train=rows)
    found = side(operand, weights)
    return replace(found, rows=replace(found.rows, drops_missing=drops))


class TestCountingRows:
    N = 70_000

    @pytest.fixture
    def rows(self):
        rows = np.random.default_rng(0).normal(size=(self.N, 1))
        rows[::7] = np.nan
        return rows

    def test_are_found_by_the_workers(self, rows):
        threads = set()

        def seen(block):
            threads.add(threading.get_ident())
            return block

        lazy = da.from_array(rows, chunks=(5_000, 1)).map_blocks(seen, meta=np.empty((0, 0)))
        counting = counting_rows(side_of(lazy, drops=True), pool_for)
        np.testing.assert_array_equal(counting, ~np.isnan(rows[:, 0]))
        assert threads
        assert threading.get_ident() not in threads

    def test_have_a_weight(self, rows):
        weights = np.arange(self.N) % 3.0
        weights[[0, 5]] = -1, np.nan  # the former is of a row that is left out
        counting = counting_rows(side_of(rows, weights, drops=True), pool_for)
        np.testing.assert_array_equal(counting, ~np.isnan(rows[:, 0]) & (weights > 0))
        assert counting_rows(side_of(rows, np.ones(self.N), drops=False), pool_for) is None
        assert counting_rows(side_of(np.ones((9, 1)), np.ones(9), drops=True), pool_for) is None
        weights[self.N - 5] = -1
        with pytest.raises(InputError, match=f"the weight of row {self.N - 5} is -1"):
            counting_rows(side_of(rows, weights, drops=True), pool_for)


class TestLazyFoldsOfUnknownLength:
    ROWS = np.random.default_rng(0).normal(size=(60, 2))
    H = (0.1, 0.4, 9.0)

    @pytest.mark.parametrize("of", [lambda folds: folds, lambda folds: xr.DataArray(folds)])
    def test_are_folds(self, of):
        folds = da.from_array(np.arange(80) % 4, chunks=9)
        folds = folds[da.from_array(np.arange(80) >= 20, chunks=9)]
        found = dkde.cross_validate(self.ROWS, self.H, folds=of(folds))
        np.testing.assert_array_equal(found.held_out_in, np.arange(20, 80) % 4)
        assert np.isnan(folds.shape[0])  # the caller's array is as it was
        expected = dkde.cross_validate(self.ROWS, self.H, folds=np.arange(20, 80) % 4)
        np.testing.assert_array_equal(found.log_density, expected.log_density)

    def test_of_another_length_are_refused(self):
        folds = da.from_array(np.arange(80) % 4, chunks=9)
        with pytest.raises(InputError, match=r"^folds is of shape \(40,\) .* each of 60 rows$"):
            dkde.cross_validate(self.ROWS, self.H, folds=folds[folds > 1])

    def test_masked_ones_are_refused(self):
        folds = np.ma.masked_array(np.arange(80) % 4, mask=np.arange(80) == 23)
        folds = da.from_array(folds, chunks=9)[da.from_array(np.arange(80) >= 20, chunks=9)]
        with pytest.raises(InputError, match=r"^folds: row 3 has a missing value"):
            dkde.cross_validate(self.ROWS, self.H, folds=folds)

    def test_weights_and_groups_of_unknown_length_are_refused(self):
        lazy = da.arange(1, 61, chunks=9)
        lazy = lazy[lazy > 0]
        with pytest.raises(InputError, match=r"^train weights have unknown chunk sizes; call"):
            dkde.log_density(self.ROWS, self.ROWS, 1.0, weights=lazy)
        with pytest.raises(InputError, match=r"^query groups have unknown chunk sizes; call"):
            dkde.log_density(self.ROWS, self.ROWS, 1.0, groups=lazy, train_groups=lazy)
