"""Folds: rows that are held out together, as one number a row."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from sklearn.utils import check_random_state

from dkde.engine.moments import gather_missing
from dkde.engine.pool import PoolFor
from dkde.engine.reading import read_weights
from dkde.engine.same_code import ALLOW
from dkde.errors import InputError
from dkde.inputs.arrays import numbers_of, vector
from dkde.rows.side import Side
from dkde.stores.absent import add_absent, gathering
from dkde.stores.door import check_opened

Folds = npt.NDArray[np.int64]
Counting = npt.NDArray[np.bool_]


def fold_numbers(
    folds: int | str | npt.ArrayLike,
    n_rows: int,
    *,
    shuffle: bool = False,
    random_state: Any = None,
    counting: Counting | None = None,
) -> Folds:
    """Return the fold of each row.

    Parameters
    ----------
    folds : int, "loo" or array (n_rows,) of int
        How many folds of rows that follow each other, as scikit-learn's ``KFold``; a fold for
        each row; or the fold of each row.
    shuffle, random_state
        As for ``KFold``: rows are put into folds at random.
    counting : array (n_rows,) of bool, optional
        Which rows count; all by default. A number of folds is shared out over these alone.

    Raises
    ------
    InputError
    """
    if isinstance(folds, str):
        if folds != "loo":
            raise InputError(f'folds is {folds!r}; give a number of folds, "loo", or each row\'s')
        if n_rows < 2:
            raise InputError(f"there is {n_rows} row to leave out, and none to score it under")
        return np.arange(n_rows, dtype=np.int64)
    if isinstance(folds, Integral):
        n_counting = n_rows if counting is None else int(counting.sum())
        n_folds = int(folds)
        if n_counting < n_folds <= n_rows:
            raise InputError(
                f"there are {n_counting} rows that count and {n_folds} folds; take fewer folds"
            )
        return spread(_k_folds(n_folds, n_counting, shuffle, random_state), counting)
    return _given(folds, n_rows)


def counting_rows(side: Side, pool_for: PoolFor) -> Counting | None:
    """Return a mask of rows with positive weight and no missing values; None if all count.

    Weights are read; the rows too, on the workers, where those with missing values are left out.

    Raises
    ------
    InputError
        When a weight is not valid.
    """
    missing, n_rows = None, side.rows.n_rows
    if side.rows.drops_missing:
        with pool_for(sides=[side], manner=ALLOW) as pool:  # a mask has no last bits
            missing = gather_missing(side, pool)
            with gathering() as absent:
                weights = read_weights(side, 0, n_rows, missing)  # 0 of those left out
            add_absent(pool.absent, absent)  # or what the weights lack would be said twice
    else:
        weights = read_weights(side, 0, n_rows)
    if weights is not None:
        counting: Counting = weights > 0
    elif missing is not None:
        counting = ~missing
    else:
        return None
    return None if counting.all() else counting


def spread(numbers: Folds, counting: Counting | None) -> Folds:
    """Return the folds of all rows, from the folds of the rows that count.

    A row that does not count is in the fold of the row before it.

    Examples
    --------
    >>> spread(np.array([0, 1]), np.array([False, True, False, True]))
    array([0, 0, 0, 1])
    """
    if counting is None:
        return numbers
    found: Folds = numbers[np.maximum(np.cumsum(counting) - 1, 0)]
    return found


def folds_of_splits(
    splits: Iterable[tuple[Any, Any]], n_rows: int, *, counting: Counting | None = None
) -> Folds:
    """Return the fold of each row, from the pairs that scikit-learn's splitters yield.

    Parameters
    ----------
    splits : iterable of (training rows, held-out rows)
    counting : array (n_rows,) of bool, optional
        Which rows count; all by default. Splits are of these alone.

    Raises
    ------
    InputError
        When some row is held out never or twice, or the training rows are not all others: one
        pass cannot do that.
    """
    n_split = n_rows if counting is None else int(counting.sum())
    numbers = np.full(n_split, -1, np.int64)
    for fold, (train, held_out) in enumerate(splits):
        train, held_out = _rows(train), _rows(held_out)
        if (numbers[held_out] >= 0).any():
            raise InputError(f"cv holds out rows of split {fold} twice; each is held out once")
        numbers[held_out] = fold
        others = np.zeros(n_split, bool)
        others[train] = True
        if others[held_out].any() or others.sum() + len(held_out) != n_split:
            raise InputError(
                f"split {fold} of cv does not train on all rows that it does not hold out; "
                "use scikit-learn's GridSearchCV for such splits"
            )
    if (numbers < 0).any():
        row = int((numbers < 0).argmax())
        row = row if counting is None else int(np.flatnonzero(counting)[row])
        raise InputError(f"cv never holds out row {row}; each row is held out once")
    return spread(numbers, counting)


def _rows(selected: Any) -> npt.NDArray[Any]:
    """Return row numbers, given as numbers or as a mask."""
    check_opened(selected)
    selected = np.asarray(selected)
    return np.flatnonzero(selected) if selected.dtype == bool else selected


def _k_folds(n_folds: int, n_rows: int, shuffle: bool, random_state: Any) -> Folds:
    if n_folds < 2:
        raise InputError(f"folds is {n_folds}; at least two are needed")
    if n_rows < n_folds:
        raise InputError(f"there are {n_rows} rows and {n_folds} folds; take fewer folds")
    if not isinstance(shuffle, bool):
        raise InputError(f"shuffle must be True or False; it is {shuffle!r}")
    if random_state is not None and not shuffle:
        raise InputError("random_state is for shuffle=True; leave one of them out")
    rows = np.arange(n_rows)
    if shuffle:
        try:
            check_random_state(random_state).shuffle(rows)
        except ValueError as error:
            raise InputError(f"random_state {random_state!r} is no seed") from error
    # As scikit-learn's KFold has it, whose masks of all rows for each fold take long for many.
    sizes = np.full(n_folds, n_rows // n_folds)
    sizes[: n_rows % n_folds] += 1
    numbers = np.empty(n_rows, np.int64)
    numbers[rows] = np.repeat(np.arange(n_folds), sizes)
    return numbers


def _given(folds: Any, n_rows: int) -> Folds:
    lazy = folds.data if isinstance(folds, xr.DataArray) else folds
    if isinstance(lazy, da.Array) and any(map(np.isnan, lazy.shape)):
        folds = lazy.compute()  # nobody knows the length before that
    if isinstance(folds, xr.DataArray | da.Array | zarr.Array) and folds.ndim == 1:
        n_folds = int(folds.shape[0])
        folds = vector(folds, "folds", n_folds, may_miss=False).read(0, n_folds)
    numbers = np.asarray(numbers_of(folds, "folds", may_miss=False))
    if numbers.shape != (n_rows,) or numbers.dtype.kind not in "iu":
        raise InputError(
            f"folds is of shape {numbers.shape} and dtype {numbers.dtype}; give a number of folds, "
            f'"loo", or one integer for each of {n_rows} rows'
        )
    if len(np.unique(numbers)) < 2:
        raise InputError("folds puts all rows into one fold; at least two are needed")
    return numbers.astype(np.int64)
