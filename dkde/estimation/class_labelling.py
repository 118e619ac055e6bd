"""Coordinates of results with classes, and classes as their values."""

from __future__ import annotations

from typing import Any

import numpy as np

from dkde.estimation.class_densities import ClassDensities
from dkde.typing import Array


def class_coordinates(densities: ClassDensities) -> dict[str, Any]:
    """Return the coordinates of bandwidths and classes."""
    matrix = densities.fitted[0].matrix
    of_classes = np.array([each.matrix.in_given_unit() for each in densities.fitted]).T
    values, notes = of_classes[:, 0], dict(matrix.notes)
    if (of_classes != values[:, None]).any():
        # A rule of each class: no one of them is the bandwidth of all.
        values = np.exp(np.log(of_classes).mean(axis=1))
        notes["long_name"] = "geometric mean of the classes' bandwidths, class_bandwidth"
    return {
        "bandwidth": ("bandwidth", values, notes),
        "class": ("class", storable(densities.classes)),
        "class_bandwidth": (("bandwidth", "class"), of_classes, matrix.notes),
    }


def storable(classes: Array) -> Array:
    """Return classes in a form that stores hold: text as objects."""
    return classes.astype(object) if classes.dtype.kind in "UT" else classes


def classes_at(classes: Array, numbers: Any) -> Array:
    """Return the classes with these numbers; NaN, or empty text, for -1.

    Examples
    --------
    >>> classes_at(np.array(["T", "B"]), np.array([1, -1])).tolist()
    ['B', '']
    >>> classes_at(np.array([3, 5]), np.array([1, -1])).tolist()
    [5.0, nan]
    """
    found: Array = storable(classes)[numbers]
    if (numbers >= 0).all():
        return found
    if found.dtype == object:
        found[numbers < 0] = ""
        return found
    absent: Any = np.datetime64("NaT") if found.dtype.kind == "M" else np.nan
    left_out: Array = np.where(numbers < 0, absent, found)
    return left_out
