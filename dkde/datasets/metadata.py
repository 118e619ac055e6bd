"""The description of the rows of a split, and the attributes of stores that hold it.

Attributes are used only if they are valid, because other programs may have written them. Each
function that reads an attribute raises ValueError or TypeError for an invalid one; the caller
makes one error of these that names the store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dkde.errors import DataSetError
from dkde.rows.side import Encoding

# Counts of values, and of features with one value only. They are stored where they are not 0.
COUNTS = ("n_missing", "n_infinite", "n_constant")


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The description of the rows of a split, in a source or in a data set.

    Parameters
    ----------
    scale_factor, add_offset : float
        A value is ``raw * scale_factor + add_offset`` in float64.
    image_shape : tuple of int, optional
        (H, W) for grey pictures, (C, H, W) with layout "CHW" or (H, W, C) with layout "HWC".
    layout : {"CHW", "HWC"}, optional
    display_range : pair of float, optional
        The values that are black and white in pictures, if not the ends of the values' range.
    features : tuple of str, optional
        The names of the features.
    classes : mapping of str to tuple of str
        For each label, the names of its values 0, 1, ...; words without blanks.
    units : tuple of (str or None), optional
        The unit of each feature, None where it is not known.
    crs : str, optional
        The coordinate reference system of features that are coordinates of points.
    """

    scale_factor: float = 1.0
    add_offset: float = 0.0
    image_shape: tuple[int, ...] | None = None
    layout: str | None = None
    display_range: tuple[float, float] | None = None
    features: tuple[str, ...] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: tuple[str | None, ...] | None = None
    crs: str | None = None

    @property
    def encoding(self) -> Encoding:
        """Return the scale and the offset with which raw values are decoded."""
        return Encoding(self.scale_factor, self.add_offset)


def checked_fields(
    attributes: Mapping[str, Any], coding: Mapping[str, Any], n_features: int
) -> dict[str, Any]:
    """Return the fields of a split from the attributes of its group and of its rows.

    Parameters
    ----------
    attributes, coding : mapping
        The attributes of the split's group, and of the array of its rows.
    n_features : int
        Number of features of the rows, with which the attributes must agree.
    """
    shape, layout = attributes.get("image_shape"), attributes.get("layout")
    # `type(n) is int` and not isinstance: JSON's true and false are no sizes.
    if shape is not None and (
        not all(type(n) is int and n > 0 for n in shape) or math.prod(shape) != n_features
    ):
        raise ValueError(f"image_shape {shape} for {n_features} features")
    if layout not in (None, "CHW", "HWC"):
        raise ValueError(f"layout {layout!r}")
    (scale,) = numbers_of([coding.get("scale_factor", 1.0)])
    (offset,) = numbers_of([coding.get("add_offset", 0.0)])
    return {
        "scale_factor": scale,
        "add_offset": offset,
        "image_shape": None if shape is None else tuple(shape),
        "layout": layout,
        **{name: count_of(coding.get(name, 0)) for name in COUNTS},
        "actual_range": range_of(coding.get("actual_range")),
        "display_range": range_of(attributes.get("display_range")),
        "features": features_of(attributes.get("feature_names"), n_features),
        "units": features_of(attributes.get("feature_units"), n_features, "units"),
        "crs": text_of(attributes.get("crs")),
    }


def text_of(value: Any) -> str | None:
    """Return a text, or None where there is none; refuse anything else."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def features_of(texts: Any, n_features: int, what: str = "names") -> tuple[Any, ...] | None:
    """Return the names or the units of the features, None if there are none.

    Parameters
    ----------
    texts : any
        The attribute, as it was read; anything but a list of texts is refused.
    n_features : int
    what : {"names", "units"}
        Every name must be a text, and units may be None.
    """
    if texts is None:
        return None
    kinds = str if what == "names" else str | None
    if (
        not isinstance(texts, list)
        or len(texts) != n_features
        or not all(isinstance(text, kinds) for text in texts)
    ):
        raise ValueError(f"feature_{what} are not the {what} of {n_features} features")
    return tuple(texts)


def count_of(value: Any) -> int:
    """Return a count; refuse anything else."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def class_words(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes as CF's ``flag_meanings`` needs them: words without blanks.

    Raises
    ------
    DataSetError
        If two names become the same word, or a name holds only blanks.

    Examples
    --------
    >>> class_words(["polar bear", "cat"])
    ('polar_bear', 'cat')
    """
    # CF separates the words by blanks, so a blank within a name would make two classes of it.
    words = tuple("_".join(name.split()) for name in names)
    if bad := {word for word, count in Counter(words).items() if not word or count > 1}:
        raise DataSetError(f"classes {min(bad)!r} differ by nothing but blanks; rename one")
    return words


def flag_attributes(names: Sequence[str]) -> dict[str, Any]:
    """Return CF attributes with the meanings of a label's values; none without names."""
    if not names:
        return {}
    return {"flag_values": [*range(len(names))], "flag_meanings": " ".join(names)}


def classes_of(meanings: Any) -> tuple[str, ...]:
    """Return the words of CF's ``flag_meanings``; an empty text has none."""
    if not isinstance(meanings, str):
        raise TypeError("flag_meanings is not a text")
    return tuple(meanings.split())


def numbers_of(values: Any) -> list[float]:
    """Return finite numbers; refuse anything else."""
    # bool is a subclass of int, and is refused by the exact types.
    numbers = [float(value) for value in values if type(value) in (int, float)]
    if len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{values!r} are not all finite numbers")
    return numbers


def range_of(ends: Any) -> tuple[float, float] | None:
    """Return the two ends of a range, None if there is none; refuse invalid ones."""
    if ends is None:
        return None
    low, high = numbers_of(ends)
    return low, high
