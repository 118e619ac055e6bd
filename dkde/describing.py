"""What a data set, or a file that can be imported, holds."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.storage.dataset import Split, is_dataset, open_root, open_splits
from dkde.storage.importers import SourceSplit, read_source
from dkde.storage.importers.source import checked_batches
from dkde.storage.index import index_state
from dkde.storage.sources import ZarrSource
from dkde.storage.stores import is_remote

# Of a file that can be imported, how much is looked through for the range of its values.
_RANGE_BYTES = 256 * 2**20


def describe(store: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a data set, or any file that can be imported.

    Parameters
    ----------
    store : str, path or URL
        A data set; or a file or folder that :func:`dkde.import_dataset` reads.

    Returns
    -------
    dict
        Ready for JSON. ``name``; ``kind``, "data set" or the file's format; ``source``,
        ``source_format``, ``source_checksum``, ``import_options`` and ``dkde_version`` as
        recorded at the import, None where there was none; and ``splits``, by name. Of a split:
        ``rows``, ``features``, ``dtype`` as stored, ``scale`` and ``offset`` that make values of
        it, ``value_range`` (for large files, of the first ``value_range_rows``),
        ``chunk_rows``, ``bytes_raw``, ``bytes_stored`` (None for files), ``image_shape``,
        ``layout``, ``labels``, the number of classes of each label there is, ``checksum``, and
        ``index``: "yes", "of other rows", "damaged", or None where there is none.

    Raises
    ------
    DataSetError
        When it is neither, or damaged.

    Examples
    --------
    >>> import dkde
    >>> dkde.describe("digits")["splits"]["valid"]["rows"]
    359
    """
    path = Path(store)
    # A Zarr folder that is no data set: let the data set's own error say so.
    if is_remote(store) or is_dataset(path) or (path / "zarr.json").exists():
        attributes = open_root(store).attrs
        recorded = ("source", "source_format", "source_checksum", "import_options", "dkde_version")
        return {
            "name": str(store),
            "kind": "data set",
            **{name: attributes.get(name) for name in recorded},
            "splits": {name: _stored(split) for name, split in open_splits(store).items()},
        }
    source = read_source(path)
    return {
        "name": str(store),
        "kind": source.format,
        "source": path.name,
        "source_format": source.format,
        "source_checksum": source.checksum,
        "import_options": None,
        "dkde_version": None,
        "splits": {split.name: _foreign(split) for split in source.splits},
    }


def _stored(split: Split) -> dict[str, Any]:
    return {
        "rows": split.n_rows,
        "features": split.n_features,
        "dtype": str(split.x.dtype),
        "scale": split.scale_factor,
        "offset": split.add_offset,
        "value_range": None if split.actual_range is None else list(split.actual_range),
        "value_range_rows": split.n_rows,
        "chunk_rows": int(split.x.chunks[0]),
        "bytes_raw": int(split.x.nbytes),
        "bytes_stored": int(split.x.nbytes_stored()),
        "image_shape": None if split.image_shape is None else list(split.image_shape),
        "layout": split.layout,
        "labels": {
            name: _n_classes(ZarrSource(values, complete=True).read(0, split.n_rows))
            for name, values in split.labels.items()
        },
        "checksum": split.checksum,
        "index": index_state(split),
    }


def _foreign(split: SourceSplit) -> dict[str, Any]:
    low, high, n_rows = _range(checked_batches(split))
    ends = sorted(end * split.scale_factor + split.add_offset for end in (low, high))
    return {
        "rows": split.n_rows,
        "features": split.n_features,
        "dtype": str(split.dtype),
        "scale": split.scale_factor,
        "offset": split.add_offset,
        "value_range": ends if np.isfinite(ends).all() else None,
        "value_range_rows": n_rows,
        "chunk_rows": None,
        "bytes_raw": split.n_rows * split.n_features * split.dtype.itemsize,
        "bytes_stored": None,
        "image_shape": None if split.image_shape is None else list(split.image_shape),
        "layout": split.layout,
        "labels": {name: _n_classes(values) for name, values in split.labels.items()},
        "checksum": None,
        "index": None,
    }


def _range(batches: Iterable[npt.NDArray[Any]]) -> tuple[float, float, int]:
    """The least and the greatest finite stored value, and of how many rows."""
    low, high, n_rows, n_bytes = np.inf, -np.inf, 0, 0
    for batch in batches:
        finite = batch[np.isfinite(batch)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        n_rows += len(batch)
        n_bytes += batch.nbytes
        if n_bytes >= _RANGE_BYTES:
            break
    return low, high, n_rows


def _n_classes(labels: Any) -> int:
    return len(np.unique(np.asarray(labels)))
