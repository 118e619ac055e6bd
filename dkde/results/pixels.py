"""Rows as pictures: their shape, their pixels, and their tiling."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.rows.side import Rows

# Small pictures are enlarged by a whole number, so that the tiling is about so many pixels wide.
_WIDTH_PIXELS = 1000
# The grey between pictures, which differs from both black and white backgrounds.
GAP = 112


def picture_shape(selected: Rows) -> tuple[tuple[int, ...], str | None]:
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
    return as_pixels(selected, values, value_range_of(selected, values))


def as_pixels(
    like: Rows, values: npt.NDArray[Any], value_range: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """Return rows as pictures (n, height, width, 3), in the shape of other rows."""
    shape, layout = picture_shape(like)
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


def value_range_of(selected: Rows, values: npt.NDArray[Any]) -> tuple[float, float]:
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


def tile(pixels: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return one picture of all, with gaps of one pixel; each pixel becomes a square."""
    height, width = pixels.shape[1] + 1, pixels.shape[2] + 1
    tiled = np.full((rows * height + 1, columns * width + 1, 3), GAP, np.uint8)
    for i, picture in enumerate(pixels):
        y, x = i // columns * height + 1, i % columns * width + 1
        tiled[y : y + height - 1, x : x + width - 1] = picture
    scale = max(1, round(_WIDTH_PIXELS / tiled.shape[1]))
    return tiled.repeat(scale, axis=0).repeat(scale, axis=1)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of a picture (height, width, 3)."""
    from matplotlib.image import imsave  # slow to import

    file = BytesIO()
    imsave(file, pixels, format="png")
    return file.getvalue()
