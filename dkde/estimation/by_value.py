"""Densities of groups of rows: one for each value of a variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.pool import PoolFor
from dkde.engine.work import Work
from dkde.errors import Argument, InputError, Remedy, warn
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, rules_among
from dkde.estimation.fitted import Fitted
from dkde.estimation.labelling import RESERVED
from dkde.estimation.options import Options
from dkde.estimation.query_forms import densities_of
from dkde.inputs.as_frames import framed_like
from dkde.inputs.dividing import Division
from dkde.inputs.operands import Operand
from dkde.inputs.sides import side
from dkde.rows.filter_values import value_words
from dkde.rows.side import Side
from dkde.runs.grouped import GROUP_BANDWIDTH, OF_GROUPS
from dkde.typing import FloatArray


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
        train_groups: Any = None,
        common: bool = False,
        resolved: Callable[[Side], Any] | None = None,
    ) -> FittedGroups:
        """Return the densities of the groups; read only what the bandwidths need.

        Parameters
        ----------
        bandwidth, pool_for
            As for :meth:`Options.bandwidth_matrix`.
        weights, train_groups : arrays (rows,), optional
            Of all rows of the division; weights may be a name.
        resolved : callable, optional
            Returns the bandwidth of training rows, in place of ``bandwidth``.
        common : bool
            Whether the bandwidth matrix of all rows is that of each group. Otherwise a rule, and a
            covariance of the rows, is applied to each group by itself.

        Raises
        ------
        InputError
            Where a group has too few rows for the rule; the message names it.
        """

        def prepared(t: Operand) -> Side:
            return options.prepared(side(t, weights, train_groups))

        def fitted(train: Side) -> Fitted:
            own = bandwidth if resolved is None else resolved(train)
            return Fitted.to(train, own, options, pool_for)

        sides = [_of_group(division, i, prepared, t) for i, t in enumerate(division.groups)]
        if common:
            matrix = fitted(prepared(division.whole)).matrix
            groups = [Fitted(options, matrix, matrix.whiten(each)) for each in sides]
        else:
            _refuse_single(division, sides, bandwidth)
            groups = [_of_group(division, i, fitted, each) for i, each in enumerate(sides)]
        _warn_of_few(division, sides)
        return cls(division, tuple(groups))

    def works(self, query: Side, *, in_shares: bool = True) -> list[Work]:
        """Return the work of scoring a prepared query under each group."""
        return [group.work(query, in_shares=in_shares) for group in self.groups]

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
            "out, give the bandwidth as a number, or take that of all rows ",
            Remedy("common_bandwidth"),
        )


def _warn_of_few(division: Division, sides: Sequence[Side]) -> None:
    """Warn of groups with fewer rows than it takes to span their space."""
    least = sides[0].rows.n_features + 1
    if few := [i for i, each in enumerate(sides) if each.rows.n_rows < least]:
        warn(f"{division.naming(few)}: fewer than {least} rows (the number of features plus one)")


def bandwidths_asked(bandwidth: Any) -> list[str]:
    """Return bandwidths as a call gave them, as text: of features' scales h is 1.

    Examples
    --------
    >>> bandwidths_asked("scott"), bandwidths_asked([0.5, 1]), bandwidths_asked({"depth": 10})
    (['scott'], ['0.5', '1'], ['1'])
    """
    if isinstance(bandwidth, str):
        return [bandwidth]
    if bandwidth is None or isinstance(bandwidth, Mapping):
        return ["1" if bandwidth else "silverman"]
    return [h if isinstance(h, str) else f"{h:g}" for h in np.ravel(np.asarray(bandwidth, object))]


def scales_of(groups: Sequence[Fitted]) -> FloatArray | None:
    """Return the scales of the features in the C of each group; None where C is the same in all.

    Returns
    -------
    array (n_groups, n_features), optional
        The square roots of the diagonal of C; 0 for features that were dropped.
    """
    if len({id(group.matrix.covariance.linear) for group in groups}) == 1:
        return None
    found = np.array([np.sqrt(np.diag(group.matrix.covariance.matrix)) for group in groups])
    return None if (found == found[0]).all() else found


def check_common(by: Any, *, common: bool) -> None:
    """Refuse ``common_bandwidth`` without groups.

    Raises
    ------
    InputError
    """
    if common and by is None:
        raise InputError(
            Argument("common_bandwidth"),
            " is for the groups of ",
            Argument("by"),
            "; name a variable, or leave it out",
        )


def check_dim(dim: str, q: Operand, role: str) -> None:
    """Refuse a dim of groups, and coordinates, whose names the result needs for something else.

    Raises
    ------
    InputError
    """
    labels = {*map(str, q.labels()), *q.dims}
    moved = {f"query_{dim}"} if dim in labels else set()
    if clash := sorted(labels & (OF_GROUPS | moved)):
        raise InputError(
            f"{role} has a dim or coordinate {clash[0]!r}, a name that the result of groups needs "
            "for itself; rename it"
        )
    if dim in RESERVED | OF_GROUPS or dim in q.dims:
        raise InputError(
            Argument("by"), f": {dim!r} would be the name of the groups' dim, and is one that the "
            f"result needs {f'for a dim of {role}' if dim in q.dims else 'for itself'}; rename it"
        )  # fmt: skip


def densities_by(
    q: Operand, query: Side, fitted: FittedGroups, *, scalar: bool
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return log-densities and bounds on their errors under each group.

    Parameters
    ----------
    q : Operand
        The query, and ``query`` its prepared side.
    fitted : FittedGroups
    scalar : bool
        Whether there is one bandwidth, and no dimension for it.

    Returns
    -------
    two arrays (group, rows), or (group, bandwidth, rows)
        Computed now for a NumPy query, and lazy for any other. The dim of the groups has the name
        of their variable.
    """
    dim, values = fitted.division.dim, fitted.division.values
    pairs = [
        densities_of(q, [work], group.matrix, scalar=scalar)
        for group, work in zip(
            fitted.groups, fitted.works(query, in_shares=q.form == "numpy"), strict=True
        )
    ]
    bandwidths = fitted.bandwidths()
    along = () if scalar else ("bandwidth",)
    of_groups = xr.DataArray(values, dims=[dim], name=dim)

    def joined(found: list[Any]) -> xr.DataArray:
        labelled = [_labelled(each, q, along, dim) for each in found]
        stacked = xr.concat(labelled, of_groups, coords="minimal", compat="override")
        coords = {GROUP_BANDWIDTH: ((dim, *along), bandwidths[:, 0] if scalar else bandwidths)}
        if not scalar and (bandwidths == bandwidths[0]).all():
            coords["bandwidth"] = bandwidth_coordinate(fitted.groups[0].matrix)
        return stacked.assign_coords(coords)

    values_of, errors_of = zip(*pairs, strict=True)
    return joined(list(values_of)), joined(list(errors_of))


def groups_in_frames(query: Any, q: Operand, found: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return log-densities of groups, and bounds on their errors, like the query's data frame.

    Parameters
    ----------
    query : data frame
    q : Operand
        The query as it was scored.
    found : two arrays (group, rows), or (group, bandwidth, rows)
        As from :func:`densities_by`.
    """
    first = found[0]
    dim = str(first.dims[0])
    names = value_words(first[dim].values)
    if first.ndim > 2:
        names = [f"{n}_{float(h)!r}" for n, of in zip(names, first[GROUP_BANDWIDTH].values,
                 strict=True) for h in of]  # fmt: skip
    values, errors = (
        framed_like(
            query, q, array.data.reshape(len(names), -1), [f"{prefix}_{name}" for name in names]
        )
        for array, prefix in zip(found, ("log_density", "log_density_error"), strict=True)
    )
    return values, errors


def _labelled(found: Any, q: Operand, along: tuple[str, ...], dim: str) -> xr.DataArray:
    """Return an array of one group as a DataArray without a coordinate of bandwidths."""
    if not isinstance(found, xr.DataArray):
        return xr.DataArray(found, dims=(*along, *q.dims), name="log_density")
    bare = found.drop_vars("bandwidth", errors="ignore")
    return bare.rename({dim: f"query_{dim}"}) if dim in bare.coords else bare
