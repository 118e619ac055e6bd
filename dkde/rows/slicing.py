"""Ranges of a side's rows, and sides one after the other: rows with their weights and groups."""

from dataclasses import replace
from itertools import product

import numpy as np

from dkde.errors import InputError
from dkde.rows.place_names import is_one_unit
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Rows, Side, column_name
from dkde.rows.sources import ArraySource, Joined


def between(side: Side, start: int, stop: int) -> Side:
    """Return the rows of a side from start up to stop; the side itself if these are all."""
    if (start, stop) == (0, side.rows.n_rows):
        return side

    def of(vector: RowSource | None) -> RowSource | None:
        return None if vector is None else _range(vector, start, stop)

    return Side(side.rows[start:stop], of(side.weights), of(side.groups), of(side.scales))


def owned(side: Side) -> Side:
    """Return the same side, where values in a caller's memory are copies of them."""
    rows = replace(side.rows, parts=tuple(part.owned() for part in side.rows.parts))
    vectors = side.weights, side.groups, side.scales
    return Side(rows, *(None if vector is None else vector.owned() for vector in vectors))


def share_memory(first: Side, second: Side) -> bool:
    """Return whether rows of two sides are the same memory, of which one changes the other."""
    before, after = (
        [source.array for part in side.rows.parts
         if isinstance(source := innermost(part.source), ArraySource)]
        for side in (first, second)
    )  # fmt: skip
    return any(np.shares_memory(a, b) for a in before for b in after)


def followed(first: Side, second: Side) -> Side:
    """Return the rows of one side, and those of another after them.

    Where only one of them has weights or scales, each row of the other has 1.

    Raises
    ------
    InputError
        When only one of them has groups, or they have features in other units.
    """
    if (first.groups is None) != (second.groups is None):
        raise InputError("only some of the rows have groups; give all of them one, or none")
    for old, new in product(first.rows.parts, second.rows.parts):
        check_units(old, new, "the rows before")
    rows = replace(first.rows, parts=(*first.rows.parts, *second.rows.parts))
    lengths = first.rows.n_rows, second.rows.n_rows
    return Side(
        rows,
        _joined((first.weights, second.weights), lengths),
        _joined((first.groups, second.groups), lengths),
        _joined((first.scales, second.scales), lengths),
    )


def check_units(old: Part, new: Part, where: str) -> None:
    """Refuse rows whose features are in other units than those of rows that they follow.

    Raises
    ------
    InputError
        As :func:`unlike_units` has it.
    """
    if unlike := unlike_units(old, new, where):
        raise InputError(unlike)


def unlike_units(old: Part, new: Part, where: str) -> str | None:
    """Return a line on a feature that is in another unit than in other rows; None if none is.

    Parameters
    ----------
    where : str
        The other rows, for the line.
    """
    for number, (was, now) in enumerate(zip(old.units or (), new.units or (), strict=False)):
        name = column_name(old.column_names, number)
        if not is_one_unit(name, was, now):
            return f"{new.label}: {name} is in {now}, and in {where} in {was}; convert it"
    return None


def _range(vector: RowSource, start: int, stop: int) -> RowSource:
    if type(vector) is ArraySource and vector.masked is None:
        return ArraySource(vector.array[start:stop])
    whole = Part(vector, 0, vector.shape[0], vector.variable_name or "values")
    return Joined(Rows((whole,))[start:stop].parts)


def _joined(
    vectors: tuple[RowSource | None, RowSource | None], lengths: tuple[int, int]
) -> RowSource | None:
    if vectors == (None, None):
        return None
    both = [
        ArraySource(np.ones(n_rows)) if vector is None else vector
        for vector, n_rows in zip(vectors, lengths, strict=True)
    ]
    if all(type(vector) is ArraySource for vector in both):
        # In one array, so that any number of sides are joined at no cost of reading.
        arrays = [vector.read(0, n_rows) for vector, n_rows in zip(both, lengths, strict=True)]
        return ArraySource(np.concatenate(arrays))
    return Joined(
        tuple(
            Part(vector, 0, n_rows, vector.variable_name or "values")
            for vector, n_rows in zip(both, lengths, strict=True)
        )
    )
