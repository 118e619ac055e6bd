"""The unit sphere of R^3: unit vectors of places, and von Mises-Fisher draws."""

from math import expm1

import numpy as np

from dkde.numerics.radii import Generator
from dkde.typing import FloatArray

# How far a unit vector is from that of the degrees, at most, in roundings. What is left of an
# angle is exact, and no more than half a right one; as radians it has two roundings, which move
# a place by 2 (pi / 4) along either axis, 2.3 in all. A cosine or a sine is good to two units in
# the last place, 4; a coordinate has two of them and a product. The rest is for higher orders.
ROUNDING = (2.3 + 4 + 4 + 1 + 0.7) * float(np.finfo(np.float64).eps) / 2


def unit_vectors(latitudes: FloatArray, longitudes: FloatArray) -> FloatArray:
    """Unit vectors (rows, 3) of places in degrees: z to the north pole, x to 0 N 0 E.

    Latitudes beyond a pole are taken for it.

    Examples
    --------
    >>> unit_vectors(np.array([0.0, 90.0]), np.array([180.0, 7.0])).tolist()
    [[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    cos_latitude, sin_latitude = _cos_sin(np.clip(latitudes, -90, 90))
    cos_longitude, sin_longitude = _cos_sin(longitudes)
    parts = (cos_latitude * cos_longitude, cos_latitude * sin_longitude, sin_latitude)
    return np.stack(parts, axis=1)


def _cos_sin(degrees: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Exact at right angles, and the same for angles that are full turns apart."""
    with np.errstate(invalid="ignore"):
        turned = np.fmod(degrees, 360.0)
        quarters = np.rint(turned / 90)
        angle = np.deg2rad(turned - 90 * quarters)
        cos, sin = np.cos(angle), np.sin(angle)
        quarter = np.nan_to_num(quarters).astype(np.int64) & 3
    # Plus zero: there is no other.
    choices = [cos, -sin, -cos, sin]
    return np.choose(quarter, choices) + 0.0, np.choose(quarter - 1 & 3, choices) + 0.0


def degrees(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Latitudes and longitudes (rows,), these from -180 to 180, of vectors (rows, 3)."""
    x, y, z = vectors.T
    return np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))


def scatter(rng: Generator, places: FloatArray, h: float) -> FloatArray:
    """Unit vectors (n, 3), each from the distribution about its own place.

    The cosine of the distance has a closed form; its difference from 1 is what is drawn, so that
    no digit is lost where h is small.

    Parameters
    ----------
    places : array (n, 3)
        Unit vectors.
    h : float
        In radians: the concentration is ``1 / h**2``. 0 gives the places themselves.

    References
    ----------
    Ulrich (1984), Computer generation of distributions on the m-sphere, Applied Statistics 33(2),
    158-163; Jakob (2012), Numerically stable sampling of the von Mises Fisher distribution on S2
    (and other tricks), https://www.mitsuba-renderer.org/~wenzel/files/vmf.pdf.
    """
    n = len(places)
    uniform, turn = rng.uniform(size=n), 2 * np.pi * rng.uniform(size=n)
    away = np.zeros(n) if h == 0 else -h * h * np.log1p(uniform * expm1(-2 / (h * h)))
    away = np.clip(away, 0.0, 2.0)
    aside = np.sqrt(away * (2 - away))
    # Any two directions do that are at right angles to the place and each other; the axis that
    # is furthest from it gives them without loss.
    axes = np.eye(3)[np.abs(places).argmin(axis=1)]
    first = np.cross(places, axes)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(places, first)
    across = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
    moved: FloatArray = (1 - away)[:, None] * places + aside[:, None] * across
    return moved
