"""Densities of groups of rows: one for each value of a variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.eager_run import computed
from dkde.engine.pool import PoolFor
from dkde.engine.work import Work
from dkde.errors import InputError, warn
from dkde.estimation.bandwidth_matrix import rules_among
from dkde.estimation.fitted import Fitted
from dkde.estimation.options import Options
from dkde.inputs.checks import check_same_features
from dkde.inputs.dividing import Division, divided
from dkde.inputs.sides import catalog_of, operands, side
from dkde.progress import ProgressLike, shown
from dkde.rows.side import Side
from dkde.workers.cluster import pool_for

# The variable of the bandwidths of each group.
GROUP_BANDWIDTH = "group_bandwidth"


@dataclass(frozen=True, eq=False)
class FittedGroups:
    """Densities that are ready to score rows: one for each value of a variable.

    Parameters
    ----------
    division : Division
        The values, and the rows of each.
    groups : tuple of Fitted
        The density of each.
    """

    division: Division
    groups: tuple[Fitted, ...]

    @classmethod
    def to(
        cls,
        division: Division,
        bandwidth: Any,
        options: Options,
        pool_for: PoolFor,
        *,
        weights: Any = None,
        common: bool = False,
    ) -> FittedGroups:
        """Return the densities of the groups; read only what the bandwidths need.

        Parameters
        ----------
        bandwidth, pool_for
            As for :meth:`Options.bandwidth_matrix`.
        weights : array (rows,) or str, optional
            Of all rows of the division.
        common : bool
            Whether the bandwidth matrix of all rows is that of each group. Otherwise a rule, and a
            covariance of the rows, is applied to each group by itself.

        Raises
        ------
        InputError
            Where a group has too few rows for the rule; the message names it.
        """
        sides = [
            _of_group(division, i, lambda t: options.prepared(side(t, weights)), group)
            for i, group in enumerate(division.groups)
        ]
        if common:
            whole = options.prepared(side(division.whole, weights))
            matrix = options.bandwidth_matrix(whole, bandwidth, pool_for)
            groups = [Fitted(options, matrix, matrix.whiten(each)) for each in sides]
        else:
            _refuse_single(division, sides, bandwidth)
            groups = [
                _of_group(division, i, lambda t: Fitted.to(t, bandwidth, options, pool_for), each)
                for i, each in enumerate(sides)
            ]
        _warn_of_few(division, sides)
        return cls(division, tuple(groups))

    def works(self, query: Side, *, in_shares: bool = True) -> dict[str, Work]:
        """Return the work of scoring a prepared query under each group, by a name of its own."""
        return {
            f"score_{i}": group.work(query, in_shares=in_shares)
            for i, group in enumerate(self.groups)
        }

    @property
    def has_own_bandwidths(self) -> bool:
        """Return whether groups differ in their bandwidths."""
        first, *others = (group.bandwidths for group in self.groups)
        return any(not np.array_equal(first, other) for other in others)

    def bandwidths(self) -> Any:
        """Return the bandwidths (n_groups, n_bandwidths), in the unit of the call."""
        return np.array([group.matrix.in_given_unit() for group in self.groups])


def _of_group(division: Division, i: int, make: Callable[[Any], Any], given: Any) -> Any:
    """Return what is made of a group; an error names the group."""
    try:
        return make(given)
    except InputError as error:
        raise InputError(f"{division.words(i)}: ", error.message) from error


def _refuse_single(division: Division, sides: Sequence[Side], bandwidth: Any) -> None:
    """Refuse groups of one row, where a rule is to find the bandwidth of each."""
    if isinstance(bandwidth, Mapping) or not rules_among(bandwidth):
        return
    if single := [i for i, each in enumerate(sides) if each.rows.n_rows == 1]:
        raise InputError(
            f"{division.naming(single)}: one row, from which no rule finds a bandwidth; leave it "
            "out, give the bandwidth as a number, or take that of all rows (common_bandwidth)"
        )


def _warn_of_few(division: Division, sides: Sequence[Side]) -> None:
    """Warn of groups with fewer rows than it takes to span their space."""
    least = sides[0].rows.n_features + 1
    if few := [i for i, each in enumerate(sides) if each.rows.n_rows < least]:
        warn(f"{division.naming(few)}: fewer than {least} rows (the number of features plus one)")


def log_densities_by(
    train: Any,
    query: Any,
    by: Any,
    *,
    bandwidth: Any,
    options: Options | None = None,
    weights: Any = None,
    common_bandwidth: bool = False,
    source: Any = None,
    progress: ProgressLike = False,
    **choice: Any,
) -> xr.DataArray:
    """Return the log-density of each query row under the rows of each value of a variable.

    Parameters
    ----------
    train, query : sides, as for :func:`dkde.log_density`
    by : str or array (train rows,)
        As for :func:`dkde.inputs.dividing.divided`.
    bandwidth : float, str, mapping, or sequence of float or str
        As for :func:`dkde.log_density`.
    options : Options, optional
        The kernel, the covariance and all else; the defaults by default.
    weights : array (train rows,) or str, optional
        As for :func:`dkde.log_density`.
    common_bandwidth : bool
        As ``common`` of :meth:`FittedGroups.to`.
    source, progress
        As for :func:`dkde.score`.
    **choice
        ``features``, ``where``, ``row_dim``, ``lat`` and ``lon``, as for :func:`dkde.log_density`.

    Returns
    -------
    xarray.DataArray (group, bandwidth, sample)
        In nats, computed now. The coordinate ``group`` has the values, in order, and
        ``group_bandwidth (group, bandwidth)`` the bandwidths.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    options = Options() if options is None else options
    catalog = catalog_of(source, ("train", "query"), **choice, beside=(weights, by))
    t, q = operands(catalog, train=train, query=query)
    check_same_features(q, t, "query")
    fitted = FittedGroups.to(
        divided(t, by), bandwidth, options, pool_for, weights=weights, common=common_bandwidth
    )
    works = fitted.works(options.prepared(side(q, role="query")))
    with shown(progress) as report, pool_for(*works.values()) as pool:
        found = [computed(work, pool, report).values for work in works.values()]
    return xr.DataArray(
        np.stack(found),
        dims=("group", "bandwidth", "sample"),
        coords={
            "group": ("group", fitted.division.values, {"long_name": fitted.division.name}),
            GROUP_BANDWIDTH: (("group", "bandwidth"), fitted.bandwidths()),
        },
        name="log_density",
    )
