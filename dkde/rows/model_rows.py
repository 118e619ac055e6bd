"""Rows that are drawn from a model of a density as they are read: a plan needs no others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dkde.rows.row_source import RowSource
from dkde.typing import FloatArray

# Rows that are drawn together, with a generator of their own: any range gives the same rows.
_TOGETHER = 2**12
_COMPONENTS = 20


def normal(n_rows: int, n_features: int, rng: np.random.Generator) -> FloatArray:
    """Return rows of one standard normal."""
    return rng.normal(size=(n_rows, n_features))


def mixture(n_rows: int, n_features: int, rng: np.random.Generator) -> FloatArray:
    """Return rows of 20 Gaussians of different widths, which are the same for every generator.

    Their centres are normal with a standard deviation of 3, and their own standard deviations are
    0.3 to 1.2, times 1 along the first feature to 0.3 along the last one.
    """
    fixed = np.random.default_rng(7)
    centres = fixed.normal(0, 3, (_COMPONENTS, n_features))
    scales = fixed.uniform(0.3, 1.2, (_COMPONENTS, 1))
    chosen = rng.integers(0, _COMPONENTS, n_rows)
    noise = np.linspace(1, 0.3, n_features) * rng.normal(size=(n_rows, n_features))
    rows: FloatArray = centres[chosen] + scales[chosen] * noise
    return rows


MODELS: dict[str, Callable[[int, int, np.random.Generator], FloatArray]] = {
    "normal": normal,
    "mixture": mixture,
}


@dataclass(frozen=True, eq=False)
class ModelRows(RowSource):
    """Rows in random order, as a store would have them that is read chunk by chunk.

    Parameters
    ----------
    model : str
        A name among ``MODELS``.
    shape : tuple of int
        The numbers of rows and of features.
    seed : int
        Sides of different seeds have different rows.
    n_in_chunk : int
        The rows of a chunk of the store.

    Examples
    --------
    >>> rows = ModelRows("normal", (10**10, 3), seed=0, n_in_chunk=2**17)
    >>> rows.read(10**9, 10**9 + 5).shape
    (5, 3)
    """

    model: str
    shape: tuple[int, int]
    seed: int
    n_in_chunk: int
    dtype = np.dtype(np.float64)
    copies = 2  # as of a store: compressed chunks and decoded ones

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows in a chunk."""
        return self.n_in_chunk

    def read(self, start: int, stop: int) -> FloatArray:
        """Draw the rows from start up to stop."""
        draw, n_features = MODELS[self.model], self.shape[1]
        first, last = start // _TOGETHER, -(-stop // _TOGETHER)
        drawn = [
            draw(_TOGETHER, n_features, np.random.default_rng([self.seed, number]))
            for number in range(first, last)
        ]
        shift = first * _TOGETHER
        return np.concatenate(drawn)[start - shift : stop - shift]
