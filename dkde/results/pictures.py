"""Rows and samples of a data set drawn as pictures, pixel for pixel."""

import os
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.inputs.foreign import listing
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operand
from dkde.rows.side import Rows
from dkde.stores.publishing import write_whole
from dkde.stores.targets import check_place

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
PICTURE_SUFFIXES = (".png",)

# Small pictures are enlarged by a whole number, so that the tiling is about so many pixels wide.
_WIDTH_PIXELS = 1000
# The grey between pictures, which differs from both black and white backgrounds.
_GAP = 112


def check_picture(
    path: str | os.PathLike[str],
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
        _picture_shape(pictures)


def plot_pictures(
    pictures: Any,
    path: str | os.PathLike[str],
    *,
    rows: int = 20,
    columns: int = 20,
    source: str | Catalog | None = None,
) -> int:
    """Tile the first rows of a data set as pictures, pixel for pixel.

    Parameters
    ----------
    pictures : str, Rows or None
        A selector of rows that have an image shape, grey or colour. None stands for the split
        ``train`` of the source, or else its first split.
    path : path
        The file, which ends in .png and is replaced. The smallest value of the data set is black,
        the largest is white.
    rows, columns : int
        The numbers of rows and of columns of the tiling; fewer if there are not so many pictures.
    source : str or Catalog, optional
        The data set that a selector without one refers to.

    Returns
    -------
    int
        The number of pictures that are shown.

    Raises
    ------
    InputError
        When the suffix is another, rows or columns are below 1, or the rows are not pictures of
        one shape.
    DataSetError
        When the source cannot be opened, or the file cannot be written.
    """
    _check_tiling(path, rows, columns)
    catalog = catalog_of(source)
    chosen = _default_split(catalog) if pictures is None else pictures
    selected = _selected(chosen, "show", catalog)
    n_shown = min(rows * columns, selected.n_rows)
    values = selected.read(0, n_shown, decode=True)
    pixels = _as_pixels(selected, values, _value_range(selected, values))
    _write_tiled(path, pixels, min(columns, n_shown))
    return n_shown


def plot_samples(
    real: Any,
    samples: Any,
    path: str | os.PathLike[str],
    *,
    rows: int = 20,
    columns: int = 11,
    like: Any = None,
    source: str | Catalog | None = None,
) -> int:
    """Tile real rows as pictures and, below a blank row, samples of their density.

    Parameters
    ----------
    real, samples : array (rows, features), str or Rows
        The rows, as for :func:`dkde.log_density`. The smallest value of the real rows' data set is
        black, the largest is white; the samples' values are clipped to this range.
    path : path
        The file, which ends in .png and is replaced.
    rows, columns : int
        The numbers of rows and of columns of each of both tilings; fewer if there are not so many
        pictures.
    like : str or Rows, optional
        Rows of the data set that the real ones are from, which give the pictures' shape and the
        range of values; needed if the real rows are an array without these.
    source : str or Catalog, optional
        The data set that selectors without one refer to.

    Returns
    -------
    int
        The number of samples that are shown.

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
    _check_tiling(path, rows, columns)
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
    value_range = _value_range(model, shown[0])
    pixels = [_as_pixels(model, values, value_range) for values in shown]
    width = min(columns, max(map(len, pixels)))
    # Blank pictures fill the last row of real ones, and one row more.
    n_blank = -len(pixels[0]) % width + width
    blank = np.full((n_blank, *pixels[0].shape[1:]), _GAP, np.uint8)
    _write_tiled(path, np.concatenate([pixels[0], blank, pixels[1]]), width)
    return len(pixels[1])


def _check_tiling(path: str | os.PathLike[str], rows: int, columns: int) -> None:
    """Refuse a picture of pictures that cannot be written, or would be of nothing."""
    check_picture(path, PICTURE_SUFFIXES)
    if rows < 1 or columns < 1:
        raise InputError(f"rows and columns are {rows} and {columns}; both are at least 1")


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
    return pictures if isinstance(pictures, Rows) else operand(pictures, role, catalog).rows


def _picture_shape(selected: Rows) -> tuple[tuple[int, ...], str | None]:
    """Return the shape that all rows have as pictures, and their layout ("HWC", "CHW" or None).

    Raises
    ------
    InputError
        When the rows are not pictures, or pictures of several shapes.
    """
    shapes = {(part.image_shape, part.layout) for part in selected.parts}
    shape, layout = next(iter(shapes))
    if shape is None:
        raise InputError(
            f"{selected.label}: the rows are not known to be pictures; "
            "import them with --image-shape, such as 28x28"
        )
    if len(shapes) > 1:
        raise InputError(f"{selected.label}: pictures of several shapes; show one at a time")
    return shape, layout


def picture_pixels(selected: Rows, values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return rows as pictures (n, height, width, 3).

    Parameters
    ----------
    selected : Rows
        The rows, which give the pictures' shape and the range of values.
    values : array (n, features)
        Values of some of the rows, decoded.

    Raises
    ------
    InputError
        When the rows are not pictures.
    """
    return _as_pixels(selected, values, _value_range(selected, values))


def _as_pixels(
    like: Rows, values: npt.NDArray[Any], value_range: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """Return rows as pictures (n, height, width, 3), in the shape of other rows."""
    shape, layout = _picture_shape(like)
    pictures = values.reshape(len(values), *shape).astype(np.float64)
    if len(shape) == 2:
        pictures = pictures[..., None]
    elif layout == "CHW":
        pictures = np.moveaxis(pictures, 1, -1)
    # Missing values are black; samples may lie outside of the range, and are clipped.
    low, high = value_range
    pictures = np.nan_to_num((pictures - low) / (high - low), nan=0.0)
    pixels = np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)
    # Transparency is left out: of two channels (grey with it) and of four (colours with it).
    channels = [0, 0, 0] if pixels.shape[-1] < 3 else [0, 1, 2]
    return pixels[..., channels]


def _value_range(selected: Rows, values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the values of black and of white: of the data sets if known, else of the rows."""
    ranges = [part.value_range for part in selected.parts if part.value_range is not None]
    finite = values[np.isfinite(values)]
    if len(ranges) == len(selected.parts):
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    elif finite.size:
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = 0.0, 1.0
    # Constant pictures are black: a range of length zero would divide by zero.
    return (low, high) if high > low else (low, low + 1.0)


def _tile(pixels: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return one picture of all, with gaps of one pixel; each pixel becomes a square."""
    height, width = pixels.shape[1] + 1, pixels.shape[2] + 1
    tiled = np.full((rows * height + 1, columns * width + 1, 3), _GAP, np.uint8)
    for i, picture in enumerate(pixels):
        y, x = i // columns * height + 1, i % columns * width + 1
        tiled[y : y + height - 1, x : x + width - 1] = picture
    scale = max(1, round(_WIDTH_PIXELS / tiled.shape[1]))
    return tiled.repeat(scale, axis=0).repeat(scale, axis=1)


def _write_tiled(path: str | os.PathLike[str], pixels: npt.NDArray[np.uint8], columns: int) -> None:
    write_whole(path, png(_tile(pixels, ceil(len(pixels) / columns), columns)))


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of a picture (height, width, 3)."""
    from matplotlib.image import imsave  # slow to import

    file = BytesIO()
    imsave(file, pixels, format="png")
    return file.getvalue()
