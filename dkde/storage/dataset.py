"""A data set on disk: a Zarr v3 group, in it a group for each split, in each the rows `x`.

Rows keep the dtype of their source; CF's `scale_factor` and `add_offset` say what they mean, so
plain xarray opens a split as well. A data set is written once, whole (`dkde.storage.importing`),
and read-only from then on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.storage.options import unusable_name
from dkde.storage.sources import check_array, check_chunks

if TYPE_CHECKING:
    import xarray as xr
    from zarr.abc.store import Store

    StorePath = str | os.PathLike[str] | Store

FORMAT = "dataset/1"
LABELS = ("label", "coarse_label")
_ARRAYS = ("x", *LABELS, "source_row")
DIMENSIONS = ("sample", "feature")
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Split:
    """One split of a data set, opened read-only; nothing of its rows is read yet.

    Parameters
    ----------
    name : str
    x : zarr.Array
        Raw rows (sample, feature); a value is ``x * scale_factor + add_offset`` in float64.
    scale_factor, add_offset : float
    image_shape : tuple of int or None
    layout : {"CHW", "HWC"} or None
    labels : dict of str to zarr.Array
        ``label`` and ``coarse_label``, as far as the source has them; integers (sample,).
    source_row : zarr.Array
        The row of the source's split that each row was; integers (sample,).
    checksum : str
        ``"sha256:..."`` of the rows, their dtype and their decoding: equal content, equal
        checksum, whatever file or format it came from.
    actual_range : (float, float) or None
        The least and the greatest finite decoded value; None if there is none.
    display_range : (float, float) or None
        What goes from black to white in pictures, if not that.
    """

    name: str
    x: zarr.Array[Any]
    scale_factor: float
    add_offset: float
    image_shape: tuple[int, ...] | None
    layout: str | None
    labels: dict[str, zarr.Array[Any]]
    source_row: zarr.Array[Any]
    checksum: str
    actual_range: tuple[float, float] | None
    display_range: tuple[float, float] | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.x.shape[1])


def chunk_rows(row_bytes: int) -> int:
    """Rows of a chunk: about 4 MiB of raw values, at least one row.

    Examples
    --------
    >>> chunk_rows(784)
    5349
    """
    return max(1, _CHUNK_BYTES // max(1, row_bytes))


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """Create an array of a split: chunked along `sample` only, compressed, with crc32c."""
    row_bytes = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(min(shape[0], chunk_rows(row_bytes)), *shape[1:]),
        # Level -5 decodes MNIST 1.5 times and noisy float32 3 times as fast as level 1, at 3.3
        # instead of 4.8 times less on disk. Blosc's lz4 is faster on MNIST, slower elsewhere.
        compressors=(ZstdCodec(level=-5), Crc32cCodec()),
        fill_value=0,
        dimension_names=DIMENSIONS[: len(shape)],
        attributes=dict(attributes or {}),
        # A chunk of zeros is written too: a missing file then always means damage.
        config={"write_empty_chunks": True},
    )


def splits(store: StorePath) -> list[str]:
    """The names of a data set's splits, in the order of the source.

    Parameters
    ----------
    store : str, path or zarr store

    Returns
    -------
    list of str

    Raises
    ------
    DataSetError
        If `store` is missing, is no data set of dkde, or its import was never finished.
    """
    return _split_names(store, _open_root(store))


def open_split(store: StorePath, split: str) -> Split:
    """Open one split of a data set for reading its raw rows.

    Parameters
    ----------
    store : str, path or zarr store
    split : str

    Returns
    -------
    Split

    Raises
    ------
    DataSetError
        If `store` is missing, is no data set of dkde, its import was never finished, or it has
        no such split.
    """
    root = _open_root(store)
    names = _split_names(store, root)
    if split not in names:
        raise DataSetError(f"{store}: has no split {split!r}; it has {', '.join(names)}")
    return _split(store, root, split)


def _split(store: StorePath, root: zarr.Group, name: str) -> Split:
    with _opening(store, f"split {name!r}"):
        group, members = _members(root, name)
        attributes, x = group.attrs.asdict(), members["x"]
        coding = x.attrs.asdict()
        check_array(x, "iuf", x.shape[:1], ndim=2)
        for key in members.keys() - {"x"}:
            check_array(members[key], "iu", x.shape[:1], ndim=1)
        shape = cast("list[int] | None", attributes.get("image_shape"))
        if shape is not None and (
            not all(type(n) is int and n > 0 for n in shape) or math.prod(shape) != x.shape[1]
        ):
            raise ValueError(f"image_shape {shape} for {x.shape[1]} features")
        if (layout := attributes.get("layout")) not in (None, "CHW", "HWC"):
            raise ValueError(f"layout {layout!r}")
        if not isinstance(attributes["checksum"], str):
            raise TypeError("the checksum is no text")
        return Split(
            name=name,
            x=x,
            scale_factor=_numbers([coding.get("scale_factor", 1.0)])[0],
            add_offset=_numbers([coding.get("add_offset", 0.0)])[0],
            image_shape=None if shape is None else tuple(shape),
            layout=layout,
            labels={key: members[key] for key in LABELS if key in members},
            source_row=members["source_row"],
            checksum=attributes["checksum"],
            actual_range=_range(coding.get("actual_range")),
            display_range=_range(attributes.get("display_range")),
        )


def _members(root: zarr.Group, name: str) -> tuple[zarr.Group, dict[str, zarr.Array[Any]]]:
    """A split and its arrays, if all that describes them agrees.

    It is written three times: in the metadata of the root, of the split, and of each array.
    None has a checksum, and what is changed in one of them shows by the others.
    """
    path = f"{root.path}/{name}".lstrip("/")
    by_split = zarr.open_group(root.store, path=path, mode="r", zarr_format=3)
    plain = zarr.open_group(root.store, path=path, mode="r", zarr_format=3, use_consolidated=False)
    by_root = root[name]
    names = [key for key in _ARRAYS if key in plain]
    for group in (by_root, by_split):
        # Consolidated metadata may name arrays of Zarr v2, whose filters can run code.
        if not isinstance(group, zarr.Group) or group.attrs.asdict() != plain.attrs.asdict():
            raise ValueError("its metadata and the root's differ")
        if sorted(group.keys()) != sorted(names):
            raise ValueError(f"it holds {', '.join(sorted(group.keys()))}, not {', '.join(names)}")
        for key in names:
            if cast("Any", group[key]).metadata != cast("Any", plain[key]).metadata:
                raise ValueError(f"what is said of {key} differs from place to place")
    return plain, {key: cast("zarr.Array[Any]", plain[key]) for key in names}


def _numbers(values: Any) -> list[float]:
    numbers = [float(value) for value in values if type(value) in (int, float)]
    if len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{values!r} are no finite numbers")
    return numbers


def _range(ends: Any) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = _numbers(ends)
    return low, high


def open_dataset(store: StorePath) -> xr.DataTree:
    """Open a data set lazily, each split a node, `x` decoded to float64.

    The decoding is done here and not by xarray: CF leaves the float type to the reader, and
    xarray's choice depends on its version and on which of the two attributes are there. Here it
    is always ``raw * scale_factor + add_offset`` in float64.

    Of a local store it is seen to that every chunk is there, now and not later: xarray would
    read a missing one as zeros.

    Parameters
    ----------
    store : str, path or zarr store

    Returns
    -------
    xarray.DataTree
        Children in the order of the source; variables are lazy Dask arrays.

    Raises
    ------
    DataSetError
        If `store` is missing, is no data set of dkde, its import was never finished, or a
        chunk of a local one is missing.
    """
    import xarray as xr  # slow to import, and only this function needs it

    root = _open_root(store)
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=dict(root.attrs))}
    for name in _split_names(store, root):
        split = _split(store, root, name)
        with _opening(store, f"split {name!r}"):
            # Not decoded by what attributes say: a unit of "days" would make dates of labels.
            raw = xr.open_zarr(
                root.store,
                group=split.x.path.removesuffix("/x"),
                chunks={},
                decode_cf=False,
                zarr_format=3,
            )
            if isinstance(root.store, LocalStore):
                for array in (split.x, split.source_row, *split.labels.values()):
                    check_chunks(array, 0, array.shape[0])
            attributes = dict(raw["x"].attrs)
            x = raw["x"].astype(np.float64)
            # Not multiplied by 1: each step is another layer of every graph built on this.
            if attributes.pop("scale_factor", 1.0) != 1:
                x = x * split.scale_factor
            if attributes.pop("add_offset", 0.0) != 0:
                x = x + split.add_offset
            nodes[f"/{name}"] = raw.assign(x=x.assign_attrs(attributes))
    return xr.DataTree.from_dict(nodes)


def is_dataset(path: Path) -> bool:
    """Whether a folder is a data set of dkde, finished or not, of any version."""
    try:
        root = zarr.open_group(path, mode="r", zarr_format=3)
        return str(root.attrs.get("dkde_format", "")).startswith("dataset/")
    except Exception:  # damaged metadata raise almost anything
        return False


def _split_names(store: StorePath, root: zarr.Group) -> list[str]:
    with _opening(store, "the list of its splits"):
        names = cast("Any", root.attrs["splits"])
        if not isinstance(names, list) or not names or len({*names}) < len(names):
            raise ValueError(f"{names!r} is no list of names")
        if bad := [n for n in names if not isinstance(n, str) or unusable_name(n)]:
            raise ValueError(f"{bad[0]!r} is no split's name")
        return names


@contextmanager
def _opening(store: StorePath, what: str) -> Iterator[None]:
    """Turn whatever damaged metadata raise in Zarr and xarray, almost anything, into one line."""
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        raise DataSetError(
            f"{store}: {what} is damaged ({type(error).__name__}: {one_line(error)}); import it "
            "again"
        ) from error


def _absolute(store: StorePath) -> StorePath:
    """The store by its whole path: a relative one means another folder in a worker."""
    if isinstance(store, LocalStore):
        if store.root.is_absolute():
            return store
        return LocalStore(store.root.absolute(), read_only=store.read_only)
    if isinstance(store, str | os.PathLike) and "://" not in str(store):
        return Path(store).absolute()
    return store


def _open_root(store: StorePath) -> zarr.Group:
    if isinstance(store, str | os.PathLike) and "://" not in str(store):
        path = Path(store)
        if not path.exists():
            raise DataSetError(f"{store}: no such data set; make one with `dkde import`")
        if not path.is_dir():
            raise DataSetError(f"{store}: a file and not a data set; import it first")
    try:
        root = zarr.open_group(cast("Any", _absolute(store)), mode="r", zarr_format=3)
    except PermissionError as error:
        raise DataSetError(f"{store}: may not be read (permission denied)") from error
    except MemoryError:
        raise
    except Exception as error:  # damaged metadata raise almost anything
        raise DataSetError(
            f"{store}: not a data set of dkde (no Zarr v3 group), or a damaged one; import it again"
        ) from error
    version = root.attrs.get("dkde_format")
    if not str(version).startswith("dataset/"):
        raise DataSetError(f"{store}: a Zarr group, but not a data set of dkde")
    if version != FORMAT:
        raise DataSetError(
            f"{store}: a data set of format {version}, and this dkde reads {FORMAT}; import it "
            "again, or update dkde"
        )
    if not root.attrs.get("complete"):
        raise DataSetError(f"{store}: its import was never finished; import it again")
    return root
