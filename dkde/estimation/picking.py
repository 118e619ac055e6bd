"""The random choice of training rows, with probabilities in proportion to their weights."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.moments import gather_missing
from dkde.engine.pool import PoolFor
from dkde.engine.reading import ALL_ZERO, NOTHING_COUNTS, read_weights
from dkde.engine.scale_reading import read_scales
from dkde.errors import Argument, InputError
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray


def pick(train: Side, n_samples: int, rng: Any, pool_for: PoolFor) -> npt.NDArray[np.int64]:
    """Return numbers of training rows, picked with probability in proportion to weight.

    Raises
    ------
    InputError
        When no row counts.
    """
    # Drawn first and in one call, so that a seed gives the same numbers with and without weights.
    at = rng.uniform(size=n_samples)
    picked: npt.NDArray[np.int64]
    missing = None
    if train.rows.drops_missing:
        with pool_for(sides=[train]) as pool:
            missing = gather_missing(train, pool)
        if missing.all():
            raise InputError(NOTHING_COUNTS)
    # Equal chances: the rows that count are numbered through. The minimum is for a uniform number
    # so near to 1 that the product rounds up.
    if train.weights is None and missing is not None:
        counting = np.flatnonzero(~missing)
        picked = counting[np.minimum((at * len(counting)).astype(np.int64), len(counting) - 1)]
        return picked
    if train.weights is None:
        picked = np.minimum((at * train.rows.n_rows).astype(np.int64), train.rows.n_rows - 1)
        return picked
    # With weights: the inverse of their cumulative distribution, over positive weights alone, so
    # that rounding never picks a row of weight zero.
    weights = read_weights(train, 0, train.rows.n_rows, missing)
    assert weights is not None
    counting = np.flatnonzero(weights > 0)
    if not len(counting):
        raise InputError(ALL_ZERO)
    # Divided by the largest, since weights on a large scale would overflow in the sum.
    shares = np.cumsum(weights[counting] / weights.max())
    found = np.searchsorted(shares, at * shares[-1], side="right")
    picked = counting[np.minimum(found, len(counting) - 1)]
    return picked


def scales_of(train: Side, picked: npt.NDArray[np.int64]) -> FloatArray:
    """Return the scales (n,) of these rows' bandwidths.

    Raises
    ------
    InputError
        When one of them, or of a row that is read with them, cannot be used.
    """
    assert train.scales is not None
    found = np.empty(len(picked))
    # In the order of the rows, so that each range is read once.
    order = np.argsort(picked, kind="stable")
    for start, stop in pairwise(train.scales.cuts(0, train.rows.n_rows)):
        a, b = np.searchsorted(picked[order], (start, stop))
        if a == b:
            continue
        missing = np.ones(stop - start, np.bool_)
        missing[picked[order[a:b]] - start] = False
        scales = read_scales(train, start, stop, missing)
        assert scales is not None
        found[order[a:b]] = scales[picked[order[a:b]] - start]
    return found


def sources_of(rows: Rows, picked: npt.NDArray[np.int64]) -> FloatArray:
    """Return the values (n, n_features) of these rows, before any linear map.

    Raises
    ------
    InputError
        When some are not finite: only the rows picked are read, so that no other check saw them.
    """
    sources = rows.take(picked)
    if not np.isfinite(sources).all():
        row = int(picked[~np.isfinite(sources).all(axis=1)][0])
        raise InputError(
            f"training row {row} has values that are not finite; drop such rows (those with NaN: ",
            Argument("nan", "drop"),
            ")",
        )
    return sources
