"""Folds: rows that are held out together, as one fold number for each row."""

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

LEAVE_ONE_OUT = "loo"
# The fold of each row, and a mask of the rows that count.
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
        The number of folds of consecutive rows, as for scikit-learn's ``KFold``; a fold for
        each row; or the fold of each row.
    shuffle, random_state
        As for ``KFold``: rows are put into folds at random.
    counting : array (n_rows,) of bool, optional
        A mask of the rows that count; all by default. A number of folds divides these alone.

    Raises
    ------
    InputError
    """
    if isinstance(folds, str):
        if folds != LEAVE_ONE_OUT:
            raise InputError(
                f'folds is {folds!r}; give a number of folds, "loo", or the fold of each row'
            )
        if n_rows < 2:
            raise InputError(
                f"there is {n_rows} row, and no other to score it under; leave-one-out needs two"
            )
        return np.arange(n_rows, dtype=np.int64)
    if isinstance(folds, Integral):
        # More folds than rows is refused below, in words that do not speak of rows that count.
        n_counting = n_rows if counting is None else int(counting.sum())
        n_folds = int(folds)
        if n_counting < n_folds <= n_rows:
            raise InputError(
                f"there are {n_counting} rows that count (of positive weight, nothing missing) and "
                f"{n_folds} folds; take fewer folds"
            )
        return spread(_k_folds(n_folds, n_counting, shuffle, random_state), counting)
    return _given(folds, n_rows)


def counting_rows(side: Side, pool_for: PoolFor) -> Counting | None:
    """Return a mask of rows with positive weight and no missing values; None if all count.

    The weights are read here. The rows are read on the workers, and only if rows with missing
    values are to be left out.

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
                weights = read_weights(side, 0, n_rows, missing)  # 0 for rows left out
            # The pool warns of missing chunks. Those of the weights are handed to it, or they would
            # be reported twice.
            add_absent(pool.absent, absent)
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
    # How many rows count up to each row, less one, is the number of the last one that does. Rows
    # before the first that counts go with it.
    found: Folds = numbers[np.maximum(np.cumsum(counting) - 1, 0)]
    return found


def folds_of_splits(
    splits: Iterable[tuple[Any, Any]], n_rows: int, *, counting: Counting | None = None
) -> Folds:
    """Return the fold of each row, from the splits that scikit-learn's splitters yield.

    Parameters
    ----------
    splits : iterable of (training rows, held-out rows)
    counting : array (n_rows,) of bool, optional
        A mask of the rows that count; all by default. The splits are of these alone.

    Raises
    ------
    InputError
        When a row is never held out, or twice, or when a split does not train on all other
        rows. One pass over the pairs cannot score such splits.
    """
    n_split = n_rows if counting is None else int(counting.sum())
    numbers = np.full(n_split, -1, np.int64)  # -1 for rows that are not held out yet
    for fold, (train, held_out) in enumerate(splits):
        train, held_out = _rows(train), _rows(held_out)
        if (numbers[held_out] >= 0).any():
            raise InputError(
                f"split {fold} of cv holds out rows that an earlier split holds out; hold out each "
                "row once"
            )
        numbers[held_out] = fold
        # A mask, since a splitter may name a training row more than once.
        others = np.zeros(n_split, bool)
        others[train] = True
        if others[held_out].any() or others.sum() + len(held_out) != n_split:
            raise InputError(
                f"split {fold} of cv does not train on all rows that it does not hold out; "
                "use scikit-learn's GridSearchCV for such splits"
            )
    if (numbers < 0).any():
        # Named by its number among all rows, which the user knows.
        row = int((numbers < 0).argmax())
        row = row if counting is None else int(np.flatnonzero(counting)[row])
        raise InputError(f"cv never holds out row {row}; hold out each row once")
    return spread(numbers, counting)


def _rows(selected: Any) -> npt.NDArray[Any]:
    """Return row numbers, given as numbers or as a mask."""
    check_opened(selected)
    selected = np.asarray(selected)
    return np.flatnonzero(selected) if selected.dtype == bool else selected


def _k_folds(n_folds: int, n_rows: int, shuffle: bool, random_state: Any) -> Folds:
    """Return the folds that scikit-learn's ``KFold`` makes of the rows."""
    if n_folds < 2:
        raise InputError(f"folds is {n_folds}; at least two are needed")
    if n_rows < n_folds:
        raise InputError(f"there are {n_rows} rows and {n_folds} folds; take fewer folds")
    if not isinstance(shuffle, bool):
        raise InputError(f"shuffle must be True or False; it is {shuffle!r}")
    if random_state is not None and not shuffle:
        raise InputError("random_state is used only with shuffle=True; set it, or leave this out")
    rows = np.arange(n_rows)
    if shuffle:
        try:
            check_random_state(random_state).shuffle(rows)
        except ValueError as error:
            raise InputError(f"random_state {random_state!r} is no seed") from error
    # The same folds as scikit-learn's KFold. That makes a mask of all rows for each fold, which
    # takes long for many folds.
    sizes = np.full(n_folds, n_rows // n_folds)
    sizes[: n_rows % n_folds] += 1
    numbers = np.empty(n_rows, np.int64)
    numbers[rows] = np.repeat(np.arange(n_folds), sizes)
    return numbers


def _given(folds: Any, n_rows: int) -> Folds:
    """Return folds that are given as one number for each row."""
    lazy = folds.data if isinstance(folds, xr.DataArray) else folds
    if isinstance(lazy, da.Array) and any(map(np.isnan, lazy.shape)):
        folds = lazy.compute()  # its length is not known before
    if isinstance(folds, xr.DataArray | da.Array | zarr.Array) and folds.ndim == 1:
        # Read by `vector`, which refuses a missing fold where `may_miss` is False.
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
