"""The check that two results can be compared: same rows, and densities in the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError, some, warn
from dkde.numerics.kernels import get_kernel
from dkde.results.rereading import first_difference, read_back
from dkde.runs.origin import provenance_of
from dkde.runs.scored_rows import ScoredRows

_SOURCE_ROW = "source_row"


def paired_rows(
    a: Sequence[ScoredRows],
    b: Sequence[ScoredRows],
    bandwidths: Sequence[float | None] = (None, None),
) -> tuple[ScoredRows, ScoredRows]:
    """Return the rows that both results scored, test rows in preference to others.

    Parameters
    ----------
    a, b : sequence of ScoredRows
        The rows that each result scored; test rows last.
    bandwidths : pair of float or None
        The bandwidths that are wanted. Rows that were scored at others are only taken if there are
        no better ones.

    Raises
    ------
    InputError
        When both scored no rows in common; the message says what differs.
    """
    # A sweep has two kinds of rows: try all pairs, those of two test rows first.
    pairs = list(product(reversed(a), reversed(b)))
    pairs.sort(key=lambda pair: sum(side.split != "test" for side in pair))
    checked = [(pair, _difference_of_rows(*pair)) for pair in pairs]
    same = [(pair, doubt) for pair, (reason, doubt) in checked if reason is None]
    if not same:
        reason = checked[0][1][0]
        raise InputError(
            f"a and b did not score the same rows: {reason}; compare results of one query"
        )
    # Where it is uncertain whether the rows are the same, only rows of the same role are taken, if
    # there are any.
    likely = [(p, doubt) for p, doubt in same if doubt is None or p[0].split == p[1].split]
    same = likely or same
    chosen, doubt = next((each for each in same if _are_scored_at(each[0], bandwidths)), same[0])
    if doubt is not None:
        warn(
            f"it is not known whether a and b scored the same rows ({doubt}); they are taken to be "
            "the same, as both scored as many"
        )
    folds = [side.values["held_out_in"] for side in chosen if "held_out_in" in side.values]
    if len(folds) == 2 and not np.array_equal(folds[0], folds[1]):
        warn(
            "a and b were cross-validated in different folds: the same row was scored under "
            "different rows"
        )
    return chosen


def _are_scored_at(pair: Sequence[ScoredRows], bandwidths: Sequence[float | None]) -> bool:
    """Return whether both sides of a pair were scored at the bandwidths that are wanted."""
    for side, bandwidth in zip(pair, bandwidths, strict=True):
        try:
            if bandwidth is not None:
                side.at(bandwidth)
        except InputError:
            return False
    return True


def _difference_of_rows(a: ScoredRows, b: ScoredRows) -> tuple[str | None, str | None]:
    """Return how the rows of two sides differ, or why their equality is not certain.

    Both are None if the rows are certainly the same.
    """
    shapes = [tuple(side.values.sizes[dim] for dim in side.dims) for side in (a, b)]
    if shapes[0] != shapes[1]:
        sizes = [" x ".join(map(str, shape)) for shape in shapes]
        return f"a has {sizes[0]} {a.split} rows, and b {sizes[1]} {b.split} rows", None
    # The folds say nothing about the rows; `paired_rows` compares them itself.
    in_both = [name for name in a.coordinates if name in b.coordinates and name != "held_out_in"]
    unlike = [name for name in [*a.dims, *in_both] if not _equal(a, b, name)]
    for name in unlike:
        if name != _SOURCE_ROW:
            return f"the {name} of their rows differ", None
    # Cheap marks first: rows are only read again if these leave it open.
    parts = _parts(a), _parts(b)
    is_marked = _same_marks(*parts)
    same, doubt = (True, None) if is_marked else _same_content(a, b)
    # In a data set the checksum is that of a split, and source_row numbers the rows in it. In other
    # files the checksum is that of all splits, and the ranges of the parts show which rows were
    # scored. Rows with different numbers in two data sets may still be the same: then the second
    # reading decides, and the numbers only if it failed.
    if unlike and (is_marked or same is None):
        return f"the {_SOURCE_ROW} of their rows differ", None
    if is_marked and _SOURCE_ROW not in in_both and _ranges(parts[0]) != _ranges(parts[1]):
        return f"a's are {_named(parts[0])}, and b's {_named(parts[1])}", None
    if same is False:
        return f"a's are {_named(parts[0])}, and b's {_named(parts[1])} with other values", None
    return None, doubt


def _equal(a: ScoredRows, b: ScoredRows, name: str) -> bool:
    """Return whether a coordinate is the same for the rows of both; True if one lacks it."""
    if name not in a.values.coords or name not in b.values.coords:
        return True
    x, y = (np.asarray(side.values[name].values) for side in (a, b))
    if x.shape != y.shape:
        return False
    # NaN equals NaN; objects such as text go through `array_equal`.
    return bool(np.array_equal(x, y) or np.all((x == y) | ((x != x) & (y != y))))


def _parts(side: ScoredRows) -> list[Mapping[str, Any]] | None:
    """Return the parts of the query, with adjacent ones joined; None if unknown.

    The same rows may have been named in one range or in several: "test" or "test[:5]+test[5:]".
    """
    query = side.described.get("query")
    if not query:
        return None
    joined: list[Any] = []
    for part in query["parts"]:
        last = joined[-1] if joined else None
        if last and (last["name"], last["checksum"], last["stop"]) == (
            part["name"], part["checksum"], part["start"],
        ):  # fmt: skip
            last["stop"] = part["stop"]
        else:
            joined.append(dict(part))
    return joined


def _same_content(a: ScoredRows, b: ScoredRows) -> tuple[bool | None, str | None]:
    """Return whether the rows of both have the same values, or why that is unknown.

    The rows are read again, even if the runs recorded different sources: one may be a copy of the
    other, elsewhere or in another format.
    """
    widths = {side.described.get("query", {}).get("stored_features") for side in (a, b)}
    if len(widths - {None}) == 2:
        return None, None  # `check_units` refuses densities of different features, and says so
    kinds = [[_kind(part) for part in _parts(side) or []] for side in (a, b)]
    alike = kinds[0] == kinds[1] and None not in kinds[0] and len(kinds[0]) == 1
    # If both have one part of the same kind, different marks mean different values, so that the
    # answer is known even if the rows cannot be read again.
    (x, why), (y, why_not) = (read_back(side) for side in (a, b))
    if x is None or y is None:
        return (False, None) if alike else (None, why or why_not)
    return first_difference(x, y) is None, None


def _kind(part: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return a key under which different marks of two parts mean different values; None if none.

    Marks of arrays in memory and of splits of data sets are computed from the values, as stored.
    Marks of other files depend on more than the values.
    """
    if part["checksum"] is None:
        in_memory = part.get("source") in ("ArraySource", "VariablesSource")
        of_values = in_memory and part.get("opened") is None
    else:
        of_values = part.get("source") == "ZarrSource"
    noted = (part.get(name) for name in ("source", "dtype", "scale", "offset", "columns", "names"))
    return tuple(noted) if of_values else None


def _same_marks(a: list[Mapping[str, Any]] | None, b: list[Mapping[str, Any]] | None) -> bool:
    """Return whether the records of both runs show that the sources are the same."""
    marks = [[_mark(part) for part in side or []] for side in (a, b)]
    return bool(marks[0]) and None not in marks[0] and marks[0] == marks[1]


def _mark(part: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return the mark that identifies the values of a part's rows; None if there is none."""
    columns, fingerprint = part.get("columns"), part.get("fingerprint")
    taken = None if columns is None else tuple(columns)
    if part["checksum"] is not None:
        return part["checksum"], part["stop"] - part["start"], taken
    return None if fingerprint is None else (fingerprint, part["start"], part["stop"], taken)


def _ranges(parts: list[Mapping[str, Any]] | None) -> list[tuple[str, int, int]]:
    return [(_split(part["name"]), part["start"], part["stop"]) for part in parts or []]


def _split(name: str) -> str:
    """Return the split at the end of a name; "" for a file that has only one."""
    return name.rpartition("::")[2] if "::" in name else ""


def _named(parts: list[Mapping[str, Any]] | None) -> str:
    names = [f"{part['name']}[{part['start']}:{part['stop']}]" for part in parts or []]
    return " + ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_units(results: Sequence[xr.Dataset], sides: Sequence[ScoredRows]) -> None:
    """Refuse densities in different units, and warn of values that are not densities.

    Names of features are compared where both results have them, but for principal components and
    on the sphere, which have units of their own. Scores of a kernel that is not a density are only
    compared with scores of the same kernel, metric and bandwidth matrix.

    Parameters
    ----------
    results : pair of xarray.Dataset
        The results a and b.
    sides : pair of ScoredRows
        The rows of each that are compared. Without a description there is nothing to check.

    Raises
    ------
    InputError
        When the log-densities are in different units: the message says why.
    """
    described = [side.described for side in sides]
    if not all(described):
        return
    features = [d["query"]["features"] for d in described]
    principal = ["pca_components" in result for result in results]
    words = [
        f"{n} {'principal components' if pca else 'features'}"
        for n, pca in zip(features, principal, strict=True)
    ]
    if features[0] != features[1] or principal[0] != principal[1]:
        raise InputError(
            f"a is a density of {words[0]} and b of {words[1]}: log-densities in different units "
            "cannot be compared"
        )
    # A density on the sphere is per steradian, whatever the units of the data.
    spherical = [get_kernel(d["kernel"]).sphere for d in described]
    if spherical[0] != spherical[1]:
        raise InputError(
            f"{'ab'[spherical.index(True)]} is a density on the sphere and the other one is not: "
            "log-densities in different units cannot be compared"
        )
    if principal[0] and not all(
        results[0][name].equals(results[1][name]) for name in ("pca_components", "pca_mean")
    ):
        raise InputError(
            "a and b are densities of different principal components; compute the components of "
            "both from the same rows"
        )
    names = [_feature_names(d) for d in described]
    known = None not in names and not principal[0] and not all(spherical)
    if known and isinstance(names[0], list) and isinstance(names[1], list):
        if names[0] != names[1]:
            raise InputError(
                f"a is a density of {some(names[0])} and b of {some(names[1])}, which are not the "
                "same features"
            )
    elif known and names[0] != names[1]:
        raise InputError(f"a and b are densities of {words[0]} with different names")
    stored = [d["query"]["stored_features"] for d in described]
    if not principal[0] and any(n < m for n, m in zip(features, stored, strict=True)):
        warn(
            f'singular="drop" kept {features[0]} dimensions that vary, of {max(stored)} features; '
            "the densities can be compared only if a and b kept the same ones"
        )
    kinds = [(d["kernel"], d["metric"]) for d in described]
    no_density = [_is_no_density(result) for result in results]
    if any(no_density):
        options = [provenance_of(result).get("options", {}) for result in results]
        same = kinds[0] == kinds[1] and all(no_density)
        if not (same and options[0].get("covariance") == options[1].get("covariance")):
            name = kinds[no_density.index(True)][0]
            raise InputError(
                f"kernel {name!r} is no density of {features[0]} features: its scores compare "
                "with those of no other kernel, metric or bandwidth matrix"
            )
        warn(
            f"kernel {kinds[0][0]!r} is no density of {features[0]} features: the differences are "
            "of scores, not of log-densities"
        )


def _feature_names(described: Mapping[str, Any]) -> list[str] | str | None:
    """Return the feature names, sorted, as a density does not depend on their order.

    A text is a digest of very many names; None means that there are no names.
    """
    names: list[str] | str | None = described["query"]["parts"][0].get("names")
    return sorted(names) if isinstance(names, list) else names


def _is_no_density(result: xr.Dataset) -> bool:
    """Return whether a result's scores are no density: then its bits per dimension are NaN."""
    if "bits_per_dimension" not in result:
        return False
    undefined = np.isnan(result["bits_per_dimension"].values)
    return bool((undefined & ~np.isnan(result["mean_log_likelihood"].values)).any())
