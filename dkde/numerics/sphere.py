"""The unit sphere of R^3: unit vectors of places, and von Mises-Fisher draws."""

from math import expm1

import numpy as np

from dkde.numerics.radii import Generator
from dkde.typing import FloatArray

# The largest distance of a computed unit vector from the true one, in roundings. The remainder of
# an angle, modulo right angles, is exact and at most half a right angle. In radians it has two
# roundings, which move a place by 2 (pi / 4) along either axis, 2.3 in all. A cosine or a sine is
# accurate to two units in the last place, which is 4 roundings; a coordinate has two of them and a
# product. 0.7 is for higher orders.
EPSILON = float(np.finfo(np.float64).eps)
ROUNDING = (2.3 + 4 + 4 + 1 + 0.7) * EPSILON / 2


def unit_vectors(latitudes: FloatArray, longitudes: FloatArray) -> FloatArray:
    """Return unit vectors (rows, 3) of places in degrees: z to the north pole, x to 0 N 0 E.

    A latitude beyond a pole is taken for the pole's.

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
    """Return cosines and sines: exact at right angles, and equal for angles full turns apart."""
    # fmod and the difference below are exact. The number of the quarter then selects a cosine or
    # sine of the remainder, and its sign. NaN stays NaN.
    with np.errstate(invalid="ignore"):
        turned = np.fmod(degrees, 360.0)
        quarters = np.rint(turned / 90)
        angle = np.deg2rad(turned - 90 * quarters)
        cos, sin = np.cos(angle), np.sin(angle)
        quarter = np.nan_to_num(quarters).astype(np.int64) & 3
    # Adding 0.0 turns -0.0 into 0.0: places that are equal get vectors with equal bits.
    choices = [cos, -sin, -cos, sin]
    return np.choose(quarter, choices) + 0.0, np.choose(quarter - 1 & 3, choices) + 0.0


def degrees(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return latitudes, and longitudes from -180 to 180, of vectors (rows, 3)."""
    # arctan2 of the height and the distance from the axis: an arcsine loses digits at the poles.
    x, y, z = vectors.T
    return np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))


def scatter(rng: Generator, places: FloatArray, h: float) -> FloatArray:
    """Draw unit vectors (n, 3), each from the von Mises-Fisher distribution about its own place.

    The cosine of the angle from the place has a closed form. Its difference from 1 is drawn, so
    that no digit is lost where h is small.

    Parameters
    ----------
    places : array (n, 3)
        Unit vectors.
    h : float
        Bandwidth in radians: the concentration is ``1 / h**2``. 0 gives the places themselves.

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
    # sin = sqrt(1 - cos**2), with cos = 1 - away.
    sine = np.sqrt(away * (2 - away))
    # Two directions at right angles to the place and to each other; any two will do. The axis that
    # is farthest from the place gives them without loss of digits.
    axes = np.eye(3)[np.abs(places).argmin(axis=1)]
    first = np.cross(places, axes)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(places, first)
    across = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
    moved: FloatArray = (1 - away)[:, None] * places + sine[:, None] * across
    return moved
