"""A description of a data set, or of a file that can be imported."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.dataset import Split, is_dataset, open_root, open_splits
from dkde.datasets.formats import SourceSplit, is_table, read_source
from dkde.datasets.formats.source import checked_batches
from dkde.datasets.index import index_state
from dkde.errors import InputError
from dkde.inputs.advising import advice, advice_of_many, ratio_of
from dkde.inputs.describing_variables import describe_variables
from dkde.inputs.foreign import listing, parted, path_of, place_of
from dkde.numerics.tally import Tally
from dkde.rows.columns import positions
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.row_dims import unknown_dims
from dkde.rows.sources import ZarrSource
from dkde.stores.publishing import say_what_is_left
from dkde.stores.store import is_remote

# Of a file that can be imported, how much is looked through for the range of its values.
_RANGE_BYTES = 256 * 2**20
# Up to so many features are looked at one by one.
_MOST_FEATURES = 16

Progress = Callable[[str, int, int], None]


def describe(
    store: str | os.PathLike[str],
    features: Sequence[str] | None = None,
    *,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
    values: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Describe a data set, any file that can be imported, or variables that may be features.

    Parameters
    ----------
    store : str, path or URL
        A data set; a file or folder that :func:`dkde.import_dataset` reads; or a Zarr store or
        NetCDF file of others. Of the first and the last, ``SOURCE::SPLIT`` or ``SOURCE::GROUP``
        is one split or group.
    features : sequence of str, optional
        Those to look at: columns of a table or a data set; variables of a store or a file of
        others, whose default are all that share the dims of the widest one.
    row_dim, lat, lon
        As for :func:`dkde.log_density`.
    values : bool
        Whether the values of a data set are read for the figures of its features.
    progress : callable, optional
        Called with (split or variable, rows read, rows in all) as values are read.

    Returns
    -------
    dict
        Ready for JSON. ``name``; ``kind``, "data set" or the file's format; ``source``,
        ``source_format``, ``source_checksum``, ``import_options`` and ``dkde_version`` as
        recorded at the import, None where there was none; ``columns_left_out``, those of a table
        that are no features, and ``left_out``, the same by name with the reason of each;
        ``converted``, the features that are no numbers in the source, by name, and what they
        became; and ``splits``, by name. Of a split:
        ``rows``, ``features``, ``dtype`` as stored, ``scale`` and ``offset`` that make values of
        it, ``value_range`` of the finite values (for large files, of the first
        ``value_range_rows``), of as many rows how many values are ``missing``, which is NaN, or
        ``infinite``, and how many features are constant (``constant_features``, None where not
        all rows were read); of up to 16 features, or those that were named, ``columns`` by name:
        ``value_range``, ``mean``, ``standard_deviation`` (without bias), ``missing`` and
        ``infinite`` of each, with ``ratio_of_standard_deviations``, the widest's to the
        narrowest's; ``advice``, what these mean for the covariance, in words; ``feature_names``,
        or None, ``chunk_rows``, ``bytes_raw``, ``bytes_stored`` (None for files),
        ``image_shape``, ``layout``, ``labels``, the number of classes of each label there is,
        ``classes``, their names by label where they have some, ``checksum``, and
        ``index``: "yes", "of other rows", "damaged", or None where there is none.
        Of a Zarr store or a NetCDF file of others in place of all that: ``name``, ``kind``,
        ``features``, ``rows`` that these make, the ``row_dims`` along which these lie, how many
        ``columns`` they have, ``undecided``, why rows and features cannot be told apart (None
        where they can), ``groups`` below, ``variables`` by name:
        ``dims`` with their sizes, ``dtype``, ``stored_dtype``, ``chunks``, ``units``,
        ``coordinate``, ``numeric``, and of the values, all of which are read (of the features
        alone, if they were named), the same as of columns; or ``undecodable``, why;
        ``ratio_of_standard_deviations`` and ``advice``.

    Raises
    ------
    InputError
        When it has no such split, group or features.
    DataSetError
        When it is neither, or damaged.

    Examples
    --------
    >>> import dkde
    >>> dkde.describe("digits")["splits"]["valid"]["rows"]
    359
    """
    name = os.fspath(store)
    choice = FeatureChoice.of(features or None, row_dim, lat, lon)
    wanted = choice.literal.features
    if not is_remote(parted(name)[0]):
        say_what_is_left(path_of(parted(name)[0]), remove=False)
    place = place_of(name)
    if place is not None:
        is_asked = wanted or place.group or place.kind != "zarr"
        # Of a folder with nothing in it, and of a result, the data set's own error tells more.
        if is_asked or listing(name) is not None:
            return describe_variables(place, name, wanted, choice.row_dim, progress)
    if choice.row_dim is not None:
        raise InputError(unknown_dims(choice.row_dim, f"{name} has no dims with names"))
    source, split = parted(name)
    described = _describe_own(source, split, _Looks(wanted, values, progress))
    return {"name": name, **described}


@dataclass(frozen=True)
class _Looks:
    """The features to inspect (those named, or all), and whether to inspect them."""

    features: tuple[str, ...] | None
    values: bool
    progress: Progress | None

    def columns(self, split: Split | SourceSplit, what: str) -> dict[str, int]:
        """Return the features to inspect one by one, and their positions."""
        if self.features is not None:
            places = positions(self.features, split.features, split.n_features, what)
            return dict(zip(self.features, places, strict=True))
        if split.n_features > _MOST_FEATURES or split.image_shape is not None:
            return {}
        names = split.features or ()
        if len(set(names)) < split.n_features:  # not each has one of its own
            names = tuple(map(str, range(split.n_features)))
        return {name: i for i, name in enumerate(names)}


def _describe_own(source: str, split: str, looks: _Looks) -> dict[str, Any]:
    """Describe a data set, or a file that can be imported, without its name."""
    path = Path(source)
    # A Zarr folder that is no data set: let the data set's own error say so.
    if is_remote(source) or is_dataset(path) or (path / "zarr.json").exists():
        attributes = open_root(source).attrs
        recorded = ("source", "source_format", "source_checksum", "import_options", "dkde_version")
        stored = _one_of(open_splits(source), split, source)
        return {
            "kind": "data set",
            **{name: attributes.get(name) for name in recorded},
            "columns_left_out": attributes.get("columns_left_out", []),
            "left_out": attributes.get("left_out", {}),
            "converted": attributes.get("converted", {}),
            "splits": {
                key: _stored(each, f"{source}::{key}", looks) for key, each in stored.items()
            },
        }
    columns = looks.features if looks.features and is_table(path) else None
    found = read_source(path, columns=columns)
    if columns is not None:  # a list's features have names of their own
        looks = replace(looks, features=found.splits[0].features)
    foreign = _one_of({each.name: each for each in found.splits}, split, source)
    return {
        "kind": found.format,
        "source": path.name,
        "source_format": found.format,
        "source_checksum": found.checksum,
        "import_options": None,
        "dkde_version": None,
        "columns_left_out": list(found.left_out),
        "left_out": dict(found.left_out),
        "converted": dict(found.converted),
        "splits": {key: _foreign(each, f"{source}::{key}", looks) for key, each in foreign.items()},
    }


def _one_of(splits: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """Return the split of that name; all splits without a name."""
    if name and name not in splits:
        raise InputError(f"{source}: has no split {name!r}; it has {', '.join(splits)}")
    return {name: splits[name]} if name else splits


def _stored(split: Split, what: str, looks: _Looks) -> dict[str, Any]:
    columns = looks.columns(split, what)
    if columns and looks.values:
        source = ZarrSource(split.x, complete=True)
        tally = Tally(len(columns), spread=True)
        for start, stop in pairwise(source.cuts(0, split.n_rows)):
            tally.take(source.read(start, stop)[:, list(columns.values())])
            if looks.progress is not None:
                looks.progress(what, stop, split.n_rows)
        figures = _figures(tally, split, columns)
    else:
        figures = {
            "value_range": None if split.actual_range is None else list(split.actual_range),
            "value_range_rows": split.n_rows,
            "missing": split.n_missing,
            "infinite": split.n_infinite,
            "constant_features": split.n_constant,
            "columns": None,
            "ratio_of_standard_deviations": None,
            "advice": advice_of_many(split.n_constant, split.n_features),
        }
    return {
        **_shape(split, looks),
        "dtype": str(split.x.dtype),
        **figures,
        "chunk_rows": int(split.x.chunks[0]),
        "bytes_raw": int(split.x.nbytes),
        "bytes_stored": int(split.x.nbytes_stored()),
        "labels": {
            name: _n_classes(ZarrSource(values, complete=True).read(0, split.n_rows))
            for name, values in split.labels.items()
        },
        "classes": {name: list(classes) for name, classes in split.classes.items()},
        "checksum": split.checksum,
        "index": index_state(split),
    }


def _foreign(split: SourceSplit, what: str, looks: _Looks) -> dict[str, Any]:
    columns = looks.columns(split, what)
    tally, n_bytes = Tally(len(columns) or split.n_features, spread=bool(columns)), 0
    for batch in checked_batches(split):
        tally.take(batch[:, list(columns.values())] if columns else batch)
        n_bytes += batch.nbytes
        if looks.progress is not None:
            looks.progress(what, tally.n_rows, split.n_rows)
        if n_bytes >= _RANGE_BYTES:
            break
    return {
        **_shape(split, looks),
        "dtype": str(split.dtype),
        **_figures(tally, split, columns),
        "chunk_rows": None,
        "bytes_raw": split.n_rows * split.n_features * split.dtype.itemsize,
        "bytes_stored": None,
        "labels": {name: _n_classes(values) for name, values in split.labels.items()},
        "classes": {name: list(classes) for name, classes in split.classes.items()},
        "checksum": None,
        "index": None,
    }


def _shape(split: Split | SourceSplit, looks: _Looks) -> dict[str, Any]:
    """Return the shape of rows, with all features or those named."""
    wanted, shape = looks.features, split.image_shape
    known = wanted or split.features
    return {
        "rows": split.n_rows,
        "features": len(wanted) if wanted else split.n_features,
        "scale": split.scale_factor,
        "offset": split.add_offset,
        "feature_names": known and list(known),
        "image_shape": None if shape is None or wanted else list(shape),
        "layout": None if wanted else split.layout,
    }


def _figures(tally: Tally, split: Split | SourceSplit, names: Iterable[str]) -> dict[str, Any]:
    """Return a tally's figures of features, one by one if they have names."""
    scale, offset = split.scale_factor, split.add_offset
    ends = sorted(end * scale + offset for end in tally.value_range or ())
    n_constant = tally.n_constant if tally.n_rows == split.n_rows else None
    figures = {name: tally.figures(i, scale, offset) for i, name in enumerate(names)}
    return {
        "value_range": ends if ends and np.isfinite(ends).all() else None,
        "value_range_rows": tally.n_rows,
        "missing": tally.n_missing,
        "infinite": tally.n_infinite,
        "constant_features": n_constant,
        "columns": figures or None,
        "ratio_of_standard_deviations": ratio_of(figures),
        "advice": advice(figures) if figures else advice_of_many(n_constant, len(tally.low)),
    }


def _n_classes(labels: Any) -> int:
    return len(np.unique(np.asarray(labels)))
