"""Folds: scikit-learn's, as one number a row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, LeaveOneOut, RepeatedKFold, ShuffleSplit, TimeSeriesSplit

from dkde.density.folds import fold_numbers, folds_of_splits
from dkde.errors import InputError


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
        ("loo", 1, {}, "there is 1 row to leave out"),
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
            (RepeatedKFold(n_splits=2, n_repeats=2, random_state=0), "of split 2 twice"),
            (ShuffleSplit(8, test_size=0.5, random_state=0), "of split 1 twice"),
            (ShuffleSplit(1, test_size=0.5, random_state=0), "cv never holds out row"),
            (TimeSeriesSplit(3), "split 0 of cv does not train on all rows that it does not hold"),
        ],
    )
    def test_of_others_are_refused(self, splitter, message):
        with pytest.raises(InputError, match=message):
            folds_of_splits(splitter.split(np.empty(30)), 30)

    def test_what_is_wrong_is_named(self):
        rows = np.arange(4)
        with pytest.raises(InputError, match="never holds out row 2; each row is held out once"):
            folds_of_splits([(rows[2:], rows[:2]), (rows[:3], rows[3:])], 4)
        with pytest.raises(InputError, match="split 1 of cv does not train on all rows"):
            folds_of_splits([(rows[2:], rows[:2]), (rows[:1], rows[2:])], 4)
        with pytest.raises(InputError, match="split 0 of cv does not train on all rows"):
            folds_of_splits([(rows, rows[:2]), (rows[:2], rows[2:])], 4)
