"""Options of an import, checked before anything is read."""

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

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ImportOptions:
    """The user's options, as the data set records them; None where not given."""

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


def check_path(role: str, path: object) -> None:
    """Refuse what is no path.

    Raises
    ------
    InputError
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"{role} is {path!r}; it must be a path, as text or pathlib.Path")
    if not os.fspath(path):
        raise InputError(f"{role} is empty; give the path of a file or a folder")


def check_options(options: ImportOptions) -> ImportOptions:
    """The options as plain Python values, which can be recorded as JSON.

    Raises
    ------
    InputError
        If one is not usable, whatever the source is.
    """
    if options.split is not None:
        check_split_name(options.split)
    scale, offset = _number("scale", options.scale), _number("offset", options.offset)
    if scale == 0:
        raise InputError("scale is 0; it must be finite and not zero")
    if options.layout not in (None, "CHW", "HWC"):
        raise InputError(f"layout is {options.layout!r}; it is CHW (channels first) or HWC (last)")
    seed = options.shuffle_seed
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"shuffle_seed is {seed}; it is a whole number from 0 to 2**32 - 1")
    if seed is not None and options.order:
        raise InputError(
            "order and shuffle_seed both say in which order rows are stored; leave one of them out"
        )
    return replace(
        options,
        scale=scale,
        offset=offset,
        image_shape=_shape(options.image_shape, options.layout),
        shuffle_seed=None if seed is None else int(seed),
        order=True if options.order else None,
        columns=_columns(options.columns),
        label=None if options.label is None else _column(options.label),
    )


def _columns(columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not len(columns):
        raise InputError(f"columns is {columns!r}; it is a list of names, at least one")
    return [_column(name) for name in columns]


def _column(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"{name!r} is no name of a column")
    return name


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        # Not of text: float("2") would take what was meant for something else.
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
        sizes = tuple(index(n) for n in shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(f"image_shape is {shape!r}; it is two or three positive whole numbers")
    if len(sizes) == 3 and image_dims(sizes, layout)[1] is None:
        raise InputError(f"image_shape is {sizes}: say with layout which of CHW or HWC it is")
    if len(sizes) == 2 and layout is not None:
        raise InputError(f"layout is {layout}, but image_shape {sizes} has no channels")
    return sizes


def check_split_name(name: object) -> None:
    """Refuse what cannot be a split's name.

    Raises
    ------
    InputError
    """
    why = unusable_name(name) if isinstance(name, str) else "it is no text"
    if why is not None:
        raise InputError(f"split is {name!r}: {why}")


def unusable_name(name: str) -> str | None:
    """Return why a split cannot have that name, or None if it can.

    Examples
    --------
    >>> unusable_name("train-2")
    >>> unusable_name("all")
    'all stands for every split; choose another name'
    """
    if not _SPLIT_NAME.fullmatch(name):
        return "a split's name begins with a letter or digit, then also '_', '-' and '.'"
    # Compared as file systems that ignore case do.
    if name.casefold() == "all":
        return f"{name} stands for every split; choose another name"
    if name.casefold() == "zarr.json":
        return "Zarr keeps its own file under that name; choose another"
    return None


def with_options(split: SourceSplit, options: ImportOptions) -> SourceSplit:
    """The split with the decoding and the picture shape that the user chose.

    Raises
    ------
    InputError
        If they do not fit.
    """
    shape, layout = split.image_shape, split.layout
    if options.image_shape is not None:
        shape, layout = image_dims(tuple(options.image_shape), options.layout)
        if math.prod(options.image_shape) != split.n_features:
            raise InputError(
                f"image_shape {options.image_shape} is {math.prod(options.image_shape)} values, "
                f"and a row of {split.name} has {split.n_features}"
            )
    elif options.layout is not None and options.layout != layout:
        raise InputError(
            f"layout is {options.layout}, but the rows of {split.name} have the layout "
            f"{layout or 'of no colour picture'}; give the image_shape with it"
        )
    return replace(
        split,
        scale_factor=split.scale_factor if options.scale is None else options.scale,
        add_offset=split.add_offset if options.offset is None else options.offset,
        image_shape=shape,
        layout=layout,
    )
