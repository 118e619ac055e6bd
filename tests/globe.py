"""The oracle for densities on the sphere, and places to try it on."""

import numpy as np

number = np.longdouble
RADIAN = number("3.14159265358979323846264338327950288") / 180


def places(n, seed=0):
    """Return n places, (n, 2), spread evenly over the sphere, in degrees."""
    rng = np.random.default_rng(seed)
    sines, longitudes = rng.uniform(-1, 1, n), rng.uniform(-180, 180, n)
    return np.column_stack([np.rad2deg(np.arcsin(sines)), longitudes])


def true_vectors(rows):
    """Return unit vectors (n, 3) in extended precision."""
    latitudes, longitudes = (rows.astype(number) * RADIAN).T
    cos = np.cos(latitudes)
    return np.stack([cos * np.cos(longitudes), cos * np.sin(longitudes), np.sin(latitudes)], 1)


def oracle(query, train, h, weights=None):
    """Return log-densities as the formula says, in extended precision."""
    h = number(h)
    q, t = true_vectors(query), true_vectors(train)
    d2 = ((q[:, None] - t) ** 2).sum(axis=2)
    norm = np.log(360 * RADIAN * h * h) + np.log(-np.expm1(-2 / (h * h)))
    w = np.ones(len(train), number) if weights is None else weights.astype(number)
    exponents = -d2 / (2 * h * h)
    top = exponents.max(axis=1)
    total = (w * np.exp(exponents - top[:, None])).sum(axis=1)
    return (top + np.log(total) - norm - np.log(w.sum())).astype(np.float64)
