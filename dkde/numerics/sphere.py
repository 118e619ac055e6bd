"""Draws from the von Mises-Fisher distribution on the unit sphere of R^3."""

from math import expm1

import numpy as np

from dkde.numerics.radii import FloatArray, Generator


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
