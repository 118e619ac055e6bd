"""Hypothesis strategies: whole problems, drawn where kernel density estimation is hard."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import reference
from hypothesis import strategies as st

Array = npt.NDArray[Any]

DTYPES = ("float64", "float32", "uint8", "int16")
CF_SCALES = (1.0, 1 / 255, 1 / 256, -0.37, 12.5)


@dataclass(frozen=True, eq=False)
class Problem:
    """Two sides as they are stored, what belongs to their rows, and a way to cut them.

    Parameters
    ----------
    query, train : array (rows, n_features)
        Integers are read as ``stored * scale``; floats as they are.
    query_borders, train_borders : tuple of int
        0, the rows between at which a side is cut, and its number of rows.
    tile_rows : int
        A tile size that puts borders inside these sides.
    kernel, metric : str
    """

    query: Array
    train: Array
    bandwidths: Array
    weights: Array | None = None
    query_groups: Array | None = None
    train_groups: Array | None = None
    scale: float = 1.0
    query_borders: tuple[int, ...] = ()
    train_borders: tuple[int, ...] = ()
    tile_rows: int = 512
    kernel: str = "gaussian"
    metric: str = "euclidean"

    def __post_init__(self) -> None:
        for side in ("query", "train"):
            if not getattr(self, f"{side}_borders"):
                object.__setattr__(self, f"{side}_borders", (0, len(getattr(self, side))))

    def __repr__(self) -> str:
        weights = "no" if self.weights is None else f"{self.weights.min():g}.."
        return (
            f"Problem({self.kernel}, {self.metric}, {self.query.shape} x {self.train.shape} "
            f"{self.train.dtype}, h={self.bandwidths}, scale={self.scale:g}, {weights} weights, "
            f"{'no' if self.query_groups is None else 'some'} groups, "
            f"cut at {self.query_borders} x {self.train_borders}, tile {self.tile_rows})"
        )

    @property
    def is_integer(self) -> bool:
        return self.train.dtype.kind in "iu"

    @property
    def query_ranges(self) -> list[slice]:
        return [slice(a, b) for a, b in pairwise(self.query_borders)]

    @property
    def train_ranges(self) -> list[slice]:
        return [slice(a, b) for a, b in pairwise(self.train_borders)]

    def expected(self, stretch: float = 0.0) -> Array:
        """The oracle's log-densities, (n_bandwidths, query rows).

        With ``stretch``, those of bandwidths longer by this part, in the volume of the given.
        """
        dimensions = 1 if self.kernel == "univariate_gaussian" else self.train.shape[1]
        log_density = reference.log_density(
            self.query,
            self.train,
            self.bandwidths.astype(np.longdouble) * (1 + np.longdouble(stretch)),
            self.weights,
            self.query_groups,
            self.train_groups,
            unit=self.scale,
            kernel=self.kernel,
            metric=self.metric,
        )
        return log_density + dimensions * np.log1p(stretch)

    def exponents(self) -> Array:
        """Minus the log-kernel of each query's nearest pair, (n_bandwidths, query rows).

        0 for kernels of compact support, whose values are no exponentials.
        """
        nearest = reference.nearest(
            self.query, self.train, self.weights, self.query_groups, self.train_groups, self.metric
        )
        u = np.sqrt(nearest) / (self.bandwidths[:, None] / abs(self.scale))
        if self.kernel in reference.COMPACT:
            return np.zeros_like(u)
        return u if self.kernel == "exponential" else u**2 / 2


@st.composite
def borders(draw: st.DrawFn, rows: int) -> tuple[int, ...]:
    """0, up to four rows between, and the number of rows."""
    inner = draw(st.sets(st.integers(1, rows - 1), max_size=4)) if rows > 1 else set()
    return (0, *sorted(inner), rows)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = DTYPES,
    max_query: int = 6,
    max_train: int = 250,
    max_features: int = 900,
    kernels: tuple[str, ...] = ("gaussian",),
    metrics: tuple[str, ...] = ("euclidean",),
) -> Problem:
    """A problem: its structure is drawn, its many numbers follow from a drawn seed."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    n_features = draw(st.sampled_from([1, 2, 3, 8, 17, 64, 257, 784, 900]))
    n_features = min(n_features, max_features)
    n_query = draw(st.integers(1, max_query))
    n_train = draw(st.one_of(st.integers(1, 5), st.integers(1, max_train)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    separation = draw(st.sampled_from([0.0, 1.0, 30.0, 1e3, 1e6]))
    n_clusters = draw(st.integers(1, 4))
    centres = separation * rng.normal(size=(n_clusters, n_features))
    train = centres[rng.integers(n_clusters, size=n_train)] + rng.normal(size=(n_train, n_features))
    query = centres[rng.integers(n_clusters, size=n_query)] + rng.normal(size=(n_query, n_features))
    query *= draw(st.sampled_from([1.0, 1.0, 3.0, 1e4]))  # the last: far from every row
    if dtype.kind == "f":
        width = draw(st.sampled_from([1e-6, 1e-2, 1.0, 1e3, 1e6]))
        offset = draw(st.sampled_from([0.0, 0.0, 1.0, -1.0, 1e3, 1e6, -1e6]))
        scale = 1.0
        train, query = (side * width + offset for side in (train, query))
    else:
        limits = np.iinfo(dtype)
        width = (limits.max - limits.min) / draw(st.sampled_from([4, 20, 200]))
        middle = (limits.max + limits.min) / 2
        scale = draw(st.sampled_from(CF_SCALES))
        train, query = (
            np.clip(np.rint(side * width + middle), limits.min, limits.max)
            for side in (train, query)
        )
    train, query = train.astype(dtype), query.astype(dtype)

    if draw(st.booleans()):  # duplicates
        train = train[rng.integers(n_train, size=n_train)]
    where = rng.integers(n_train, size=n_query)
    on_train = draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    query = np.where(rng.random((n_query, 1)) < on_train, train[where], query)

    typical = width * abs(scale) * draw(st.sampled_from([1.0, float(np.sqrt(n_features))]))
    decades = draw(st.sampled_from([0.3, 1.0, 3.0]))
    n_bandwidths = draw(st.integers(1, 8))
    bandwidths = typical * 10 ** rng.uniform(-decades, decades, size=n_bandwidths)
    query_groups, train_groups = _groups(draw, rng, where, n_train)
    return Problem(
        query,
        train,
        bandwidths,
        _weights(draw, rng, n_train),
        query_groups,
        train_groups,
        scale,
        draw(borders(n_query)),
        draw(borders(n_train)),
        draw(st.sampled_from([1, 7, 64, 100, 512])),
        draw(st.sampled_from(kernels)),
        draw(st.sampled_from(metrics)),
    )


def _weights(draw: st.DrawFn, rng: np.random.Generator, rows: int) -> Array | None:
    kind = draw(st.sampled_from(["none", "none", "uniform", "zeros", "extreme", "all equal"]))
    if kind == "none":
        return None
    if kind == "extreme":
        lowest = draw(st.sampled_from([-12.0, -40.0, -300.0]))
        return 10.0 ** rng.uniform(lowest, 0, size=rows)
    if kind == "all equal":
        return np.full(rows, draw(st.sampled_from([1e-300, 0.1, 1e300 / 1e3])))
    weights = rng.uniform(0.1, 3, size=rows)
    if kind == "zeros":
        weights[rng.random(rows) < draw(st.sampled_from([0.1, 0.9]))] = 0
    return weights


def _groups(
    draw: st.DrawFn, rng: np.random.Generator, where: Array, n_train: int
) -> tuple[Array, Array] | tuple[None, None]:
    kind = draw(st.sampled_from(["none", "none", "folds", "leave one out"]))
    if kind == "none":
        return None, None
    if kind == "leave one out":  # also where the query is some other row: one pair less
        return where, np.arange(n_train)
    return rng.integers(-1, 3, size=len(where)), rng.integers(3, size=n_train)
