"""scikit-learn's embedded digits: 1,797 pictures of 8 x 8, in three contiguous splits."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from dkde.storage.importers.source import (
    ReadOptions,
    Source,
    SourceSplit,
    array_batches,
    reading,
)

NAME = "digits"
DESCRIPTION = "scikit-learn's embedded digits (8 x 8 grey); no file is needed"
# 60 / 20 / 20 per cent in scikit-learn's order: one after the other they are its 1,797 rows.
_BOUNDS = {"train": (0, 1078), "valid": (1078, 1437), "test": (1437, 1797)}


def matches(path: Path) -> bool:
    """Whether the path is the bare name ``digits`` and nothing of that name exists."""
    return path == Path(NAME) and not path.exists()


def read(path: Path, options: ReadOptions) -> Source:
    """Load the digits; their values are whole numbers from 0 to 16, stored as such.

    Raises
    ------
    DataSetError
        If scikit-learn cannot hand them over.
    """
    with reading(path, "scikit-learn's digits"):
        from sklearn.datasets import load_digits  # a slow import that no other format needs

        x, label = load_digits(return_X_y=True)
        pixels = x.astype(np.uint8)
        splits = tuple(
            SourceSplit(
                name,
                n_rows=stop - start,
                n_features=pixels.shape[1],
                dtype=pixels.dtype,
                batches=partial(array_batches, pixels[start:stop]),
                image_shape=(8, 8),
                labels={"label": label[start:stop].astype(np.int64)},
            )
            for name, (start, stop) in _BOUNDS.items()
        )
        digest = hashlib.sha256(pixels.tobytes() + label.astype("<i8").tobytes())
        return Source(path, NAME, f"sha256:{digest.hexdigest()}", splits)
