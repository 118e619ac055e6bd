"""The log-densities of a piece of work, from those of its first rows and the work of added ones.

Sums over training rows add up: the first query rows need the added training rows alone. Only added
query rows need all training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from dkde.engine.moments import gather_missing, gather_weight
from dkde.engine.reading import read_groups, read_weights
from dkde.engine.work import Work
from dkde.estimation.fitted import Fitted
from dkde.numerics.logsum import Densities, mixed, n_density_rows
from dkde.numerics.piecewise import pieces
from dkde.rows.side import Side
from dkde.rows.slicing import between
from dkde.runs.job import Compute
from dkde.stores.scratch import room_beside
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for

# From here on a group has so much of the weight that the rest is added up by itself.
_MOST = 0.5


@dataclass(frozen=True, eq=False)
class FirstRows:
    """The log-densities of the first rows of a piece of work, under its first training rows.

    Parameters
    ----------
    fitted : Fitted
        The density of all rows.
    stored : Densities
        Of the first query rows, as a result keeps them.
    bandwidths : array (n_bandwidths,)
        The values of h of these.
    n_train : int
        The number of the first training rows.
    """

    fitted: Fitted
    stored: Densities
    bandwidths: FloatArray
    n_train: int

    def are_of(self, work: Work) -> bool:
        """Return whether the log-densities are of the bandwidths of a piece of work."""
        return np.array_equal(self.bandwidths, work.task.bandwidths)

    def works(self, name: str, work: Work) -> dict[str, Work]:
        """Return the work of the added rows of a piece of work, by its name in the run."""
        query, train = work.query, work.train
        n_query, n_train = self.stored.values.shape[1], self.n_train
        fitted, found = self.fitted.at(work.task.bandwidths), {}
        if n_train < train.rows.n_rows:
            added = between(train, n_train, train.rows.n_rows)
            first = between(query, 0, n_query)
            found[f"{name}-new-train"] = fitted.options.work(first, added, fitted.matrix)
        if n_query < query.rows.n_rows:
            more = between(query, n_query, query.rows.n_rows)
            found[f"{name}-new-query"] = fitted.options.work(more, train, fitted.matrix)
        return found

    def densities(self, name: str, work: Work, compute: Compute) -> Densities:
        """Return the log-densities of all rows of a piece of work; compute those of added rows.

        Raises
        ------
        InputError
            When none of the added training rows counts.
        """
        under_added, more = f"{name}-new-train", f"{name}-new-query"
        works, found = self.works(name, work), self.stored
        if under_added in works:
            added = works[under_added]
            first = between(work.train, 0, self.n_train)
            # Weights are read first, so that bad ones fail before the work.
            weights = [log_weights(side, added.query) for side in (first, added.train)]
            new = compute(under_added, added)
            found = _added_up(found, new, weights)
        if more not in works:
            return found
        return _one_after_the_other(found, compute(more, works[more]))


def _added_up(first: Densities, added: Densities, log_weights: Sequence[FloatArray]) -> Densities:
    """Return log-densities under all training rows, in the place of those under added ones.

    These were computed for this sum alone, and there may be no room for a third array of all rows.
    """
    for rows in pieces(added.values):
        parts = zip((first.at(rows), added.at(rows)), log_weights, strict=True)
        whole = mixed((each, weight[rows]) for each, weight in parts)
        added.values[:, rows], added.errors[:, rows] = whole.values, whole.errors
        for counts, of_both in zip(added.effort, whole.effort, strict=True):
            counts[rows] = of_both
    return added


def _one_after_the_other(first: Densities, added: Densities) -> Densities:
    """Return the log-densities of all query rows, on the disk if those of the first ones are."""
    n, n_first = len(first.values), first.values.shape[1]
    shape = n_density_rows(n), n_first + added.values.shape[1]
    found = Densities.of(room_beside(first.values, shape))
    for each, place in ((first, slice(0, n_first)), (added, slice(n_first, None))):
        there = found.at(place)
        for target, values in zip(
            (there.values, there.errors, *there.effort),
            (each.values, each.errors, *each.effort), strict=True,
        ):  # fmt: skip
            target[...] = values
    return found


def log_weights(train: Side, query: Side) -> FloatArray:
    """Return the log of the weight of the training rows that count for each query row.

    Parameters
    ----------
    train, query : Side
        Where they have groups, pairs of equal groups do not count.

    Returns
    -------
    array (query rows,)
        ``-inf`` for a query row for which none counts.

    Raises
    ------
    InputError
        When a weight is not valid, or no training row counts.
    """
    n_rows = query.rows.n_rows
    if train.groups is None or query.groups is None:
        with pool_for(sides=[train]) as pool:
            whole = gather_weight(train, pool)
        return np.broadcast_to(log(whole.total) + whole.exponent * log(2), n_rows)
    groups = np.asarray(read_groups(train.groups, 0, train.rows.n_rows))
    asked = np.asarray(read_groups(query.groups, 0, n_rows))
    known, members = np.unique(groups, return_inverse=True)
    rest = _rest_of_each(members, len(known), _weights_that_count(train))
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    # The last entry is for query rows of a group that has no training rows.
    return rest[np.where(known[place] == asked, place, len(known))]


def _weights_that_count(train: Side) -> FloatArray:
    """Return the weight of each training row; 0 for those left out."""
    missing, n_rows = None, train.rows.n_rows
    if train.rows.drops_missing:
        with pool_for(sides=[train]) as pool:
            missing = gather_missing(train, pool)
    weights = read_weights(train, 0, n_rows, missing)
    if weights is not None:
        return weights
    return np.ones(n_rows) if missing is None else (~missing).astype(np.float64)


def _rest_of_each(members: Any, n_groups: int, weights: FloatArray) -> FloatArray:
    """Return the log of the weight of all rows outside of each group, and last of all rows.

    Parameters
    ----------
    members : array (rows,) of int
        The group of each row.
    """
    top = weights.max(initial=0.0) or 1.0
    weights = weights / top
    own = np.bincount(members, weights, n_groups)
    total = weights.sum()
    rest = total - own
    # A difference of nearly equal sums would lose digits: at most two groups have half of all.
    for group in np.flatnonzero(own >= _MOST * total):
        rest[group] = weights[members != group].sum()
    # Sums may round a rest of nothing to a little, or to less than nothing.
    counting = weights > 0
    n_others = counting.sum() - np.bincount(members, counting, n_groups)
    rest[n_others == 0] = 0.0
    with np.errstate(divide="ignore"):
        found: FloatArray = np.log(np.append(rest, total)) + log(top)
    return found


def methods_of(name: str, works: Mapping[str, Work], methods: Mapping[str, str]) -> str:
    """Return how the log-densities of a piece of work were found, in words."""
    words = {f"{name}-new-train": "added training rows", f"{name}-new-query": "added query rows"}
    return "stored log-densities" + "".join(
        f"; {words[each]} by {methods.get(each, 'an unknown method')}" for each in works
    )
