"""Writing of data sets from rows that a Python program yields, or that dkde samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from dkde.datasets.formats.source import (
    SourceSplit,
    array_batches,
    image_dims,
    split_of_arrays,
    stored_dtype,
)
from dkde.datasets.import_options import (
    ImportOptions,
    check_options,
    check_path,
    check_split_name,
    with_options,
)
from dkde.datasets.placing import SeenUrl, check_target, origin, place_dataset
from dkde.errors import DataSetError, InputError
from dkde.numerics.exact import check_exact
from dkde.progress import StageProgressLike, by_stages, shows_stages
from dkde.rows.as_numbers import marked_lists
from dkde.rows.side import Rows
from dkde.rows.tensors import dense, is_tensor
from dkde.stores.door import check_opened
from dkde.stores.targets import Seen
from dkde.typing import Array

Batches = Iterable[Any] | Callable[[], Iterable[Any]]


# The split of a data set of samples that holds them.
SAMPLES = "samples"


@shows_stages("rows")
def import_rows(
    batches: Batches | Mapping[str, Batches],
    store: str | os.PathLike[str],
    *,
    split: str = "train",
    n_rows: int | None = None,
    feature_names: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    image_shape: Sequence[int] | None = None,
    layout: str | None = None,
    source: str = "rows",
    index: bool = True,
    overwrite: bool = False,
    progress: StageProgressLike = None,
) -> None:
    """Write rows into a data set as they arrive, with only about one batch in memory.

    As with :func:`dkde.import_dataset`, the data set appears as a whole or not at all. An
    exception that `batches` raises is passed on, and then nothing is written.

    Parameters
    ----------
    batches : iterable, or callable without arguments that returns one
        The batches: arrays (rows, features), or pictures (rows, height, width[, channels]), of
        one dtype and any number of rows; or pairs of such an array and its labels, integers
        (rows,). A single array is one batch. A mapping from names of splits to any of these
        writes several splits. Each iterable is read once.
    store : str, path or URL
        As for :func:`dkde.import_dataset`.
    split : str
        The name of the split, unless `batches` is a mapping.
    n_rows : int, optional
        The number of rows, where there is one split. Another number of rows is then an error.
    feature_names : sequence of str, optional
        One name for each feature.
    scale, offset : float, optional
        A value is ``raw * scale + offset``; by default the values are the raw ones.
    image_shape, layout : optional
        As for :func:`dkde.import_dataset`; by default they follow from the shape of the batches.
    source : str
        The source that the data set records.
    index, overwrite, progress
        As for :func:`dkde.import_dataset`.

    Raises
    ------
    InputError
        If an option is not usable, there are no rows, or a batch has another dtype or shape than
        the first.
    DataSetError
        If `store` cannot be written, or exists already.

    Examples
    --------
    >>> import numpy as np, tempfile, dkde
    >>> def batches():
    ...     for seed in range(3):
    ...         yield np.random.default_rng(seed).normal(size=(100, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dkde.import_rows(batches, f"{folder}/rows.zarr", feature_names=["a", "b"])
    ...     dkde.describe(f"{folder}/rows.zarr")["splits"]["train"]["rows"]
    300
    """
    check_path("store", store)
    options = check_options(
        ImportOptions(None, split, scale, offset, image_shape, layout, None, None)
    )
    given: dict[str, Batches] = {**batches} if isinstance(batches, Mapping) else {split: batches}
    # All options and the target are checked before the user's iterator is started.
    _check(given, n_rows, feature_names)
    seen = check_target(store, overwrite=overwrite)
    names = None if feature_names is None else tuple(feature_names)
    # `_stream` takes the first batch of each split, which fixes dtype, shape and labels.
    try:
        streams = [_stream(name, each, n_rows or 0, names, options) for name, each in given.items()]
        first, *others = streams
        for other in others:
            if other.n_features != first.n_features:
                raise InputError(
                    f"{other.name} has {other.n_features} features and {first.name} has "
                    f"{first.n_features}; splits of one data set must agree"
                )
        place_dataset(
            seen,
            streams,
            # The splits are in the data set itself, so the name is not recorded as an option.
            attributes=origin(source, "rows", {**vars(options), "split": None}),
            index=index,
            progress=by_stages(progress),
        )
    # The user gets their own exception; `from None` hides its wrapper.
    except _BatchesError as failed:
        raise failed.error from None


def write_samples(
    seen: Seen | SeenUrl,
    splits: Mapping[str, Array],
    *,
    like: Rows,
    labels: Mapping[str, Array],
    options: Mapping[str, Any],
    extras: Mapping[str, Mapping[str, Array]],
    call: Mapping[str, Any] | None = None,
) -> None:
    """Write arrays (n_samples, n_features) as the splits of a data set.

    Parameters
    ----------
    seen : Seen or SeenUrl
        The place, as :func:`dkde.datasets.placing.check_target` found it.
    like : Rows
        The rows whose picture shape and feature names the samples have. They are recorded as the
        source of the samples.
    labels : mapping of name to array (n_samples,)
        The labels of the samples, the same for every split.
    options : mapping
        The options with which the samples were made, as JSON values.
    extras : mapping of group to mapping of name to array
        Further arrays of the data set, in groups beside its splits.
    call : mapping, optional
        The record of the call that made the samples.

    Raises
    ------
    InputError, DataSetError
    """
    # A picture shape is kept only if all parts have the same one.
    shapes = {(part.image_shape, part.layout) for part in like.parts}
    shape, layout = shapes.pop() if len(shapes) == 1 else (None, None)
    # Samples scatter beyond the values of the rows: pictures of both are comparable only with
    # the range of the rows as black and white.
    ranges = [part.value_range for part in like.parts if part.value_range is not None]
    shown = None
    if len(ranges) == len(like.parts):
        shown = min(low for low, _ in ranges), max(high for _, high in ranges)
    described: dict[str, Any] = {
        "image_shape": shape, "layout": layout, "labels": labels, "display_range": shown,
        "features": like.parts[0].features,
    }  # fmt: skip
    place_dataset(
        seen,
        [split_of_arrays(name, values, **described) for name, values in splits.items()],
        attributes=origin(like.label, "samples", options) | ({"call": call} if call else {}),
        extras=extras,
    )


class _BatchesError(Exception):
    """An error raised by the user's iterator, kept apart from dkde's own errors."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _check(
    given: Mapping[str, Batches], n_rows: int | None, feature_names: Sequence[str] | None
) -> None:
    """Refuse names of splits, a number of rows or names of features that cannot be used."""
    if not given:
        raise InputError("batches is empty; name at least one split")
    # Some file systems ignore case, and two such splits would share one folder there.
    folded = [str(name).casefold() for name in given]
    for name in given:
        check_split_name(name)
        if folded.count(name.casefold()) > 1:
            raise InputError(
                f"split is {name!r}: two splits have that name where upper and lower case do not "
                "count; rename one"
            )
    if n_rows is not None and (not isinstance(n_rows, int) or n_rows < 1 or len(given) > 1):
        raise InputError(
            f"n_rows is {n_rows!r}; it must be a whole number of at least 1, with one split only"
        )
    if feature_names is not None and (
        isinstance(feature_names, str) or not all(isinstance(n, str) for n in feature_names)
    ):
        raise InputError("feature_names must be a list of texts, one for each feature")


def _stream(
    name: str,
    batches: Batches,
    n_rows: int,
    features: tuple[str, ...] | None,
    options: ImportOptions,
) -> SourceSplit:
    """Return a split that reads batches once; the first batch sets the layout of the others."""
    found = _pairs(name, batches)
    first = next(found, None)
    if first is None:
        raise InputError(f"split {name}: no rows came; give at least one row")
    rows, label = first
    try:
        dtype = stored_dtype(rows.dtype, f"split {name}")
    # The rows are an argument here and not a file.
    except DataSetError as error:
        raise InputError(str(error)) from None
    shape, layout = image_dims(rows.shape[1:], options.layout)
    n_features = int(np.prod(rows.shape[1:]))
    if features is not None and len(features) != n_features:
        raise InputError(
            f"feature_names has {len(features)} names, but the rows of {name} have {n_features} "
            "features; give one name for each feature"
        )
    # `_checked` fills this list as batches are read; `late_labels` joins it after the last one.
    labels: list[Array] = []
    split = SourceSplit(
        name,
        n_rows=n_rows,
        n_features=n_features,
        dtype=dtype,
        batches=lambda: _checked(name, chain([first], found), labels),
        image_shape=shape,
        layout=layout,
        features=features,
        late_labels=lambda: {} if label is None else {"label": np.concatenate(labels)},
    )
    return with_options(split, options)


def _pairs(name: str, batches: Batches) -> Iterator[tuple[Array, Array | None]]:
    """Yield the rows and the labels of every batch that has rows, as checked arrays.

    Labels are None where a batch has none.
    """
    iterator = None
    number = 0
    while True:
        # Only the user's code runs in this `try`, so that its exceptions can be passed on.
        try:
            if iterator is None:
                made: Any = batches() if callable(batches) else batches
                check_opened(made)
                # Iterating over an array would yield its rows: one array is one batch.
                is_one = isinstance(made, np.ndarray) or is_tensor(made)
                iterator = iter([made] if is_one else made)
            batch = next(iterator)
        except StopIteration:
            return
        except BaseException as error:
            raise _BatchesError(error) from error
        number += 1
        where = f"split {name}, batch {number}"
        given, label = _rows_and_labels(batch, where)
        check_opened(batch)
        # np.asarray drops masks in silence, so they are looked for before it.
        if np.ma.is_masked(marked_lists(given)):
            raise InputError(f"{where}: holds masked values; fill them, or leave such rows out")
        given = dense(given, where)
        try:
            rows = np.asarray(given)
        except ValueError:  # NumPy refuses ragged lists
            raise InputError(f"{where}: its rows differ in their number of values") from None
        if hasattr(given, "iloc") and rows.dtype.kind == "f":
            _check_frame(given, where)
        if rows.ndim < 2 or 0 in rows.shape[1:]:
            raise InputError(
                f"{where}: has shape {rows.shape}; it must have two dimensions or more, rows first"
            )
        if label is not None:
            if np.ma.is_masked(marked_lists(label)):
                raise InputError(f"{where}: holds masked labels; leave such rows out")
            label = np.asarray(dense(label, where))
            if label.shape != (len(rows),) or label.dtype.kind not in "iu":
                raise InputError(
                    f"{where}: its labels are {label.dtype} of shape {label.shape}; "
                    f"{len(rows)} integers are needed"
                )
            if label.dtype.kind == "u" and label.size and label.max() > np.iinfo(np.int64).max:
                raise InputError(f"{where}: has labels above 2**63 - 1; use smaller numbers")
            label = label.astype(np.int64)
        # An empty batch says nothing about labels or dtype, so it cannot set the layout.
        if len(rows):
            yield rows, label


def _rows_and_labels(batch: Any, where: str) -> tuple[Any, Any]:
    """Return the rows of a batch, and its labels or None.

    Loaders of PyTorch give a list of tensors, one for each thing that they know of a row. NumPy
    would make one more dimension of that list.
    """
    if isinstance(batch, tuple) and len(batch) == 2:
        return batch
    if isinstance(batch, list) and batch and getattr(batch[0], "ndim", 0) >= 2:
        if len(batch) == 2 and getattr(batch[1], "shape", ()) == batch[0].shape[:1]:
            return batch[0], batch[1]
        if is_tensor(batch[0]):
            raise InputError(
                f"{where} is a list of {len(batch)} tensors; yield one tensor of rows, or a pair "
                "of rows and labels"
            )
    if isinstance(batch, Mapping):
        raise InputError(
            f"{where} is a mapping ({', '.join(map(str, batch))}); yield one array of rows, or a "
            "pair of rows and labels"
        )
    return batch, None


def _check_frame(frame: Any, where: str) -> None:
    """Refuse a data frame whose integers would be rounded in the common dtype of its columns."""
    for i in range(frame.shape[1]):
        check_exact(np.asarray(frame.iloc[:, i]), f"{where}: column {frame.columns[i]!r}")


def _checked(
    name: str, found: Iterable[tuple[Array, Array | None]], labels: list[Array]
) -> Iterator[Array]:
    """Yield rows in batches, refuse a batch unlike the first, and collect labels in `labels`."""
    first: tuple[Any, ...] | None = None
    n_done = 0
    for rows, label in found:
        kind = rows.dtype, rows.shape[1:], label is not None
        first = first or kind
        if kind != first:
            raise InputError(
                f"split {name}, from row {n_done} on: {_in_words(kind)}, and before "
                f"{_in_words(first)}; all batches must be alike"
            )
        n_done += len(rows)
        if label is not None:
            labels.append(label)
        yield from array_batches(rows)


def _in_words(kind: tuple[Any, ...]) -> str:
    """Return the dtype, the shape of a row and the presence of labels, for a message."""
    dtype, shape, is_labelled = kind
    return f"{dtype} of shape {shape} a row with{'' if is_labelled else 'out'} labels"
