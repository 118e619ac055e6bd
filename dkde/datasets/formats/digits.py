"""The digits that scikit-learn includes: 1,797 pictures of 8 x 8, in three contiguous splits."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dkde.datasets.formats.files import reading
from dkde.datasets.formats.source import ReadOptions, Source, split_of_arrays
from dkde.typing import Array

NAME = "digits"
# 60 / 20 / 20 per cent of the rows in scikit-learn's order, which the three splits keep.
_BOUNDS = {"train": (0, 1078), "valid": (1078, 1437), "test": (1437, 1797)}


def matches(path: Path) -> bool:
    """Return whether the path is the bare name ``digits`` and no such file exists."""
    return path == Path(NAME) and not path.exists()


def read(path: Path, options: ReadOptions) -> Source:
    """Load the digits; their values are whole numbers from 0 to 16, stored as such.

    Raises
    ------
    DataSetError
        If scikit-learn is not installed, or its file cannot be read.
    """
    with reading(path, "scikit-learn's digits"):
        pixels, label = _load()
        splits = tuple(
            split_of_arrays(
                name,
                pixels[start:stop],
                image_shape=(8, 8),
                labels={"label": label[start:stop]},
            )
            for name, (start, stop) in _BOUNDS.items()
        )
        # The path of scikit-learn's file depends on the machine; the checksum is of the values.
        digest = hashlib.sha256(pixels.tobytes() + label.astype("<i8").tobytes())
        return Source(path, NAME, f"sha256:{digest.hexdigest()}", splits)


def _load() -> tuple[Array, Array]:
    """Return pixels and labels from scikit-learn's file, without the seconds of its import."""
    spec = find_spec("sklearn")  # this finds the package and does not import it
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return _read(file)
    # Another version of scikit-learn may keep the file elsewhere.
    from sklearn.datasets import load_digits

    x, label = load_digits(return_X_y=True)
    return x.astype(np.uint8), label.astype(np.int64)


# Text takes 20 ms to read, and its 129 KB are often both sides of a call.
@cache
def _read(file: Path) -> tuple[Array, Array]:
    with gzip.open(file, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",")
    pixels, label = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)
    for shared in (pixels, label):
        shared.flags.writeable = False
    return pixels, label
