"""Sizes of the cells of a map: in the plane, and on the sphere."""

import numpy as np
from scipy.fft import dct

from dkde.numerics.bandwidth import EARTH_RADIUS_KM
from dkde.typing import FloatArray

# Square kilometres of a steradian, on the Earth.
KM2_OF_STERADIAN = EARTH_RADIUS_KM**2


def edges_between(centres: FloatArray) -> FloatArray:
    """Return the edges (n + 1,) of cells halfway between their centres (n,), which are monotonic.

    The first and the last cell are as wide to their outer side as to their inner one.

    Examples
    --------
    >>> edges_between(np.array([0.0, 1.0, 3.0]))
    array([-0.5,  0.5,  2. ,  4. ])
    """
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def areas_on_sphere(latitudes: FloatArray, longitudes: FloatArray) -> FloatArray:
    """Return the areas (n_latitudes, n_longitudes) of cells on the Earth, in square kilometres.

    Parameters
    ----------
    latitudes, longitudes : arrays (n + 1,)
        The edges of the cells, in degrees. Beyond a pole there is nothing.

    Examples
    --------
    >>> whole = areas_on_sphere(np.array([-90.0, 0.0, 90.0]), np.array([0.0, 360.0]))
    >>> bool(np.isclose(whole.sum(), 4 * np.pi * KM2_OF_STERADIAN))
    True
    """
    # The difference of two sines as a product: near a pole it would lose digits.
    low, high = (np.deg2rad(np.clip(each, -90, 90)) for each in (latitudes[:-1], latitudes[1:]))
    heights = np.abs(2 * np.cos((low + high) / 2) * np.sin((high - low) / 2))
    turns = np.abs(np.deg2rad(np.diff(longitudes)))
    found: FloatArray = KM2_OF_STERADIAN * heights[:, None] * turns
    return found


def weights_of_latitudes(edges: FloatArray) -> FloatArray:
    """Return the weight (n,) of each latitude's centre in integrals over the sphere, per radian.

    The area of a cell times the density at its centre adds up to the mass of the density to the
    square of the cells only, as a cell's mean differs from its centre. These weights are areas to
    that order, and add up to the mass as exactly as a smooth density allows. Cells of one width
    that fit between the poles have those of Fejér's rule, others ``cos(latitude)`` times their
    width: there a density that reaches a pole is less exact.

    Parameters
    ----------
    edges : array (n + 1,)
        The edges of the cells, in degrees.

    References
    ----------
    Waldvogel (2006), Fast construction of the Fejér and Clenshaw-Curtis quadrature rules, BIT
    46, 195-202.

    Examples
    --------
    >>> bool(np.isclose(weights_of_latitudes(np.linspace(-90, 90, 19)).sum(), 2))
    True
    """
    inside = np.clip(edges, -90, 90)
    widths = np.abs(np.diff(inside))
    centres = (inside[1:] + inside[:-1]) / 2
    n = round(180 / widths[0])
    places = (90 - centres) * n / 180 - 0.5
    is_regular = np.allclose(widths, 180 / n) and np.allclose(places, np.rint(places), atol=1e-6)
    if not is_regular:
        return np.deg2rad(widths) * np.cos(np.deg2rad(centres))
    # 2 / n (1 - 2 Σ_j cos(2 j θ) / (4 j² - 1)) at all θ = (k + 1/2) π / n, as a cosine transform.
    terms = np.zeros(n)
    even = np.arange(0, n, 2, dtype=np.float64)
    terms[::2] = -1 / (even**2 - 1)
    found: FloatArray = 2 / n * dct(terms, type=3)[np.rint(places).astype(np.intp)]
    return found
