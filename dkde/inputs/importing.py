"""The import of a file, or of foreign variables, into a data set, completely or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats import Source, SourceSplit, read_source
from dkde.datasets.formats.files import checksum_files, files_of, is_pattern, reading
from dkde.datasets.formats.source import stored_dtype
from dkde.datasets.import_options import (
    ImportOptions,
    check_options,
    check_path,
    unusable_name,
    with_options,
)
from dkde.datasets.ordering import compact_order
from dkde.datasets.placing import check_target, origin, place_dataset
from dkde.datasets.writing import chunk_rows
from dkde.errors import DataSetError, InputError, warn
from dkde.inputs.filtering import kept_only
from dkde.inputs.foreign import Groups, place_of
from dkde.inputs.kept_splits import batches_of, kept_source
from dkde.inputs.operands import selected
from dkde.progress import StageProgressLike, by_stages, shows_stages
from dkde.rows.feature_choice import FeatureChoice, left_out_line, warn_of_conversions
from dkde.rows.places import Place
from dkde.rows.row_filter import RowFilter
from dkde.rows.side import Rows
from dkde.stores.store import is_remote
from dkde.typing import Array

# The name of a split that has none in its source, and the format recorded for foreign variables.
_SPLIT, _VARIABLES = "train", "variables"
_LOG = logging.getLogger(__name__)


@shows_stages("rows")
def import_dataset(
    source: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    format: str | None = None,
    split: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    image_shape: Sequence[int] | None = None,
    layout: str | None = None,
    shuffle_seed: int | None = None,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    row_dim: str | Sequence[str] | None = None,
    decimal: str | None = None,
    where: str | None = None,
    order: bool = False,
    index: bool = True,
    overwrite: bool = False,
    progress: StageProgressLike = None,
) -> None:
    """Import a file, or a folder, into a data set at `store`.

    The data set is written beside `store` under a hidden name and renamed when it is complete:
    `store` never holds half of it. In a bucket, the last request marks it as complete; before that,
    it cannot be opened. Values are imported unchanged, NaN and infinities included.

    Parameters
    ----------
    source : str, path or URL
        A file or a folder; a pattern of tables, ``"points/*.csv"``; or ``"digits"``, scikit-learn's
        data set. In a bucket: Parquet or CSV, as a file, a pattern or a folder.
    store : str, path or URL
        A folder that does not exist yet, or is empty; or an unused place in a bucket, ``s3://``,
        ``gs://`` or ``az://``.
    format : str, optional
        The format of the source; by default it is detected from the content.
    split : str, optional
        The name of the split if the source holds one unnamed array; by default ``"train"``.
    scale, offset : float, optional
        The decoding, ``raw * scale + offset``, instead of the source's own.
    image_shape : sequence of int, optional
        The shape of a picture, (H, W), or three numbers with `layout`, instead of the source's own.
    layout : {"CHW", "HWC"}, optional
        The place of the channels in rows of colour pictures. A folder of pictures can be read as
        either.
    shuffle_seed : int, optional
        The seed that permutes the split ``train``, and no other, by
        ``numpy.random.RandomState(shuffle_seed).permutation(n)``. Takes 16 bytes of memory a row,
        and as much scratch space beside `store` as the split's raw values if these are more than
        128 MiB; without it memory is a few tens of MB.
    columns : sequence of str, optional
        The columns of a table that are features, in this order; by default those of numbers.
        Booleans and times are features only if they are named; a column of lists of one length
        is as many features. For a foreign Zarr store or NetCDF file, the variables that are
        features; one array of it is named in `source`, ``"file.h5::group/array"``.
    label : str, optional
        The column of a table with the class of each row: integers, or names, which are numbered
        in their order.
    row_dim : str or sequence of str, optional
        The dims of rows of such variables, as for :func:`dkde.log_density`.
    decimal : {".", ","}, optional
        The decimal mark of numbers in text; with ``","`` a semicolon, a tab or blanks separate
        columns.
    where : str, optional
        The condition that rows meet, such as ``"year == 2020 and depth < 50"``; others are left
        out of every split. It names columns of a table, features or not, variables, or labels. The
        data set records it, and ``source_row`` has the number of each row in the source.
    order : bool
        True to sort the rows of every split, so that rows of one chunk are near each other and far
        chunks need not be read. ``source_row`` has the original number of each row. A range of a
        sorted split is one region of the data, and no sample. Sorting takes about 50 bytes of
        memory a row, and scratch space as `shuffle_seed` does, which cannot be given with it.
    index : bool
        True to write an index of the region of each chunk's rows: see :func:`dkde.index_dataset`.
        In a bucket the index is written after the data set is complete.
    overwrite : bool
        True to replace a data set that `store` holds already. Nothing else is ever replaced, nor a
        data set that was written or changed since the call began. A folder is replaced when the
        new data set is complete; in a bucket the old data set is deleted first.
    progress : bool or callable, optional
        Called with (split, rows written, rows in all) after every chunk.

    Raises
    ------
    InputError
        If an option is not usable, or does not fit the source.
    DataSetError
        If the source cannot be read, or `store` cannot be written or is in the way.
    """
    check_path("source", source)
    check_path("store", store)
    dims = FeatureChoice.of(row_dim=row_dim).row_dim
    options = check_options(
        ImportOptions(
            format, split, scale, offset, image_shape, layout, shuffle_seed, order, columns, label,
            None if dims is None else list(dims), decimal, where,
        )
    )  # fmt: skip
    # The target is checked before the source is read, which may take long.
    plain = not is_remote(source)
    files = files_of(Path(source)) if plain and is_pattern(source) else [source] if plain else []
    seen = check_target(store, overwrite=overwrite, sources=files)
    found = _read(source, options)
    if options.where is not None:
        for each in found.splits:
            assert each.kept is not None
            n_rows = each.kept.stop - each.kept.start
            _LOG.info(
                "%s: %d of %d rows are those where %s",
                each.name, each.n_rows, n_rows, options.where,
            )  # fmt: skip
    found = replace(found, splits=_check_splits(found, options))
    if found.checksum is None and found.full_checksum is not None:
        found = replace(found, checksum=found.full_checksum())  # all bytes are read in any case
    if found.left_out:
        taken = found.splits[0].features
        way = "name the features to take others (--columns, or columns=)"
        warn(left_out_line(os.fspath(source), taken, found.left_out, way))
    warn_of_conversions(os.fspath(source), found.converted, set())
    place_dataset(
        seen,
        found.splits,
        attributes=_recorded(found, options),
        orders=_orders(found.splits, options),
        index=index,
        progress=by_stages(progress),
    )


def _read(source: str | os.PathLike[str], options: ImportOptions) -> Source:
    """Open the source of an import: a file of a known format, or foreign variables."""
    is_local = not is_remote(source)
    if options.format is None and is_local and (place := place_of(os.fspath(source))) is not None:
        return _read_others(os.fspath(source), place, options)
    if options.row_dim is not None:
        raise InputError(f"{source}: row_dim is for variables with several dims; leave it out")
    found = read_source(
        source,
        format=options.format,
        split=options.split or _SPLIT,
        layout=options.layout,
        columns=options.columns,
        label=options.label,
        decimal=options.decimal,
    )
    if options.where is None:
        return found
    return kept_source(found, RowFilter.parsed(options.where), options.decimal)


def _read_others(source: str, place: Place, options: ImportOptions) -> Source:
    """Open the variables that ``columns`` names, or the one array that the source names.

    Rows are read and decoded a few MB at a time.

    Raises
    ------
    InputError
        When nobody says which variables are the features, or these make no rows.
    DataSetError
        When the variables cannot be read.
    """
    columns, row_dim = (
        None if names is None else tuple(names) for names in (options.columns, options.row_dim)
    )
    groups = Groups(source, place, columns, row_dim)
    if place.array is None and groups.asked() is None:
        what = "a Zarr store" if place.kind == "zarr" else "a NetCDF or HDF5 file"
        raise InputError(
            f"{source}: is {what}, which needs no import: dkde score {source} --features A,B (dkde "
            f"info says what there is); to import it, say which variables are the features "
            f"(--columns A,B), or name one array, {source}::NAME"
        )
    if options.label is not None:
        raise InputError(f"{source}: label is for tables only; leave it out")
    part = groups[""]
    for note in part.notes:
        warn(f"{source}: {note}")
    kept = None
    if options.where is not None:
        operand = kept_only(selected(Rows((part,))), RowFilter.parsed(options.where))
        (part,), kept = operand.rows.parts, operand.kept
    split = SourceSplit(
        options.split or _SPLIT,
        n_rows=len(part),
        n_features=part.source.shape[1],
        dtype=stored_dtype(part.source.dtype, source),
        batches=partial(batches_of, part.source),
        scale_factor=part.encoding.scale,
        add_offset=part.encoding.offset,
        features=part.features,
        kept=kept,
    )
    # The checksum is of the stored bytes, as for any file; values are read later, batch by batch.
    with reading(Path(place.path), "data"):
        checksum = checksum_files(_files(place))
    return Source(Path(source), _VARIABLES, checksum, (split,))


def _files(place: Place) -> list[Path]:
    """Return the files that hold a group or an array: one NetCDF file, or all of a folder."""
    if place.kind != "zarr":
        return [Path(place.path)]
    root = Path(place.path, place.within(place.array or "") if place.array else place.group)
    return sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)


def _check_splits(source: Source, options: ImportOptions) -> tuple[SourceSplit, ...]:
    """Return the splits with the user's encoding and picture shape; refuse what does not fit."""
    names = [split.name for split in source.splits]
    if options.split is not None and names != [options.split]:
        raise InputError(
            f"split is {options.split!r}, but {source.path} has names of its own: "
            f"{', '.join(names)}; leave split out"
        )
    if options.shuffle_seed is not None and "train" not in names:
        raise InputError(
            f"shuffle_seed permutes the split train, and {source.path} has {', '.join(names)}"
        )
    # Splits are folders. Some file systems ignore case, and a data set must fit on any.
    folded: dict[str, SourceSplit] = {}
    for split in source.splits:
        if why := unusable_name(split.name):
            raise DataSetError(f"{source.path}: {split.name!r} cannot be a split: {why}")
        if (first := folded.setdefault(split.name.casefold(), split)) is not split:
            raise DataSetError(
                f"{source.path}: the splits {first.name} and {split.name} would be one folder "
                "on file systems that ignore case; rename one"
            )
        if split.n_features != source.splits[0].n_features:
            raise DataSetError(
                f"{source.path}: {split.name} has {split.n_features} features and {names[0]} has "
                f"{source.splits[0].n_features}; splits of one data set must agree"
            )
    return tuple(with_options(split, options) for split in source.splits)


def _orders(splits: Sequence[SourceSplit], options: ImportOptions) -> dict[str, Array]:
    """Return the order of each split that is stored in another one; a seed is for train only."""
    if options.order:
        return {
            split.name: compact_order(split, chunk_rows(split.n_features * split.dtype.itemsize))
            for split in splits
        }
    if options.shuffle_seed is None:
        return {}
    (n,) = (split.n_rows for split in splits if split.name == "train")
    return {"train": np.random.RandomState(options.shuffle_seed).permutation(n)}


def _recorded(source: Source, options: ImportOptions) -> dict[str, Any]:
    """Return the root attributes that record where the data set comes from."""
    return {
        **origin(source.path.name, source.format, vars(options), source.checksum),
        # Older versions read the names alone.
        **({"columns_left_out": list(source.left_out)} if source.left_out else {}),
        **({"left_out": dict(source.left_out)} if source.left_out else {}),
        **({"converted": dict(source.converted)} if source.converted else {}),
    }
