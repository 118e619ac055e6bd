"""Comparison of two results or more on the same rows, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import InputError, warn
from dkde.estimation.density_units import NATS, ROWS
from dkde.estimation.statistics import mean
from dkde.results.compared_bandwidths import bandwidths_of_both, compared_bandwidth
from dkde.results.damage import named_damage
from dkde.results.differences import FIGURES, Pairs
from dkde.results.named import named_results
from dkde.results.pairing import check_units, paired_rows
from dkde.runs.opened import opened_result, opened_results
from dkde.runs.scored_rows import scored_rows
from dkde.runs.store import MAIN
from dkde.typing import ResultLike

# The names of the comparison's own variables: coordinates of the rows with such names are left out.
_OWN_NAMES = {
    "class", "class_name", "difference", "difference_error", *FIGURES,
    *(f"class_{name}" for name in FIGURES),
}  # fmt: skip
# Of each result of several: the variable, and the attribute of a comparison of two.
_OF_RESULT = {
    "split": "split", "bandwidth": "bandwidth", "mean_log_likelihood": "mean",
    "n_zero_density": "n_zero_density",
}  # fmt: skip
# A coordinate with more values than this is taken to be a number of its own for each row.
_MOST_CLASSES = 10_000


def compare(
    a: ResultLike,
    b: ResultLike | None = None,
    *others: ResultLike,
    bandwidth: float | str | Sequence[float | str] | None = None,
    by: str | None = None,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
) -> xr.Dataset:
    """Compare densities on the rows that all scored, row by row.

    The log-densities of each row are subtracted, a's minus b's. What makes a row likely or unlikely
    under both densities cancels, so that the standard error of the mean difference is far below
    that of either mean.

    Parameters
    ----------
    a, b, *others : xarray.Dataset, xarray.DataArray, path or URL
        Results, as for :func:`dkde.export`. They must have scored the same rows in the same order.
        A dict of results gives their names: ``compare({"wide": a, "narrow": b, "full": c})``.
    bandwidth : float or str, or sequence of them, optional
        One bandwidth for all results, or one for each, as the results have them; or a length on
        the Earth, ``"500km"``. One number has the unit of the first result that contains it. By
        default the best bandwidth of each result; a result with several and no best one is refused.
    by : str, optional
        A coordinate of the rows, whose values are classes that are compared separately as well;
        by default ``label``, if the rows have it.
    sources : mapping of str to path, optional
        Where data lie that were moved apart from the results, as for :func:`dkde.verify`.
    trust_sources : bool
        Open all data that the result names, wherever they are, as for :func:`dkde.verify`.

    Returns
    -------
    xarray.Dataset
        Of two results: ``difference`` of each row, in nats, and ``difference_error``, the proven
        bound on its error; ``mean_difference`` and its ``standard_error``, std (ddof = 1) over
        the root of the number of rows; ``z``, their ratio; ``interval_low`` and
        ``interval_high``, the 95 % confidence interval, 1.96 standard errors to either side;
        ``mean_difference_error``, the bound on the mean's own error;
        ``n``, how many rows, without those that both left out for missing features;
        ``share_a`` and ``share_b``, the shares that a and b won, and ``share_tied``: a row is
        tied if the difference is no larger than its bound, or both densities are zero; labelled
        log-densities come without bounds, and any difference counts then. The same
        of each class, with ``class_`` before the names, along ``class``, with ``class_name``
        where the data set has names. Attributes:
        ``split_a``, ``bandwidth_a`` (on the sphere with ``bandwidth_unit_a``, "km" or "radian"),
        ``mean_a``, ``n_zero_density_a``, and so for b.

        Of more results: the figures of each pair along ``pair``, with the names ``a`` and ``b``
        of the two; ``split``, ``bandwidth``, ``mean_log_likelihood`` and ``n_zero_density``
        along ``result``. Each interval is of its pair alone: of many pairs some leave out zero
        by chance. Differences of rows are not kept: compare two results for these.

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
    given = a if b is None and not others else [a, b, *others]
    if isinstance(given, xr.Dataset) or not isinstance(given, Mapping | list | tuple):
        raise InputError("one result is given; a comparison is of two or more")
    results = named_results(given)
    if len(results) < 2:
        raise InputError("one result is given; a comparison is of two or more")
    opened = opened_results([*results.values()], sources, trusting=trust_sources)
    if len(results) > 2:
        return compared_pairs(dict(zip(results, opened, strict=True)), bandwidth, by)
    first, second = opened
    with named_damage(*results.values()):
        return compared((first, second), bandwidth, by)


def compared_pairs(results: Mapping[str, Any], bandwidth: Any, by: str | None) -> xr.Dataset:
    """Compare each pair of results; see :func:`compare` for what is returned.

    Raises
    ------
    InputError, DataSetError
        As :func:`compare`; the message names the pair.
    """
    names = list(results)
    one = bandwidth is None or isinstance(bandwidth, str) or np.ndim(bandwidth) == 0
    if not one and len(bandwidth) != len(names):
        raise InputError(
            f"{len(bandwidth)} bandwidths are given for {len(names)} results; give one for all, "
            "or one for each"
        )
    opened = {name: opened_result(result) for name, result in results.items()}
    found, said = {}, dict[str, None]()
    for (i, a), (j, b) in combinations(enumerate(names), 2):
        wanted = bandwidth if one else [bandwidth[i], bandwidth[j]]
        with named_damage(results[a], results[b]), catch_warnings(record=True) as caught:
            simplefilter("always")
            try:
                pair = compared((opened[a], opened[b]), wanted, by)
            except InputError as error:
                raise InputError(f"{a} (a) and {b} (b): ", error.message) from error
        # The differences of rows would take the memory of all pairs at once.
        found[a, b] = pair.drop_vars(["difference", "difference_error"])
        said |= dict.fromkeys(f"{a} (a) and {b} (b): {each.message}" for each in caught)
    for message in said:
        warn(message)
    return _stacked(found, names)


def _stacked(found: Mapping[tuple[str, str], xr.Dataset], names: list[str]) -> xr.Dataset:
    """Return the comparisons of pairs as one Dataset."""
    pairs = list(found.values())
    # Rows that one of a pair left out make its mean NaN; all pairs are of the same rows else.
    of: dict[str, dict[str, Any]] = {}
    for (a, b), each in found.items():
        for name, side in ((a, "a"), (b, "b")):
            of.setdefault(name, {
                key: each.attrs[f"{attribute}_{side}"] for key, attribute in _OF_RESULT.items()
            })  # fmt: skip
    units = {each.attrs.get(f"bandwidth_unit_{side}") for each in pairs for side in "ab"} - {None}
    figures = [name for name in (*FIGURES, *(f"class_{n}" for n in FIGURES)) if name in pairs[0]]
    variables: dict[str, Any] = {
        name: (
            ("pair", *pairs[0][name].dims),
            np.stack([each[name].values for each in pairs]),
            pairs[0][name].attrs,
        )
        for name in figures
    }
    notes = {"mean_log_likelihood": NATS, "n_zero_density": ROWS} | (
        {"bandwidth": {"units": units.pop()}} if len(units) == 1 else {}
    )
    for key in _OF_RESULT:
        variables[key] = ("result", [of[name][key] for name in names], notes.get(key, {}))
    coords = {
        "result": names,
        "a": ("pair", [a for a, _ in found]),
        "b": ("pair", [b for _, b in found]),
        **{name: pairs[0][name].variable for name in ("class", "class_name") if name in pairs[0]},
    }
    title = f"Comparison of {len(names)} densities"
    return xr.Dataset(variables, coords, {"title": title, "by": pairs[0].attrs["by"]})


def compared(results: tuple[xr.Dataset, xr.Dataset], bandwidth: Any, by: str | None) -> xr.Dataset:
    """Compare two opened results."""
    # First the check that the rows are the same, as bandwidths and units are theirs.
    wanted = bandwidths_of_both(bandwidth, results)
    sides = paired_rows(scored_rows(results[0]), scored_rows(results[1]), wanted)
    check_units(results, sides)
    at = [
        compared_bandwidth(result, side, h, name)
        for result, side, h, name in zip(results, sides, wanted, "ab", strict=True)
    ]
    picked = [side.at(h) for side, h in zip(sides, at, strict=True)]
    pairs = Pairs.of(*picked)
    dims = sides[0].dims
    notes = {"long_name": "log-density under a minus that under b"} | NATS
    found = {
        "difference": (dims, pairs.difference, notes),
        "difference_error": (dims, pairs.bound, {"long_name": "bound on its error"} | NATS),
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
