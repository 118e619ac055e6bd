"""Comparison of two results on the same rows, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.density.row_weights import ROW_WEIGHT
from dkde.density.statistics import best_index, mean, standard_error
from dkde.errors import InputError, Remedy, warn
from dkde.numerics.bandwidth import KILOMETRES, in_kilometres
from dkde.results.pairing import check_units, paired_rows
from dkde.results.scored import ScoredRows, named_damage, opened_result, scored_rows
from dkde.runs.origin import bandwidth_unit, in_unit, with_unit
from dkde.runs.store import MAIN
from dkde.typing import FloatArray

_NATS = {"units": "nats"}
# The largest relative rounding error of a sum or a difference is half of this. The other half is
# room for the rounding errors of the bounds' own sums.
_UNIT = 2.0**-52
_FIGURES = (
    "n", "mean_difference", "standard_error", "mean_difference_error", "share_a", "share_b",
    "share_tied",
)  # fmt: skip
# The names of the comparison's own variables: coordinates of the rows with such names are left out.
_OWN_NAMES = {
    "class", "class_name", "difference", "difference_error", *_FIGURES,
    *(f"class_{name}" for name in _FIGURES),
}  # fmt: skip
# A coordinate with more values than this is taken to be a number of its own for each row.
_MOST_CLASSES = 10_000


def compare(
    a: Any,
    b: Any,
    *,
    bandwidth: float | str | Sequence[float | str] | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Compare two densities on the rows that both scored, row by row.

    The log-densities of each row are subtracted, a's minus b's. What makes a row likely or unlikely
    under both densities cancels, so that the standard error of the mean difference is far below
    that of either mean.

    Parameters
    ----------
    a, b : xarray.Dataset, xarray.DataArray, path or URL
        Results, as for :func:`dkde.export`. They must have scored the same rows in the same order.
    bandwidth : float or str, or pair of them, optional
        One bandwidth for both results, or one for each, as the results have them; or a length on
        the Earth, ``"500km"``. One number has the unit of the first result that contains it. By
        default the best bandwidth of each result; a result with several and no best one is refused.
    by : str, optional
        A coordinate of the rows, whose values are classes that are compared separately as well;
        by default ``label``, if the rows have it.

    Returns
    -------
    xarray.Dataset
        ``difference`` of each row, in nats, and ``difference_error``, the proven bound on its
        error; ``mean_difference`` and its ``standard_error``, std (ddof = 1) over the root of
        the number of rows; ``mean_difference_error``, the bound on the mean's own error;
        ``n``, how many rows, without those that both left out for missing features;
        ``share_a`` and ``share_b``, the shares that a and b won, and ``share_tied``: a row is
        tied if the difference is no larger than its bound, or both densities are zero; labelled
        log-densities come without bounds, and any difference counts then. The same
        of each class, with ``class_`` before the names, along ``class``, with ``class_name``
        where the data set has names. Attributes:
        ``split_a``, ``bandwidth_a`` (on the sphere with ``bandwidth_unit_a``, "km" or "radian"),
        ``mean_a``, ``n_zero_density_a``, and so for b.

        A row of zero density under one of the two has an infinite difference, and so has the
        mean; under both, and where there are infinite ones of both signs, it is NaN. The
        standard error is then NaN.

        Where both results have the same weights of rows, the means, standard errors and shares
        are weighted by them, as those of :func:`dkde.score` are, and rows of weight zero are left
        out. Where only one has some, or they differ, each row counts once, with a warning.

    Raises
    ------
    InputError
        When the rows are not the same, or the densities are in different units. The message says
        what differs.
    DataSetError
        When a result is damaged or not complete.

    Examples
    --------
    >>> import dkde
    >>> a, b = (dkde.score("test", "train", h, source="digits") for h in (2.0, 3.0))
    >>> found = dkde.compare(a, b)
    >>> round(float(found.mean_difference), 3), round(float(found.standard_error), 3)
    (-1.522, 0.708)
    """
    results = opened_result(a), opened_result(b)
    with named_damage(a, b):
        return _compared(results, bandwidth, by)


def _compared(results: tuple[xr.Dataset, xr.Dataset], bandwidth: Any, by: str | None) -> xr.Dataset:
    """Compare two opened results."""
    # First the check that the rows are the same, as bandwidths and units are theirs.
    wanted = _bandwidths_of_both(bandwidth, results)
    sides = paired_rows(scored_rows(results[0]), scored_rows(results[1]), wanted)
    check_units(results, sides)
    at = [
        _bandwidth(result, side, h, name)
        for result, side, h, name in zip(results, sides, wanted, "ab", strict=True)
    ]
    picked = [side.at(h) for side, h in zip(sides, at, strict=True)]
    pairs = _Pairs.of(*picked)
    dims = sides[0].dims
    notes = {"long_name": "log-density under a minus that under b"} | _NATS
    found = {
        "difference": (dims, pairs.difference, notes),
        "difference_error": (dims, pairs.bound, {"long_name": "bound on its error"} | _NATS),
        **pairs.figures([pairs.compared], ()),
    }
    # Coordinates are those of a: both results have the same rows.
    coords: dict[Any, Any] = {
        name: picked[0][name].variable for name in (*dims, *sides[0].coordinates)
        if name in picked[0].coords and name not in _OWN_NAMES
    }  # fmt: skip
    classes = _classes(picked[0], dims, by)
    if classes is not None:
        names, members = classes
        masks = [pairs.compared & (members == number) for number in range(len(names))]
        per_class = pairs.figures(masks, ("class",))
        found |= {f"class_{name}": entry for name, entry in per_class.items()}
        coords["class"] = ("class", names)
        # Classes may be codes that have names, such as 3 for "cat".
        if words := sides[0].names(by or "label"):
            called = np.array([words.get(value, str(value)) for value in names.tolist()], object)
            coords["class_name"] = ("class", called)
    attributes: dict[str, Any] = {"title": "Comparison of two densities", "by": by or "label"}
    for name, side, h, values in zip("ab", sides, at, pairs.values, strict=True):
        attributes |= {
            f"split_{name}": side.split,
            f"bandwidth_{name}": h,
            **({} if side.unit is None else {f"bandwidth_unit_{name}": side.unit}),
            f"mean_{name}": float(mean(values.ravel()[pairs.compared], pairs.counting)),
            f"n_zero_density_{name}": int(np.isneginf(values.ravel()[pairs.of_weight]).sum()),
        }
    return xr.Dataset(found, coords, attributes)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The log-densities of rows under both results, and their differences.

    Parameters
    ----------
    values : pair of arrays
        The log-densities under a and under b.
    difference, bound : arrays of the same shape
        The differences, and bounds on their errors; NaN where no bound is known.
    won : array of the same shape
        1 where a is higher for certain, -1 where b is, else 0.
    compared : array (n,) of bool
        Mask of the rows, in order, that count. Left out are rows that are missing in both results,
        and rows of weight zero.
    weights : array (n,), optional
        The weights of the rows, in order.
    """

    values: tuple[FloatArray, FloatArray]
    difference: FloatArray
    bound: FloatArray
    won: FloatArray
    compared: npt.NDArray[np.bool_]
    weights: FloatArray | None = None

    @property
    def of_weight(self) -> npt.NDArray[np.bool_]:
        """Return the mask of the rows, in order, that have a positive weight."""
        if self.weights is None:
            return np.ones(len(self.compared), np.bool_)
        return self.weights > 0

    @property
    def counting(self) -> FloatArray | None:
        """Return the weights of the rows that are compared."""
        return None if self.weights is None else self.weights[self.compared]

    @classmethod
    def of(cls, a: xr.Dataset, b: xr.Dataset) -> _Pairs:
        """Return the pairs of two results at one bandwidth each.

        Raises
        ------
        InputError
            When no row is left to compare.
        """
        for name, each in (("a", a), ("b", b)):
            if f"{MAIN}_error" not in each:
                warn(f"{name} holds no bounds on its errors: any difference counts as a win")
        x, y = (np.asarray(each[MAIN].values, np.float64) for each in (a, b))
        # A row that only one result left out stays, and makes the mean NaN.
        compared = ~(np.isnan(x) & np.isnan(y)).ravel()
        weights = _weights(a, b)
        if weights is not None:
            compared &= weights > 0
        if not compared.any():
            raise InputError("all rows have missing features: there is nothing to compare")
        with np.errstate(invalid="ignore"):  # -inf minus -inf
            difference = x - y
        rounding = np.where(np.isfinite(difference), np.abs(difference), 0.0) * _UNIT
        bound = _bound(a, x) + _bound(b, y) + rounding
        # If both densities are zero, neither result wins, although the difference is NaN.
        both_zero = np.isneginf(x) & np.isneginf(y)
        is_tied = np.abs(difference) <= np.where(np.isnan(bound), 0.0, bound)
        won = np.where(both_zero | is_tied, 0.0, np.sign(difference))
        return cls((x, y), difference, bound, won, compared, weights)

    def figures(self, groups: Sequence[Any], dims: tuple[str, ...]) -> dict[str, Any]:
        """Return the figures of groups of rows, along dims; scalars without dims.

        Parameters
        ----------
        groups : sequence of array (n,) of bool
            The mask of each group.
        dims : tuple of str
            The dims of the figures; empty for one group.
        """
        flat = self.difference.ravel(), self.bound.ravel(), self.won.ravel()
        found = []
        for group in groups:
            weights = None if self.weights is None else self.weights[group]
            difference, bound, won = (values[group] for values in flat)
            found.append(_of_group(difference, bound, won, weights))
        in_nats = ("mean_difference", "standard_error", "mean_difference_error")
        notes = dict.fromkeys(in_nats, _NATS) | {"n": {"units": "rows"}}
        columns = {name: [figures[name] for figures in found] for name in _FIGURES}
        return {
            name: (dims, numbers if dims else numbers[0], notes.get(name, {"units": "1"}))
            for name, numbers in columns.items()
        }


def _bandwidths_of_both(
    bandwidth: Any, results: Sequence[xr.Dataset]
) -> tuple[float | None, float | None]:
    """Return the bandwidth of each result, in its own unit; None where none was given.

    Raises
    ------
    InputError
        When the bandwidths are not numbers, or a length on the Earth is given off the sphere.
    """
    if bandwidth is None:
        return None, None
    # A string is one bandwidth, not a sequence of characters.
    one = isinstance(bandwidth, str) or np.ndim(bandwidth) == 0
    given = [bandwidth] if one else list(bandwidth)
    try:
        read = [_parsed(each) for each in given]
    except (TypeError, ValueError):
        read = []
    if len(read) not in (1, 2) or not all(h > 0 for h, _ in read):
        raise InputError(
            f"bandwidth {bandwidth!r} is not valid; give one number for both results, or one for "
            "each"
        )
    units = [bandwidth_unit(result) for result in results]
    if len(read) == 1:
        # One number without a unit: results may have kilometres or radians, so that it is taken in
        # the unit of the result that has this very bandwidth.
        h, unit = read[0]
        has = (u for u, result in zip(units, results, strict=True) if _has_bandwidth(h, result))
        read = [(h, unit or next(has, None))] * 2
    if any(unit is not None and own is None for (_, unit), own in zip(read, units, strict=True)):
        raise InputError(
            f"bandwidth {bandwidth!r} is a length on the Earth, but the bandwidths of a result are "
            "not; give a number"
        )
    found = [in_unit(h, unit, own) for (h, unit), own in zip(read, units, strict=True)]
    return found[0], found[1]


def _parsed(bandwidth: Any) -> tuple[float, str | None]:
    """Return a bandwidth as a number, and its unit if it has one."""
    if isinstance(bandwidth, str) and bandwidth.strip().endswith("km"):
        return in_kilometres(bandwidth), KILOMETRES
    return float(bandwidth), None


def _has_bandwidth(bandwidth: float, result: xr.Dataset) -> bool:
    """Return whether a result has a bandwidth, which may be given in fewer digits."""
    known = np.asarray(result["bandwidth"].values, np.float64)
    return bool(np.isclose(known, bandwidth, rtol=1e-6, atol=0).any())


def _bandwidth(result: xr.Dataset, side: ScoredRows, wanted: float | None, name: str) -> float:
    """Return the bandwidth that is compared: the one asked for, the only one, or the best.

    Raises
    ------
    InputError
        When there are several and no best one; it names the one that the rows would choose.
    """
    known = np.asarray(side.values["bandwidth"].values, np.float64)
    if wanted is not None:
        return float(side.at(wanted)["bandwidth"])
    if len(known) == 1:
        return float(known[0])
    if "best_bandwidth" in result:
        return float(result["best_bandwidth"])
    # What follows only serves the message: the best bandwidth by the mean over the rows.
    values = np.asarray(side.values[MAIN].transpose("bandwidth", *side.dims).values, np.float64)
    values = values.reshape(len(known), -1)
    there = ~np.isnan(values).any(axis=0)
    weights = None
    if ROW_WEIGHT in side.values:
        weights = np.asarray(side.values[ROW_WEIGHT].values, np.float64).ravel()
        there &= weights > 0
        weights = weights[there]
    best = known[best_index(known, mean(values[:, there], weights))]
    raise InputError(
        f"{name} has {len(known)} bandwidths and no best one; name one ",
        Remedy("bandwidth"),
        f". The rows that are compared would choose {with_unit(float(best), side.unit)}",
    )


def _bound(values: xr.Dataset, log_density: FloatArray) -> FloatArray:
    """Return proven bounds on errors; NaN where the result holds none."""
    errors = np.asarray(values.get(f"{MAIN}_error", np.nan), np.float64)
    return np.where(np.isneginf(log_density), 0.0, errors)


def _weights(a: xr.Dataset, b: xr.Dataset) -> FloatArray | None:
    """Return the row weights that both results share; None where they share none."""
    known = [
        np.asarray(each[ROW_WEIGHT].values, np.float64).ravel() for each in (a, b)
        if ROW_WEIGHT in each
    ]  # fmt: skip
    if len(known) == 2 and np.array_equal(known[0], known[1]):
        return known[0]
    if known:
        warn(
            "a and b have different weights of rows: in the differences each row counts once "
            "(score both with the same weights to have the differences weighted)"
        )
    return None


def _of_group(
    difference: FloatArray, bound: FloatArray, won: FloatArray, weights: FloatArray | None
) -> dict[str, float]:
    """Return the figures of one group of rows, by name."""
    n = len(difference)
    if n == 0:  # a class all of whose rows have missing features
        return dict.fromkeys(_FIGURES, float("nan")) | {"n": 0}
    with np.errstate(invalid="ignore"):
        centre = float(mean(difference, weights))
        finite = np.isfinite(difference).all()
        error = float(standard_error(difference[None], weights)[0]) if finite else float("nan")
    return {
        "n": n,
        "mean_difference": centre,
        "standard_error": error,
        "mean_difference_error": float(
            mean(bound, weights) + _rounding_of_mean(difference, weights)
        ),
        "share_a": float(mean((won > 0).astype(np.float64), weights)),
        "share_b": float(mean((won < 0).astype(np.float64), weights)),
        "share_tied": float(mean((won == 0).astype(np.float64), weights)),
    }


def _rounding_of_mean(difference: FloatArray, weights: FloatArray | None = None) -> float:
    """Return the largest rounding error of a mean.

    NumPy adds pairs of blocks of 128, so that the error grows with the logarithm of the number of
    rows. With weights their sum rounds as well, and so do the weights and the products.

    See Higham (1993), The accuracy of floating point summation, section 3.
    """
    size = float(mean(np.abs(difference), weights))
    # Within a block of 128 NumPy keeps eight sums of 16 values each; above, pairs are added.
    roundings = 16 + float(np.log2(len(difference)))
    if weights is not None:
        roundings = 2 * roundings + 4
    return roundings * _UNIT * size if np.isfinite(size) else 0.0


def _classes(
    values: xr.Dataset, dims: tuple[str, ...], by: str | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]] | None:
    """Return the classes of rows, in order, and the class number of each row; None for no classes.

    Raises
    ------
    InputError
        When the rows lack the coordinate, or it has too many values.
    """
    name = "label" if by is None else by
    if name not in values.coords:
        if by is None:
            return None
        known = ", ".join(str(c) for c in values.coords if c != "bandwidth") or "none"
        raise InputError(f"the rows have no coordinate {by!r} to compare by; they have {known}")
    # A coordinate may lie along only some of the rows' dims (a month along time, on a grid).
    coordinate = values[name].broadcast_like(values[MAIN]).transpose(*dims)
    names, members = np.unique(np.asarray(coordinate.values).ravel(), return_inverse=True)
    if len(names) > _MOST_CLASSES:
        raise InputError(
            f"{name!r} has {len(names)} values, which are too many classes; compare by another"
        )
    return names, members
