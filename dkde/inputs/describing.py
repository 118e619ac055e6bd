"""Descriptions of data sets, and of files that can be imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from dkde.datasets.dataset import Split, is_dataset, open_root, open_splits
from dkde.datasets.formats import SourceSplit, is_table, is_table_url, read_source
from dkde.datasets.formats.source import checked_batches
from dkde.datasets.index import index_state
from dkde.errors import InputError
from dkde.inputs.describing_variables import Progress, describe_variables
from dkde.inputs.foreign import listing, parted, path_of, place_of
from dkde.inputs.kept_splits import kept_source, kept_stored
from dkde.inputs.opening import open_source
from dkde.inputs.scales import scales
from dkde.numerics.tally import Tally
from dkde.progress import StageProgressLike, by_stages, shows_stages
from dkde.rows.columns import positions
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.row_dims import unknown_dims
from dkde.rows.row_filter import RowFilter
from dkde.rows.side_choices import check_roles
from dkde.rows.sources import ZarrSource
from dkde.stores.publishing import say_what_is_left
from dkde.stores.repositories import is_icechunk
from dkde.stores.store import is_remote
from dkde.typing import Array, StrPath

# The bytes of a file to import that are read for the range of its values.
_RANGE_BYTES = 256 * 2**20
# The largest number of features that are described one by one.
_MOST_FEATURES = 16
# The attributes that a data set has from its import.
_RECORDED = ("source", "source_format", "source_checksum", "import_options", "dkde_version")


@shows_stages("rows")
def describe(
    store: StrPath,
    features: Sequence[str] | None = None,
    *,
    where: str | None = None,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
    decimal: str | None = None,
    values: bool = True,
    progress: StageProgressLike = None,
) -> dict[str, Any]:
    """Describe a data set, any file that can be imported, or variables that may be features.

    Parameters
    ----------
    store : str, path or URL
        A data set; a file or folder that :func:`dkde.import_dataset` reads; or a foreign Zarr
        store or NetCDF file. ``SOURCE::SPLIT`` names one split of a data set, ``SOURCE::GROUP``
        one group of a foreign store or file.
    features : sequence of str, optional
        The features to describe: columns of a table or a data set, or variables of a foreign store
        or file, by default all with the dims of the widest one.
    where : str, optional
        The condition that rows meet; only these are described, of every split. Of variables, only
        the features have figures then.
    row_dim, lat, lon
        As for :func:`dkde.log_density`.
    decimal : {".", ","}, optional
        The decimal mark of numbers in text, as for :func:`dkde.import_dataset`.
    values : bool
        False to leave the values of a data set unread, and its single features without figures.
    progress : callable, optional
        Called with (split or variable, rows read, rows in all) as values are read.

    Returns
    -------
    dict
        The description, ready for JSON.

        A data set or file has ``name``; ``kind``, which is "data set" or the file's format;
        ``source``, ``source_format``, ``source_checksum``, ``import_options`` and
        ``dkde_version``, as recorded at the import, or None; ``columns_left_out``, the columns of
        a table that are no features; ``left_out``, the same by name with the reason of each;
        ``converted``, the features that are no numbers in the source, by name, with the unit of
        the numbers that they became; and ``splits``, by name.

        Each split has ``rows``, ``features``, the stored ``dtype``, and ``scale`` and ``offset``
        for decoding. ``value_range`` is that of the finite values in the first
        ``value_range_rows`` rows, which are all rows except in large files. In the same rows,
        ``missing`` (NaN) and ``infinite`` count values, and ``constant_features`` counts features
        (None unless all rows were read). ``columns`` describes up to 16 features, or the named
        ones, by name: ``value_range``, ``mean``, ``standard_deviation`` (without bias),
        ``missing`` and ``infinite``. ``ratio_of_standard_deviations`` is that of the widest to the
        narrowest feature, and ``advice`` says in words what this means for the covariance. Then
        follow ``feature_names`` or None, ``chunk_rows``, ``bytes_raw``, ``bytes_stored`` (None for
        files), ``image_shape``, ``layout``; ``labels``, the number of classes of each label;
        ``classes``, the names of the classes, by label; ``checksum``; and ``index``: "yes", "of
        other rows", "damaged", or None. With ``where``, which the description repeats, each split
        has ``rows_in_all`` beside the number of rows that meet it; what holds for a split as a
        whole is None.

        A foreign Zarr store or NetCDF file has other entries: ``name``, ``kind`` and ``features``;
        the number of ``rows`` that these make, the ``row_dims`` along which rows lie, and the
        number of ``columns``; ``undecided``, the reason if rows and features are ambiguous, or
        None; the ``groups`` below; ``variables``, by name; ``ratio_of_standard_deviations`` and
        ``advice``. Each variable has ``dims`` with their sizes, ``dtype``, ``stored_dtype``,
        ``chunks``, ``units``, ``coordinate``, ``numeric``, and the figures of a column; or
        ``undecodable``, the reason. All values are read, or only those of named features. With
        ``where`` there is ``rows_in_all``, too.

    Raises
    ------
    InputError
        When there is no such split, group, feature or column, or no row meets ``where``.
    DataSetError
        When the source is of no known kind, or damaged.

    Examples
    --------
    >>> import dkde
    >>> dkde.describe("digits")["splits"]["valid"]["rows"]
    359
    """
    name = os.fspath(store)
    said = {"features": features, "where": where, "row_dim": row_dim, "lat": lat, "lon": lon}
    check_roles(said, ())
    choice = FeatureChoice.of(features or None, row_dim, lat, lon, where)
    kept = None if choice.where is None else RowFilter.parsed(choice.where)
    wanted = choice.literal.features
    if not is_remote(parted(name)[0]):
        say_what_is_left(path_of(parted(name)[0]), remove=False)
    place = place_of(name)
    if place is not None:
        is_asked = wanted or place.group or place.kind != "zarr"
        # Without such a request, an empty folder or a result goes on to the code for data sets,
        # whose error is more helpful.
        if is_asked or listing(name) is not None:
            described = describe_variables(
                place, name, wanted, choice.row_dim, kept, by_stages(progress)
            )
            chosen = {key: described["variables"][key] for key in described["features"]}
            return described | scales({k: each for k, each in chosen.items() if each["numeric"]})
    if choice.row_dim is not None:
        raise InputError(unknown_dims(choice.row_dim, f"{name} has no dims with names"))
    source, split = parted(name)
    inspection = _Inspection(wanted, values, kept, by_stages(progress), decimal)
    described = _describe_own(source, split, inspection)
    return {"name": name, **({"where": kept.text} if kept else {}), **described}


@dataclass(frozen=True)
class _Inspection:
    """The features to inspect, and whether to read their values.

    Parameters
    ----------
    features : tuple of str, optional
        The features that the user named; None for all.
    values : bool
        True to read the values of a data set.
    kept : RowFilter, optional
        The condition that rows meet which are described.
    progress, decimal
        As for :func:`describe`.
    is_whole : bool
        True to read all rows of a split that is no data set's.
    """

    features: tuple[str, ...] | None
    values: bool
    kept: RowFilter | None
    progress: Progress | None
    decimal: str | None = None
    is_whole: bool = False

    def columns(self, split: Split | SourceSplit, what: str) -> dict[str, int]:
        """Return the features to inspect one by one, and their positions."""
        if self.features is not None:
            places = positions(self.features, split.features, split.n_features, what)
            return dict(zip(self.features, places, strict=True))
        if split.n_features > _MOST_FEATURES or split.image_shape is not None:
            return {}
        names = split.features or ()
        if len(set(names)) < split.n_features:  # names that repeat cannot be keys: use numbers
            names = tuple(map(str, range(split.n_features)))
        return {name: i for i, name in enumerate(names)}

    def figures(self, split: Split | SourceSplit, what: str) -> dict[str, Any]:
        """Return the figures of a split: of each feature to inspect, and of all together."""
        columns, figures = self.columns(split, what), {}
        # A data set notes figures of all features at its import. Those of single features, and of
        # files, are counted now.
        found: Split | Tally
        if isinstance(split, Split) and not (columns and self.values):
            found, n_rows, ends = split, split.n_rows, split.actual_range
        else:
            found = Tally(len(columns) or split.n_features, spread=bool(columns))
            for batch in _batches(split, whole=self.is_whole):
                found.take(batch[:, list(columns.values())] if columns else batch)
                if self.progress is not None:
                    self.progress(what, found.n_rows, split.n_rows)
            coding = split.scale_factor, split.add_offset
            n_rows, ends = found.n_rows, found.value_range(*coding)
            figures = {name: found.figures(i, *coding) for i, name in enumerate(columns)}
        # A feature that is constant in the first rows need not be so in the others.
        n_constant = found.n_constant if n_rows == split.n_rows else None
        return {
            "value_range": ends and list(ends),
            "value_range_rows": n_rows,
            "missing": found.n_missing,
            "infinite": found.n_infinite,
            "constant_features": n_constant,
            "columns": figures or None,
            **scales(figures, n_constant, split.n_features),
        }


def _batches(split: Split | SourceSplit, *, whole: bool) -> Iterator[Array]:
    """Yield the stored rows: all rows of a data set, or of any split if ``whole``; else the first.

    Those of a file are read up to a number of bytes.
    """
    if isinstance(split, Split):
        source = ZarrSource(split.x, complete=True)
        for start, stop in pairwise(source.cuts(0, split.n_rows)):
            yield source.read(start, stop)
        return
    n_bytes = 0
    for batch in checked_batches(split):
        yield batch
        n_bytes += batch.nbytes
        if n_bytes >= _RANGE_BYTES and not whole:
            return


def _describe_own(source: str, split: str, inspection: _Inspection) -> dict[str, Any]:
    """Describe a data set, or a file that can be imported, without its name."""
    path = Path(source)
    splits: dict[str, Any]
    # A Zarr folder that is no data set also goes this way: opening it raises the right error.
    is_url, is_stored = is_remote(source), is_dataset(path) or (path / "zarr.json").exists()
    is_stored = is_stored or is_icechunk(source)
    if is_stored or (is_url and not is_table_url(source)):
        kind, known, splits = "data set", open_root(source).attrs.asdict(), open_splits(source)
        if inspection.kept is not None:
            _check_split(source, split, splits)
            chosen = {split: splits[split]} if split else splits
            parts = open_source(source, None, None)
            splits = {
                name: kept_stored(parts[name], each, inspection.kept)
                for name, each in chosen.items()
            }
            inspection = replace(inspection, is_whole=True)
    else:
        named = inspection.features and (is_url or is_table(path))
        found = read_source(
            source if is_url else path,
            columns=inspection.features if named else None,
            decimal=inspection.decimal,
        )
        columns = inspection.features if named else None
        if columns is not None:  # a column of lists becomes several features, with new names
            inspection = replace(inspection, features=found.splits[0].features)
        if inspection.kept is not None:
            _check_split(source, split, [each.name for each in found.splits])
            if split:
                own = tuple(each for each in found.splits if each.name == split)
                found = replace(found, splits=own)
            found = kept_source(found, inspection.kept, inspection.decimal)
        kind, splits = found.format, {each.name: each for each in found.splits}
        known = {
            "source": path.name,
            "source_format": found.format,
            "source_checksum": found.checksum,
            "columns_left_out": list(found.left_out),
            "left_out": dict(found.left_out),
            "converted": dict(found.converted),
        }
    _check_split(source, split, splits)
    return {
        "kind": kind,
        **{name: known.get(name) for name in _RECORDED},
        "columns_left_out": known.get("columns_left_out", []),
        "left_out": known.get("left_out", {}),
        "converted": known.get("converted", {}),
        "splits": {
            name: _describe_split(each, f"{source}::{name}", inspection)
            for name, each in splits.items()
            if split in ("", name)
        },
    }


def _check_split(source: str, split: str, known: Collection[str]) -> None:
    if split and split not in known:
        raise InputError(f"{source}: has no split {split!r}; it has {', '.join(known)}")


def _describe_split(
    split: Split | SourceSplit, what: str, inspection: _Inspection
) -> dict[str, Any]:
    """Describe a split; entries that files do not have are None."""
    stored = split if isinstance(split, Split) else None
    dtype = split.x.dtype if isinstance(split, Split) else split.dtype
    wanted, shape = inspection.features, split.image_shape
    known = wanted or split.features
    kept = None if isinstance(split, Split) else split.kept
    return {
        "rows": split.n_rows,
        **({"rows_in_all": kept.stop - kept.start} if kept is not None else {}),
        "features": len(wanted) if wanted else split.n_features,
        "scale": split.scale_factor,
        "offset": split.add_offset,
        "feature_names": known and list(known),
        "image_shape": None if shape is None or wanted else list(shape),
        "layout": None if wanted else split.layout,
        "dtype": str(dtype),
        **inspection.figures(split, what),
        "chunk_rows": stored and int(stored.x.chunks[0]),
        "bytes_raw": split.n_rows * split.n_features * dtype.itemsize,
        "bytes_stored": stored and int(stored.x.nbytes_stored()),
        "labels": {name: _n_classes(values) for name, values in split.labels.items()},
        "classes": {name: list(words) for name, words in split.classes.items()},
        "checksum": stored and stored.checksum,
        "index": stored and index_state(stored),
    }


def _n_classes(labels: Any) -> int:
    if isinstance(labels, zarr.Array):
        labels = ZarrSource(labels, complete=True).read(0, labels.shape[0])
    return len(np.unique(np.asarray(labels)))
