"""As many rows as you like, made of MNIST's training pictures shifted by a pixel or two.

Row i is made of `seed` and i alone: any range can be made without the rows before it, here or on
another machine. `python docs/examples/shifted_mnist.py STORE --data mnist.pkl.gz --rows 1000000`
streams them into a data set, a batch at a time.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

import dkde

SIDE = 28
REACH = 2
# The 24 ways to shift by one or two pixels, down and to the right.
SHIFTS = [
    (dy, dx)
    for dy in range(-REACH, REACH + 1)
    for dx in range(-REACH, REACH + 1)
    if (dy, dx) != (0, 0)
]


def scramble(numbers: np.ndarray, seed: int) -> np.ndarray:
    """64 random bits for each number (SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195).

    >>> scramble(np.arange(2), 1).tolist() == [scramble(np.array([i]), 1)[0] for i in range(2)]
    True
    """
    gamma = 0x9E3779B97F4A7C15
    z = numbers.astype(np.uint64) * np.uint64(gamma) + np.uint64(seed * gamma * gamma % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shifted(pictures: np.ndarray, start: int, stop: int, seed: int = 0):
    """Rows start up to stop, and which picture each was.

    Parameters
    ----------
    pictures : uint8 array (n, 784)

    Returns
    -------
    rows : uint8 array (stop - start, 784)
    chosen : int array (stop - start,)
    """
    bits = scramble(np.arange(start, stop), seed)
    chosen = (bits % np.uint64(len(pictures))).astype(np.int64)
    which = ((bits >> np.uint64(32)) % np.uint64(len(SHIFTS))).astype(np.int64)
    rows = np.zeros((stop - start, SIDE, SIDE), np.uint8)
    for number, (dy, dx) in enumerate(SHIFTS):
        here = np.flatnonzero(which == number)
        found = pictures[chosen[here]].reshape(-1, SIDE, SIDE)
        to = tuple(slice(max(0, step), SIDE + min(0, step)) for step in (dy, dx))
        of = tuple(slice(max(0, -step), SIDE + min(0, -step)) for step in (dy, dx))
        moved = np.zeros_like(found)
        moved[:, *to] = found[:, *of]
        rows[here] = moved
    return rows.reshape(-1, SIDE * SIDE), chosen


def batches(
    pictures: np.ndarray, labels: np.ndarray, n_rows: int, seed: int = 0, size: int = 10_000
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first n_rows rows with their labels, a batch at a time."""
    for start in range(0, n_rows, size):
        rows, chosen = shifted(pictures, start, min(start + size, n_rows), seed)
        yield rows, labels[chosen]


def main(data: str, store: str, n_rows: int, seed: int = 0, index: bool = True) -> None:
    """Stream n_rows rows into a data set at `store`."""
    began = perf_counter()
    train = dkde.Catalog(data).rows("train")
    pictures = train.read(0, train.n_rows, decode=False)
    dkde.import_rows(
        batches(pictures, train.coordinates()["label"], n_rows, seed),
        store,
        n_rows=n_rows,
        scale=train.encoding.scale,
        image_shape=(SIDE, SIDE),
        source=f"{Path(data).name}, shifted, seed {seed}",
        index=index,
    )
    print(f"{n_rows} rows in {perf_counter() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="the data set to make")
    parser.add_argument("--data", required=True, help="MNIST: its pickle, or the folder of IDX")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-index", dest="index", action="store_false")
    given = parser.parse_args()
    main(given.data, given.store, given.rows, given.seed, given.index)
