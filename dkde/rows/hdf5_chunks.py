"""Chunks of HDF5 files, checked before HDF5 unpacks them.

HDF5 unpacks a chunk to its end, however long that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import product
from math import prod
from typing import Any

from dkde.errors import DataSetError
from dkde.stores.limits import allowed, check_unpacked, limit, size_text, too_large
from dkde.stores.unpacking import DEFLATE_RATIO, unpacked_bytes


def check_chunks(path: str, name: str, box: Sequence[slice]) -> None:
    """Refuse a box of a variable if a chunk of it would unpack to far more than is stored.

    Parameters
    ----------
    path, name : str
        The file, and the path of the variable in it.
    box : sequence of slice
        The range that is read along each dim.

    Raises
    ------
    DataSetError
    """
    if find_spec("h5py") is None:
        return
    import h5py

    with h5py.File(path, "r") as file:
        found = file.get(name)
        # Nothing is unpacked of what is stored as it is.
        if not isinstance(found, h5py.Dataset) or found.chunks is None or len(box) != found.ndim:
            return
        _check_filters(f"{path}::{name}", found)
        n_bytes = prod(found.chunks) * found.dtype.itemsize
        longest = DEFLATE_RATIO * found.id.get_storage_size()
        if max(n_bytes, longest) > limit():
            for place in _places(found, box):
                _check(f"{path}::{name}", found, place, n_bytes)


def check_all_chunks(path: str) -> None:
    """Refuse an HDF5 file if a chunk of any of its variables would unpack to far more.

    Raises
    ------
    DataSetError
    """
    if find_spec("h5py") is None:
        return
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def visit(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and found.chunks is not None:
            shapes[name] = found.shape

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    for name, shape in shapes.items():
        check_chunks(path, name, [slice(None)] * len(shape))


def _check_filters(where: str, found: Any) -> None:
    """Refuse chunks that are packed twice: what the inner packing becomes is not known."""
    from h5py import h5z

    known = {h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET}
    filters = found.id.get_create_plist()
    numbers = [filters.get_filter(k)[0] for k in range(filters.get_nfilters())]
    if sum(number not in known for number in numbers) > 1:
        raise DataSetError(
            f"{where}: its chunks are packed more than once, so that it is not known what they "
            "unpack to; write it again with one compression"
        )


def _places(found: Any, box: Sequence[slice]) -> Any:
    """Return the first index of each chunk that a box touches."""
    ranges = []
    for side, size, n in zip(box, found.chunks, found.shape, strict=True):
        start, stop, _ = side.indices(n)
        ranges.append(range(start - start % size, stop, size))
    return product(*ranges)


def _check(where: str, found: Any, place: tuple[int, ...], n_bytes: int) -> None:
    n_stored = found.id.get_chunk_info_by_coord(place).size
    if not n_stored:
        return  # it reads as the fill value
    what = f"the chunk at {place}"
    check_unpacked(where, what, n_bytes, n_stored)
    if found.compression != "gzip" or n_stored * DEFLATE_RATIO <= limit():
        return
    skipped, packed = found.id.read_direct_chunk(place)
    most = allowed(n_stored)
    if not skipped and (unpacked_bytes("zlib", memoryview(packed), most) or 0) > most:
        raise too_large(where, f"{what} would unpack to more than {size_text(most)}", n_stored)
