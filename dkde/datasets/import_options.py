"""The options of an import, checked before anything is read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from operator import index

import numpy as np

from dkde.datasets.formats.source import SourceSplit, image_dims
from dkde.errors import InputError
from dkde.rows.row_filter import RowFilter

# No slash and no dot in front: the name is a folder in the store. No "_" in front either, because
# the index of a data set lies in `_index` beside the splits.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ImportOptions:
    """The user's options, as the data set records them; an option that was not given is None."""

    format: str | None
    split: str | None
    scale: float | None
    offset: float | None
    image_shape: Sequence[int] | None
    layout: str | None
    shuffle_seed: int | None
    order: bool | None = None
    columns: Sequence[str] | None = None
    label: str | None = None
    row_dim: Sequence[str] | None = None
    decimal: str | None = None
    where: str | None = None


def check_path(role: str, path: object) -> None:
    """Refuse a value that is not a path, or an empty one.

    Raises
    ------
    InputError
    """
    # Paths of bytes are valid for the system, but cannot be recorded as JSON.
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"{role} is {path!r}; it must be a path, as text or pathlib.Path")
    if not os.fspath(path):
        raise InputError(f"{role} is empty; give the path of a file or a folder")


def check_options(options: ImportOptions) -> ImportOptions:
    """Return the options as plain Python values, which can be recorded as JSON.

    Raises
    ------
    InputError
        If an option is not usable with any source.
    """
    if options.split is not None:
        check_split_name(options.split)
    scale, offset = _number("scale", options.scale), _number("offset", options.offset)
    if scale == 0:
        raise InputError("scale is 0; it must be finite and not zero")
    if options.layout not in (None, "CHW", "HWC"):
        raise InputError(
            f"layout is {options.layout!r}; it must be CHW (channels first) or HWC (channels last)"
        )
    if options.decimal not in (None, ".", ","):
        raise InputError(f"decimal is {options.decimal!r}; it must be a point or a comma")
    seed = options.shuffle_seed
    # numpy.random.RandomState takes seeds of 32 bits.
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"shuffle_seed is {seed}; it must be a whole number from 0 to 2**32 - 1")
    if seed is not None and options.order:
        raise InputError(
            "order and shuffle_seed both set the order in which rows are stored; leave one of "
            "them out"
        )
    return replace(
        options,
        scale=scale,
        offset=offset,
        image_shape=_shape(options.image_shape, options.layout),
        # int() of NumPy's integers, and None for the default: both are recorded as JSON, and a
        # default leaves no trace in the record.
        shuffle_seed=None if seed is None else int(seed),
        order=True if options.order else None,
        columns=_columns(options.columns),
        decimal=None if options.decimal == "." else options.decimal,
        label=None if options.label is None else _column(options.label),
        where=None if options.where is None else RowFilter.parsed(options.where).text,
    )


def _columns(columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    # A text is a sequence of texts too: "abc" would be the columns a, b and c.
    if isinstance(columns, str) or not len(columns):
        raise InputError(f"columns is {columns!r}; it must be a list of at least one name")
    return [_column(name) for name in columns]


def _column(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"{name!r} is not a name of a column; names are texts, and not empty")
    return name


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        # Only of numbers: float("2") would accept a text.
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise InputError(f"{name} is {value!r}; it must be one finite number")
    return number


def _shape(shape: Sequence[int] | None, layout: str | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        # operator.index takes NumPy's integers and refuses 28.0, which int() would accept.
        sizes = tuple(index(n) for n in shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(
            f"image_shape is {shape!r}; it must be two or three positive whole numbers"
        )
    if len(sizes) == 3 and image_dims(sizes, layout)[1] is None:
        raise InputError(
            f"image_shape is {sizes}, and neither its first nor its last number can be channels "
            "(1, 3 or 4); give layout CHW or HWC"
        )
    if len(sizes) == 2 and layout is not None:
        raise InputError(f"layout is {layout}, but image_shape {sizes} has no channels")
    return sizes


def check_split_name(name: object) -> None:
    """Refuse a value that cannot be the name of a split.

    Raises
    ------
    InputError
    """
    why = unusable_name(name) if isinstance(name, str) else "a split's name must be a text"
    if why is not None:
        raise InputError(f"split is {name!r}: {why}")


def unusable_name(name: str) -> str | None:
    """Return the reason why a split cannot have a name, or None if it can.

    Examples
    --------
    >>> unusable_name("train-2")
    >>> unusable_name("all")
    'all stands for every split; choose another name'
    """
    if not _SPLIT_NAME.fullmatch(name):
        return "a split's name begins with a letter or digit; after it '_', '-' and '.' may stand"
    # Case is ignored, as some file systems do.
    if name.casefold() == "all":
        return f"{name} stands for every split; choose another name"
    if name.casefold() == "zarr.json":
        return "Zarr keeps its own file under that name; choose another"
    return None


def with_options(split: SourceSplit, options: ImportOptions) -> SourceSplit:
    """Return the split with the decoding and the picture shape that the user chose.

    Raises
    ------
    InputError
        If they do not fit the rows of the split.
    """
    shape, layout = split.image_shape, split.layout
    if options.image_shape is not None:
        shape, layout = image_dims(tuple(options.image_shape), options.layout)
        if math.prod(options.image_shape) != split.n_features:
            raise InputError(
                f"image_shape {options.image_shape} has {math.prod(options.image_shape)} values, "
                f"but a row of {split.name} has {split.n_features}; give the shape of one row"
            )
    # A layout alone cannot change a picture's shape: without channels it has no meaning, and a
    # format that fixes the layout has stored its values in that order.
    elif options.layout is not None and options.layout != layout:
        raise InputError(
            f"layout is {options.layout}, but the rows of {split.name} "
            f"{f'have the layout {layout}' if layout else 'are not colour pictures'}; give the "
            "image_shape with it"
        )
    return replace(
        split,
        scale_factor=split.scale_factor if options.scale is None else options.scale,
        add_offset=split.add_offset if options.offset is None else options.offset,
        image_shape=shape,
        layout=layout,
    )
