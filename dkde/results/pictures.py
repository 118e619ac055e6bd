"""Rows and samples of a data set drawn as pictures, pixel for pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.datasets.metadata import checked_fields
from dkde.errors import InputError
from dkde.inputs.foreign import listing
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operand
from dkde.results.pixels import GAP, as_pixels, picture_shape, png, tile, value_range_of
from dkde.rows.side import Rows
from dkde.stores.publishing import write_whole
from dkde.stores.targets import check_place
from dkde.typing import Axes, RowsLike, StrPath

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
PICTURE_SUFFIXES = (".png",)


def check_picture(
    path: StrPath,
    suffixes: tuple[str, ...] = FIGURE_SUFFIXES,
    *,
    pictures: Rows | None = None,
) -> None:
    """Refuse a picture's path early, before hours of work.

    Parameters
    ----------
    path : path
        The file that is to be written.
    suffixes : tuple of str
        The suffixes of the formats that can be written.
    pictures : Rows, optional
        The rows that are to be drawn pixel for pixel.

    Raises
    ------
    InputError
        When the suffix is not one of these, or the rows are not pictures.
    DataSetError
        When the path is a folder, or its own folder is missing or may not be written to.
    """
    check_place(path, "picture", suffixes=suffixes)
    if pictures is not None:
        picture_shape(pictures)


@overload
def plot_pictures(
    pictures: RowsLike | None,
    path: StrPath,
    *,
    rows: int = ...,
    columns: int = ...,
    source: str | Catalog | None = ...,
    ax: None = ...,
) -> int: ...
@overload
def plot_pictures(
    pictures: RowsLike | None,
    path: None = ...,
    *,
    rows: int = ...,
    columns: int = ...,
    source: str | Catalog | None = ...,
    ax: Axes | None = ...,
    **style: Any,
) -> Any: ...
def plot_pictures(
    pictures: RowsLike | None,
    path: StrPath | None = None,
    *,
    rows: int = 20,
    columns: int = 20,
    source: str | Catalog | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Any:
    """Tile the first rows of a data set as pictures, pixel for pixel.

    Parameters
    ----------
    pictures : str, xarray.Dataset, Rows or None
        A selector of rows that have an image shape, grey or colour; or a split of
        :func:`dkde.open_dataset`, or rows of one: ``data["test"].isel(sample=[3, 1])``. None
        stands for the split ``train`` of the source, or else its first split.
    path : path, optional
        The file, which ends in .png and is replaced. Without it nothing is written, and the
        pictures are drawn on axes. The smallest value of the data set is black, the largest is
        white.
    rows, columns : int
        The numbers of rows and of columns of the tiling; fewer if there are not so many pictures.
    source : str or Catalog, optional
        The data set that a selector without one refers to.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure.
    **style
        What ``matplotlib.axes.Axes.imshow`` takes.

    Returns
    -------
    int or matplotlib.axes.Axes
        With a path the number of pictures that are shown; otherwise the axes.

    Raises
    ------
    InputError
        When the suffix is another, rows or columns are below 1, or the rows are not pictures of
        one shape.
    DataSetError
        When the source cannot be opened, or the file cannot be written.
    """
    path, ax = _check_tiling(path, rows, columns, ax, style)
    catalog = catalog_of(source)
    chosen = _default_split(catalog) if pictures is None else pictures
    selected = _selected(chosen, "show", catalog)
    n_shown = min(rows * columns, selected.n_rows)
    values = selected.read(0, n_shown, decode=True)
    pixels = as_pixels(selected, values, value_range_of(selected, values))
    tiled = _tiled(pixels, min(columns, n_shown))
    return _show(tiled, ax, style) if path is None else _write(path, tiled, n_shown)


@overload
def plot_samples(
    real: RowsLike,
    samples: RowsLike,
    path: StrPath,
    *,
    rows: int = ...,
    columns: int = ...,
    like: RowsLike | None = ...,
    source: str | Catalog | None = ...,
    ax: None = ...,
) -> int: ...
@overload
def plot_samples(
    real: RowsLike,
    samples: RowsLike,
    path: None = ...,
    *,
    rows: int = ...,
    columns: int = ...,
    like: RowsLike | None = ...,
    source: str | Catalog | None = ...,
    ax: Axes | None = ...,
    **style: Any,
) -> Any: ...
def plot_samples(
    real: RowsLike,
    samples: RowsLike,
    path: StrPath | None = None,
    *,
    rows: int = 20,
    columns: int = 11,
    like: RowsLike | None = None,
    source: str | Catalog | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Any:
    """Tile real rows as pictures and, below a blank row, samples of their density.

    Parameters
    ----------
    real, samples : array (rows, features), str or Rows
        The rows, as for :func:`dkde.log_density`. The smallest value of the real rows' data set is
        black, the largest is white; the samples' values are clipped to this range.
    path : path, optional
        The file, which ends in .png and is replaced. Without it nothing is written, and the
        pictures are drawn on axes.
    rows, columns : int
        The numbers of rows and of columns of each of both tilings; fewer if there are not so many
        pictures.
    like : str or Rows, optional
        Rows of the data set that the real ones are from, which give the pictures' shape and the
        range of values; needed if the real rows are an array without these.
    source : str or Catalog, optional
        The data set that selectors without one refer to.
    ax, **style
        As for :func:`plot_pictures`.

    Returns
    -------
    int or matplotlib.axes.Axes
        With a path the number of samples that are shown; otherwise the axes.

    Raises
    ------
    InputError
        When the suffix is another, rows or columns are below 1, or the rows are not pictures of
        one shape.
    DataSetError
        When the source cannot be opened, or the file cannot be written.

    Examples
    --------
    >>> import dkde, os, tempfile
    >>> samples = dkde.sample("train", 1.0, 44, source="digits", random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "samples.png")
    ...     dkde.plot_samples("train[:44]", samples, path, source="digits")
    44
    """
    path, ax = _check_tiling(path, rows, columns, ax, style)
    catalog = catalog_of(source)
    above, below = _selected(real, "real", catalog), _selected(samples, "samples", catalog)
    model = above if like is None else _selected(like, "like", catalog)
    widths = [side.n_features for side in (above, below, model)]
    if len(set(widths)) > 1:
        raise InputError(
            f"the real rows have {widths[0]} features, the samples {widths[1]} and the rows that "
            f"they are like {widths[2]}; all must be of one data set"
        )
    shown = [side.read(0, min(rows * columns, side.n_rows), decode=True) for side in (above, below)]
    value_range = value_range_of(model, shown[0])
    pixels = [as_pixels(model, values, value_range) for values in shown]
    width = min(columns, max(map(len, pixels)))
    # Blank pictures fill the last row of real ones, and one row more.
    n_blank = -len(pixels[0]) % width + width
    blank = np.full((n_blank, *pixels[0].shape[1:]), GAP, np.uint8)
    tiled = _tiled(np.concatenate([pixels[0], blank, pixels[1]]), width)
    return _show(tiled, ax, style) if path is None else _write(path, tiled, len(pixels[1]))


def _check_tiling(
    path: Any, rows: int, columns: int, ax: Any, style: Mapping[str, Any]
) -> tuple[str | os.PathLike[str] | None, Any]:
    """Return the path and the axes; refuse what cannot be drawn, or would be of nothing."""
    if hasattr(path, "get_figure"):  # axes in the place of the path
        path, ax = None, path
    if path is not None:
        check_picture(path, PICTURE_SUFFIXES)
        if ax is not None or style:
            raise InputError("a file is written pixel for pixel, without axes; leave out the path")
    if rows < 1 or columns < 1:
        raise InputError(f"rows and columns are {rows} and {columns}; both are at least 1")
    return path, ax


def _default_split(catalog: Catalog) -> str:
    """Return the split train of the catalog's source, or its first split."""
    source = catalog.location
    if source is not None and listing(source) is not None:
        raise InputError(
            f"{source}: is no data set of dkde; its rows are made of variables and are not pictures"
        )
    names = list(catalog.splits())
    if not names:
        raise InputError("there is nothing to show; name rows, or a source")
    return "train" if "train" in names else names[0]


def _selected(pictures: Any, role: str, catalog: Catalog) -> Rows:
    if isinstance(pictures, Rows):
        return pictures
    rows = operand(pictures, role, catalog).rows
    return _as_split(rows, pictures) if isinstance(pictures, xr.Dataset | xr.DataTree) else rows


def _as_split(rows: Rows, split: xr.Dataset | xr.DataTree) -> Rows:
    """Return rows of an opened split with the shape and range that its attributes note."""
    notes, coding = dict(split.attrs), dict(split["x"].attrs) if "x" in split else {}
    if "image_shape" not in notes:
        return rows
    try:
        known = checked_fields(notes, coding, rows.n_stored_features)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the attributes of the split are not those of pictures: {error}"
        ) from None
    value_range = known["display_range"] or known["actual_range"]
    notes = {"image_shape": known["image_shape"], "layout": known["layout"]}
    return replace(
        rows, parts=tuple(replace(part, value_range=value_range, **notes) for part in rows.parts)
    )


def _tiled(pixels: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.uint8]:
    return tile(pixels, ceil(len(pixels) / columns), columns)


def _write(path: StrPath, tiled: npt.NDArray[np.uint8], n_shown: int) -> int:
    write_whole(path, png(tiled))
    return n_shown


def _show(tiled: npt.NDArray[np.uint8], ax: Any, style: Mapping[str, Any]) -> Any:
    """Draw a tiling on axes, and return them."""
    height, width = tiled.shape[:2]
    if ax is None:
        from matplotlib import pyplot  # a notebook shows pyplot's figures by itself

        size = (6.4, max(0.6, 6.4 * height / width))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    ax.imshow(tiled, **{"interpolation": "nearest", **style})
    ax.set_axis_off()
    return ax
