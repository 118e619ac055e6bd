"""A data set on disk: a Zarr v3 group that holds one group for each split, with the rows as `x`.

Rows keep the dtype of their source. CF's `scale_factor` and `add_offset` say how they are
decoded, so plain xarray opens a split as well. A data set is written once and as a whole
(`dkde.datasets.writing`), and it is read-only from then on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from zarr.storage import LocalStore

from dkde.datasets.import_options import unusable_name
from dkde.datasets.metadata import Meta, checked_fields, classes_of
from dkde.errors import DataSetError, DkdeError, one_line
from dkde.rows.places import kind_of
from dkde.stores.chunks import Strict, check_array, check_chunks
from dkde.stores.door import Folder
from dkde.stores.publishing import is_there
from dkde.stores.repositories import is_icechunk
from dkde.stores.store import is_remote, keys_below, open_store

if TYPE_CHECKING:
    import xarray as xr
    from zarr.abc.store import Store

    StorePath = str | os.PathLike[str] | Store

# The root's `dkde_format`. A data set of another number is refused: its layout is not known here.
FORMAT = "dataset/1"
LABELS = ("label", "coarse_label")
# The only arrays that a split may hold; any other name in its metadata is taken for damage.
_ARRAYS = ("x", *LABELS, "source_row")
_ABSENT = "no such data set; make one with `dkde import`"


@dataclass(frozen=True)
class Split(Meta):
    """One split of a data set, opened read-only; nothing of its rows is read yet.

    Parameters
    ----------
    name : str
    x : zarr.Array
        Raw rows (sample, feature).
    labels : dict of str to zarr.Array
        ``label`` and ``coarse_label``, as far as the source has them; integers (sample,).
    source_row : zarr.Array
        The number of each row in the source's split, before rows were reordered; integers
        (sample,).
    checksum : str
        ``"sha256:..."`` of the rows, their dtype and their decoding: equal content, equal
        checksum, whatever file or format it came from.
    actual_range : (float, float) or None
        The least and the greatest finite decoded value; None if no value is finite.
    n_missing, n_infinite, n_constant : int
        Number of NaN values, number of infinite values, and number of features with only one
        value.
    """

    name: str
    x: zarr.Array[Any]
    labels: dict[str, zarr.Array[Any]]
    source_row: zarr.Array[Any]
    checksum: str
    actual_range: tuple[float, float] | None
    n_missing: int
    n_infinite: int
    n_constant: int

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return int(self.x.shape[0])

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return int(self.x.shape[1])


def open_split(store: StorePath, split: str) -> Split:
    """Open one split of a data set for reading its raw rows.

    Raises
    ------
    DataSetError
        If `store` is missing, is no data set of dkde, its import was never finished, or it has
        no such split.
    """
    root = open_root(store)
    if split not in (names := _split_names(store, root)):
        raise DataSetError(f"{store}: has no split {split!r}; it has {', '.join(names)}")
    return _split_of(store, root, split)


def open_splits(store: StorePath) -> dict[str, Split]:
    """Open all splits of a data set, by name and in order, as :func:`open_split` opens one."""
    root = open_root(store)
    return {name: _split_of(store, root, name) for name in _split_names(store, root)}


def open_dataset(store: StorePath) -> xr.DataTree:
    """Open a data set lazily, each split a node, `x` decoded to float64.

    The decoding is done here and not by xarray: CF leaves the float type to the reader, and
    xarray's choice depends on its version and on which of the two attributes are present. Here
    it is always ``raw * scale_factor + add_offset`` in float64.

    The presence of every chunk is checked when the data set is opened, because xarray would read
    a missing chunk as zeros. In a bucket the chunks are listed. A chunk of a bucket that is
    deleted later raises an error when it is read.

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
        chunk is missing.
    """
    import xarray as xr  # slow to import, and only this function needs it

    root = open_root(store)
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=dict(root.attrs))}
    for name in _split_names(store, root):
        split = _split_of(store, root, name)
        with _opening(store, f"split {name!r}"):
            # xarray's own decoding is off: it would turn labels with a unit of "days" into dates.
            # In a bucket a missing chunk must be an error and not zeros, hence Strict.
            raw = xr.open_zarr(
                root.store if isinstance(root.store, LocalStore) else Strict(root.store),
                group=split.x.path.removesuffix("/x"),
                chunks={},
                decode_cf=False,
                zarr_format=3,
            )
            # Zarr fills a missing chunk with zeros in silence, so each one is looked for now.
            for array in (split.x, split.source_row, *split.labels.values()):
                check_chunks(array, 0, array.shape[0])
            attributes = dict(raw["x"].attrs)
            x = raw["x"].astype(np.float64)
            # A factor of 1 is left out: each step adds a layer to every graph built on this.
            # `pop`, because values that are decoded must not carry the attributes of the coding.
            if attributes.pop("scale_factor", 1.0) != 1:
                x = x * split.scale_factor
            if attributes.pop("add_offset", 0.0) != 0:
                x = x + split.add_offset
            nodes[f"/{name}"] = raw.assign(x=x.assign_attrs(attributes))
            if split.features is not None:
                names = np.array(split.features, str)
                nodes[f"/{name}"] = nodes[f"/{name}"].assign_coords(feature=names)
    return xr.DataTree.from_dict(nodes)


def _split_of(store: StorePath, root: zarr.Group, name: str) -> Split:
    """Return a split of a data set whose root is open; ``store`` is for messages."""
    with _opening(store, f"split {name!r}"):
        group, members = _members(root, name)
        attributes, x = group.attrs.asdict(), members["x"]
        coding = x.attrs.asdict()
        # The rows set the length: all other arrays must be one-dimensional and just as long.
        check_array(x, "iuf", x.shape[:1], ndim=2)
        for key in members.keys() - {"x"}:
            check_array(members[key], "iu", x.shape[:1], ndim=1)
        if not isinstance(attributes["checksum"], str):
            raise TypeError("the checksum is not a text")
        return Split(
            name=name,
            x=x,
            labels={key: members[key] for key in LABELS if key in members},
            source_row=members["source_row"],
            checksum=attributes["checksum"],
            **checked_fields(attributes, coding, x.shape[1]),
            classes={
                key: names
                for key in LABELS
                if key in members
                and (names := classes_of(members[key].attrs.get("flag_meanings", "")))
            },
        )


def _members(root: zarr.Group, name: str) -> tuple[zarr.Group, dict[str, zarr.Array[Any]]]:
    """Return a split's group and its arrays, if all copies of their metadata agree.

    The metadata is stored three times: consolidated in the root, consolidated in the split, and
    in each array. No copy has a checksum, so a change in one copy is found by comparing it with
    the others.
    """
    path = f"{root.path}/{name}".lstrip("/")
    by_split = zarr.open_group(root.store, path=path, mode="r", zarr_format=3)
    plain = zarr.open_group(root.store, path=path, mode="r", zarr_format=3, use_consolidated=False)
    by_root = root[name]
    # Each array is opened once only: in a bucket every opening is a request.
    members = {key: found for key in _ARRAYS if (found := plain.get(key)) is not None}
    for group in (by_root, by_split):
        # Consolidated metadata may describe arrays of Zarr v2, whose filters can run code. The
        # arrays are therefore read through `plain`, and these copies are only compared with it.
        if not isinstance(group, zarr.Group) or group.attrs.asdict() != plain.attrs.asdict():
            raise ValueError("its own metadata differs from the consolidated metadata")
        if sorted(group.keys()) != sorted(members):
            raise ValueError(
                f"its metadata lists {', '.join(sorted(group.keys()))}, but it holds "
                f"{', '.join(members)}"
            )
        for key, member in members.items():
            if cast("Any", group[key]).metadata != cast("Any", member).metadata:
                raise ValueError(f"the metadata of {key} differs from the consolidated metadata")
    return plain, cast("dict[str, zarr.Array[Any]]", members)


def is_dataset(store: Path | Store) -> bool:
    """Return whether a folder or store is a dkde data set, finished or not, of any version.

    Raises
    ------
    DataSetError
        When a store cannot be reached.
    """
    try:
        opened = open_store(store, read_only=True) if isinstance(store, Path) else store
        root = zarr.open_group(opened, mode="r", zarr_format=3)

        return str(root.attrs.get("dkde_format", "")).startswith("dataset/")
    except DkdeError:
        raise
    except Exception:  # damaged metadata can raise almost any exception in Zarr
        return False


def _split_names(store: StorePath, root: zarr.Group) -> list[str]:
    """Return the names of the splits of a data set whose root is open."""
    with _opening(store, "the list of its splits"):
        names = cast("Any", root.attrs["splits"])
        if not isinstance(names, list) or not names or len({*names}) < len(names):
            raise ValueError(f"{names!r} is not a list of different names")
        # The names become paths in the store, so a hostile one must not lead out of the group.
        if bad := [n for n in names if not isinstance(n, str) or unusable_name(n)]:
            raise ValueError(f"{bad[0]!r} is not a valid name of a split")
        return names


@contextmanager
def _opening(store: StorePath, what: str) -> Iterator[None]:
    """Turn any exception that damaged metadata cause in Zarr and xarray into one line."""
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        raise DataSetError(
            f"{store}: {what} is damaged ({type(error).__name__}: {one_line(error)}); import it "
            "again"
        ) from error


def _opened(store: StorePath) -> Store:
    """Return the store by its absolute path, as a worker may run in another folder."""
    if isinstance(store, LocalStore):
        return Folder(store.root.absolute(), read_only=store.read_only)
    if isinstance(store, str | os.PathLike):
        return open_store(store, read_only=True)
    return store


def open_root(store: StorePath) -> zarr.Group:
    """Return the root of a complete data set; raises as :func:`open_splits`."""
    if isinstance(store, str | os.PathLike) and not (is_remote(store) or is_icechunk(store)):
        path = Path(store)
        if not is_there(path):
            raise DataSetError(f"{store}: {_ABSENT}")
        if not path.is_dir():
            # Zarr, NetCDF and HDF5 files are scored where they are, so they need no import.
            way = "; name a data set here" if kind_of(path) else "; import it first"
            raise DataSetError(f"{store}: a file and not a data set of dkde{way}")
    opened = _opened(store)
    try:
        root = zarr.open_group(opened, mode="r", zarr_format=3)
    except PermissionError as error:
        raise DataSetError(f"{store}: may not be read (permission denied)") from error
    except (DkdeError, MemoryError):
        raise
    except Exception as error:  # damaged metadata can raise almost any exception in Zarr
        # Where the bucket itself does not exist, the listing raises an error that says so.
        if not isinstance(opened, LocalStore) and not keys_below(opened, ""):
            raise DataSetError(f"{store}: {_ABSENT}") from error
        raise DataSetError(
            f"{store}: not a data set of dkde (no Zarr v3 group); if it was one, import it again"
        ) from error
    version = root.attrs.get("dkde_format")
    if str(version).startswith("result/"):
        raise DataSetError(
            f"{store}: is a result of dkde and not a data set; open it with xarray.open_zarr"
        )
    if not str(version).startswith("dataset/"):
        raise DataSetError(f"{store}: a Zarr group, but not a data set of dkde")
    if version != FORMAT:
        raise DataSetError(
            f"{store}: a data set of format {version}, and this dkde reads {FORMAT}; import it "
            "again, or update dkde"
        )
    # The writer sets `complete` with its last request, after all rows and all metadata.
    if not root.attrs.get("complete"):
        raise DataSetError(f"{store}: its import was never finished; import it again")
    return root
