"""What an importer hands over: named splits of rows, a batch at a time, in the file's own dtype."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy_format

from dkde.errors import DataSetError, DkdeError

BATCH_BYTES = 8 * 2**20
# DEFLATE cannot do better than 1032 : 1, so a file that promises more than that is lying, and
# can be refused before anything of the promised size is allocated.
DEFLATE_RATIO = 1032
_SNIFF_BYTES = 1024
_MAX_NPY_HEADER = 10_000  # NumPy's own limit, which it asks for after it has read the header

Array = np.ndarray[Any, np.dtype[Any]]
Batches = Callable[[], Iterator[Array]]


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about a file that does not say it itself.

    Parameters
    ----------
    split : str
        The split's name where the file holds one unnamed array.
    layout : {"CHW", "HWC"}, optional
        Where the channels are, for files of colour pictures that do not fix it.
    """

    split: str = "train"
    layout: str | None = None


@dataclass(frozen=True)
class SourceSplit:
    """One split of a source, read lazily; a decoded value is ``raw * scale_factor + add_offset``.

    Parameters
    ----------
    name : str
    n_rows, n_features : int
    dtype : numpy.dtype
        Of the raw values, in native byte order.
    batches : callable
        Without arguments; returns an iterator of (rows, n_features) arrays of `dtype`, in
        order, each of at most about 8 MiB. May be called again.
    scale_factor, add_offset : float
    image_shape : tuple of int, optional
        (H, W) for grey pictures, (C, H, W) with layout "CHW" or (H, W, C) with layout "HWC".
    layout : {"CHW", "HWC"}, optional
    labels : mapping of str to int array
        ``label`` and, where there is one, ``coarse_label``; each of shape (n_rows,).
    display_range : pair of float, optional
        What goes from black to white in pictures, if not the range of the values.
    whole : callable, optional
        Returns all rows at once, where even a batch takes that; in any memory order.
    """

    name: str
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    batches: Batches
    scale_factor: float = 1.0
    add_offset: float = 0.0
    image_shape: tuple[int, ...] | None = None
    layout: str | None = None
    labels: Mapping[str, Array] = field(default_factory=dict)
    display_range: tuple[float, float] | None = None
    whole: Callable[[], Array] | None = None


@dataclass(frozen=True)
class Source:
    """A file, or a folder of files, that an importer understood.

    Parameters
    ----------
    path : pathlib.Path
    format : str
        The name of the importer.
    checksum : str
        ``"sha256:..."`` of the bytes of the file, or of the files in order of name.
    splits : tuple of SourceSplit
    """

    path: Path
    format: str
    checksum: str
    splits: tuple[SourceSplit, ...]


def load_split(split: SourceSplit) -> Array:
    """Read a whole split into one array of its raw dtype, without a second copy.

    Parameters
    ----------
    split : SourceSplit

    Returns
    -------
    ndarray of shape (n_rows, n_features)

    Raises
    ------
    DataSetError
        If the source cannot be read to its end.
    """
    if (whole := split.whole) is not None:
        (rows,) = checked_batches(replace(split, batches=lambda: iter([whole()])))
        return rows
    rows = np.empty((split.n_rows, split.n_features), split.dtype)
    start = 0
    for batch in checked_batches(split):
        rows[start : start + len(batch)] = batch
        start += len(batch)
    return rows


def checked_batches(split: SourceSplit) -> Iterator[Array]:
    """The batches of a split, held against what it promises.

    Raises
    ------
    DataSetError
        If they differ, as when a file is replaced between the two times that it is opened.
    """
    n_found = 0
    for batch in split.batches():
        n_found += len(batch)
        if n_found > split.n_rows or batch.shape[1:] != (split.n_features,):
            break
        yield batch
    if n_found != split.n_rows:
        raise DataSetError(
            f"split {split.name}: {split.n_rows} rows of {split.n_features} were promised, and "
            "others were read; the source changed in the meantime, import it again"
        )


def array_batches(rows: Array) -> Iterator[Array]:
    """Cut an N-D array, or a memory map of one, into flattened batches of native byte order."""
    n_features = math.prod(rows.shape[1:])
    native = rows.dtype.newbyteorder("=")
    dtype = np.dtype(np.uint8) if native.kind == "b" else native
    step = batch_rows(n_features, dtype)
    for start in range(0, len(rows), step):
        batch = rows[start : start + step]
        yield np.ascontiguousarray(batch.reshape(len(batch), n_features), dtype=dtype)


def batch_rows(n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows of a batch: as many as fit 8 MiB, at least one."""
    return max(1, BATCH_BYTES // max(1, n_features * dtype.itemsize))


def stored_dtype(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The native numeric dtype under which rows of `dtype` are stored.

    Raises
    ------
    DataSetError
        For dtypes that are not real numbers of at most 64 bits.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataSetError(
            f"{where}: holds {dtype}; only bool, integers and floats of up to 64 bits can be rows"
        )
    return dtype.newbyteorder("=")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether it lies by columns, and the dtype of a .npy, from its start.

    Raises
    ------
    ValueError, EOFError
        Or whatever else NumPy's parser raises.
    """
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a .npy of version {version}, which no numeric array has")
    length = file.read(2 if version == (1, 0) else 4)
    if len(length) < (2 if version == (1, 0) else 4):
        raise EOFError("the file ends within its header")
    n_bytes = int.from_bytes(length, "little")
    if n_bytes > _MAX_NPY_HEADER:
        raise ValueError(f"a header of {n_bytes} bytes, which no numeric array has")
    text = file.read(n_bytes)
    if len(text) < n_bytes:
        raise EOFError("the file ends within its header")
    header = io.BytesIO(length + text)
    first = version == (1, 0)
    reader = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
    try:
        shape, by_columns, dtype = reader(header)
    except (MemoryError, RecursionError):  # how Python's parser says it
        raise ValueError("a header that is nested too deeply") from None
    if not all(0 <= n < 2**63 for n in shape):
        raise ValueError("a shape with sizes below 0, or above 2**63 - 1")
    return shape, by_columns, dtype


def image_dims(
    dims: tuple[int, ...], layout: str | None
) -> tuple[tuple[int, ...] | None, str | None]:
    """What the trailing dimensions of an array say about its pictures.

    Returns
    -------
    image_shape : tuple of int or None
        `dims` where they are those of a grey or a colour picture.
    layout : {"CHW", "HWC"} or None
        As given; else "HWC" if the last dimension can be channels (1, 3 or 4), else "CHW" if
        the first can.

    Examples
    --------
    >>> image_dims((28, 28), None)
    ((28, 28), None)
    >>> image_dims((3, 32, 32), None)
    ((3, 32, 32), 'CHW')
    >>> image_dims((7, 32, 32), None)
    (None, None)
    """
    if len(dims) == 2:
        return dims, None
    if len(dims) != 3:
        return None, None
    if layout is None:
        layout = "HWC" if dims[2] in (1, 3, 4) else "CHW" if dims[0] in (1, 3, 4) else None
    return (dims, layout) if layout else (None, None)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read as `what` into one DataSetError.

    Hostile or damaged bytes reach gzip, tarfile, zipfile, pickle and NumPy's header parser,
    which between them raise almost anything, MemoryError and RecursionError included.
    """
    try:
        yield
    except DkdeError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataSetError(
            f"{path}: the {what} is truncated or damaged ({_one_line(error)}); fetch it again"
        ) from error
    except FileNotFoundError as error:
        raise DataSetError(f"{path}: no such file or folder") from error
    except PermissionError as error:
        raise DataSetError(f"{path}: may not be read (permission denied)") from error
    except MemoryError as error:
        raise DataSetError(
            f"{path}: reading it as {what} needs more memory than there is"
        ) from error
    except Exception as error:
        raise DataSetError(
            f"{path}: not readable as {what} ({type(error).__name__}: {_one_line(error)})"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip if its first bytes say so, whatever its name."""
    stream = path.open("rb")
    try:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    if not compressed:
        return stream
    stream.close()
    return cast("IO[bytes]", gzip.open(path, "rb"))


def max_content(path: Path) -> int:
    """Upper bound in bytes of what the file can hold, decompressed if it is gzipped."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        return size * (DEFLATE_RATIO if stream.read(2) == b"\x1f\x8b" else 1)


def sniff(path: Path) -> bytes:
    """The first bytes of a file's content, decompressed; fewer, perhaps none, if it is damaged."""
    with path.open("rb") as stream:
        head = stream.read(8 * _SNIFF_BYTES)
    if head[:2] != b"\x1f\x8b":
        return head[:_SNIFF_BYTES]
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _SNIFF_BYTES)
    except zlib.error:
        return b""


def checksum_files(paths: Iterable[Path]) -> str:
    """``sha256:...`` over the bytes of the files, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.name):
        with path.open("rb") as stream:
            while piece := stream.read(2**20):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
