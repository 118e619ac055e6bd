"""Checks of two sides: the same features and scale, and no rows in common."""

from collections.abc import Iterator

import numpy as np

from dkde.errors import InputError, warn
from dkde.inputs.operands import Operand
from dkde.rows.kept import Kept
from dkde.rows.place_names import is_one_unit
from dkde.rows.row_source import innermost
from dkde.rows.side import Part, Rows
from dkde.rows.sources import ArraySource
from dkde.rows.variables import VariablesSource, in_memory
from dkde.typing import Array, FloatArray

# The largest ratio of the ranges of the two sides' values without a warning. A factor of 255,
# between bytes and values scaled to 1, is far above it.
_MUCH = 4.0
# The number of rows of an array in memory that give its range of values, and of the places from
# which they are taken: the first rows alone are a short end of an axis, or of rows in order.
_SAMPLE_ROWS, _N_PLACES = 1024, 16
# The bound on NumPy's search for shared memory: the exact answer can take exponential time.
_MAX_WORK = 10**6


def check_same_features(query: Operand, train: Operand, role: str) -> None:
    """Refuse sides with different features; warn of different scales, units or pictures."""
    a, b = train.rows, query.rows
    if a.n_features != b.n_features:
        raise InputError(
            f"{_named('train', a)} has {a.n_features} features and {_named(role, b)} has "
            f"{b.n_features}; both must be the same data after the same preprocessing"
        )
    if train.features and query.features and train.features != query.features:
        a_name, b_name = next(
            pair for pair in zip(train.features, query.features, strict=True) if len(set(pair)) > 1
        )
        raise InputError(
            f"{_named('train', a)} and {_named(role, b)} have different features, or the "
            f"same in another order: {a_name!r} stands in the place of {b_name!r}"
        )
    _warn_of_units(query, train, role)
    # Both sides have the same number of pixels, so unlike pictures would go unnoticed.
    shapes = {part.image_shape for part in (*a.parts, *b.parts)} - {None}
    if len(shapes) > 1:
        warn(
            f"train and {role} hold pictures of different shapes {sorted(map(str, shapes))}; "
            "their features may not be the same pixels"
        )
    # Only if both ranges are known; a constant side has no spread to compare.
    ranges = [pair for pair in map(_value_range, (a, b)) if pair is not None]
    spreads = [high - low for low, high in ranges if high > low]
    if len(spreads) == 2 and max(spreads) > _MUCH * min(spreads):
        texts = [f"{low:g} to {high:g}" for low, high in ranges]
        warn(
            f"values of {_named('train', a)} go from {texts[0]}, those of {_named(role, b)} from "
            f"{texts[1]}; are both on one scale?"
        )


def _warn_of_units(query: Operand, train: Operand, role: str) -> None:
    """Warn of columns whose units differ between the sides."""
    units = [side.columns.units or () for side in (train, query)]
    for column, (a, b) in enumerate(zip(*units, strict=False)):
        name = train.features[column] if train.features else f"column {column}"
        if not is_one_unit(name, a, b):
            warn(
                f"{name} is in {a} in {_named('train', train.rows)} and in {b} in "
                f"{_named(role, query.rows)}; give both the same units"
            )


def check_apart(train: Operand, other: Operand, role: str) -> None:
    """Refuse sides that share rows.

    Raises
    ------
    InputError
        When they do.
    """
    for part, query_part in _shared(train, other):
        raise InputError(
            f"{_named('train', part)} and {_named(role, query_part)} share rows, which makes "
            "small bandwidths look perfect; choose other rows, or cross-validate (dkde cv)"
        )


def warn_if_shared(train: Operand, other: Operand, role: str) -> None:
    """Warn of sides that share rows, once."""
    for part, query_part in _shared(train, other):
        warn(
            f"{_named('train', part)} and {_named(role, query_part)} share rows; "
            "each of these counts itself as a neighbour, which raises its density"
        )
        return


def _shared(train: Operand, other: Operand) -> Iterator[tuple[Part, Part]]:
    """Yield pairs of parts, one of each side, that have rows in common."""
    # A filter makes new arrays of rows, and numbers them anew: the rows before it tell more.
    tests = (Part.overlaps, _same_rows, _share_memory)
    for part, kept in _before_filters(train):
        for other_part, other_kept in _before_filters(other):
            if any(test(part, other_part) for test in tests) and (
                (kept is None and other_kept is None)
                or _keep_some_alike(part, kept, other_part, other_kept)
            ):
                yield part, other_part


def _before_filters(operand: Operand) -> Iterator[tuple[Part, Kept | None]]:
    """Yield the parts of a side before a filter, with the rows that the filter kept of each."""
    if operand.before is None or operand.kept is None:
        yield from ((part, None) for part in operand.rows.parts)
        return
    start = 0
    for part in operand.before.rows.parts:
        masks = operand.kept.masks_of(start, start + len(part))
        yield part, Kept.of(operand.kept.text, part.start, part.stop, masks)
        start += len(part)


def _keep_some_alike(a: Part, kept: Kept | None, b: Part, other: Kept | None) -> bool:
    """Return whether filters keep a row of both parts, which share some rows of one source.

    Parts of unlike sources with equal content, such as a selection of a Dataset, share none that
    this could tell.
    """
    if a.source.shape[0] != b.source.shape[0]:
        return False
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    found = [each for each in (kept, other) if each is not None]
    masks = zip(*(each.masks_of(start, stop) for each in found), strict=True)
    return any(np.logical_and.reduce(mask).any() for mask in masks)


def _same_rows(a: Part, b: Part) -> bool:
    """Return whether two parts of the same content share rows, by their source row numbers."""
    if a.checksum is None or a.checksum != b.checksum:
        return False
    # Parts that were cut from a Dataset in memory know their rows by ``source_row`` only.
    rows = [
        part.coordinates["source_row"].read(part.start, part.stop)
        for part in (a, b)
        if "source_row" in part.coordinates
    ]
    return len(rows) == 2 and bool(np.isin(rows[0], rows[1]).any())


def _share_memory(a: Part, b: Part) -> bool:
    """Return whether two parts are views of the same memory in every column."""
    # Tables may share a column, such as a date, and no rows: so each column must overlap.
    ours, others = _in_memory(a), _in_memory(b)
    return bool(ours) and len(ours) == len(others) and all(map(_overlap, ours, others))


def _in_memory(part: Part) -> list[Array]:
    """Return the arrays that a part reads from memory; empty if some are not in memory."""
    source = innermost(part.source)
    if isinstance(source, ArraySource):
        return [source.read(part.start, part.stop)]
    if not isinstance(source, VariablesSource) or not all(map(in_memory, source.variables)):
        return []
    return [np.asarray(variable.values) for variable in source.variables]


def _overlap(a: Array, b: Array) -> bool:
    try:
        # NumPy's type stub allows no bounds but 0 and -1.
        return bool(np.shares_memory(a, b, max_work=_MAX_WORK))  # type: ignore[arg-type]
    except (np.exceptions.TooHardError, OverflowError):
        return False  # unknown: the check is a courtesy, and must not take long


def _named(role: str, rows: Rows | Part) -> str:
    """Return the role, with the name of its data if they have one."""
    return role if rows.label == role else f"{role} ({rows.label})"


def _value_range(rows: Rows) -> tuple[float, float] | None:
    """Return the least and the greatest value of all parts; None if one part's are unknown."""
    ranges = [_part_range(part) for part in rows.parts]
    known = [pair for pair in ranges if pair is not None]
    if len(known) < len(ranges):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _part_range(part: Part) -> tuple[float, float] | None:
    """Return the range that a part notes, or that of a sample if the part is in memory."""
    if part.value_range is not None or not isinstance(part.source, ArraySource):
        return part.value_range
    size, starts = len(part), [part.start]
    if size > _SAMPLE_ROWS:
        size = _SAMPLE_ROWS // _N_PLACES
        starts = [int(at) for at in np.linspace(part.start, part.stop - size, _N_PLACES)]
    pieces = [part.source.read(start, start + size) for start in starts]
    sample: FloatArray = part.encoding.decode(np.concatenate(pieces))
    # Values that are not finite are refused later, with their row and column.
    finite = sample[np.isfinite(sample)]
    return (float(finite.min()), float(finite.max())) if finite.size else None
