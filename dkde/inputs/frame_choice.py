"""The choice of the columns of a table that are features, before any is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dkde.datasets.formats.tables import by_default, no_numbers, why_no_feature
from dkde.errors import InputError, some
from dkde.inputs.frame import Frame
from dkde.rows.arrow_values import Column
from dkde.rows.feature_choice import NO_SUCH, of_a_list


def wanted_columns(
    frame: Frame,
    names: Sequence[str | None],
    features: tuple[str, ...] | None,
    others: Sequence[str] | None,
) -> tuple[Any, ...] | None:
    """Return the names of the columns that are features; None where the default is taken."""
    # If all columns are plain numbers, the frame is read whole without a copy, and columns are
    # chosen later.
    wanted = features
    if features is None and others is not None:
        if _main_points(frame) >= set(others):
            return (frame.main,)  # the geometry gives them, whatever columns have these names
        if set(others) <= set(names) and not frame.is_plain:
            wanted = tuple(others)
    if features is not None and None in names and len(names) == len(features):
        return None  # columns without names: the names are given to them in order
    is_whole = wanted is not None and frame.is_plain and set(wanted) == set(names)
    return None if is_whole else wanted


def _main_points(frame: Frame) -> set[str]:
    """Return the names of the coordinates of the table's main geometry; none without one."""
    if frame.main is None or frame.main not in frame.columns:
        return set()
    points = frame.kind(frame.columns.index(frame.main)).points
    return set() if points is None else set(points.names)


def read_columns(
    frame: Frame, role: str, names: Sequence[str | None], wanted: Sequence[str] | None
) -> tuple[list[int], pd.DataFrame, list[Column]]:
    """Return the positions of the features, their columns, and the kinds of these."""
    places = _default(frame, role) if wanted is None else places_of(frame, role, names, wanted)
    taken, held = frame.read(places)
    # Only their values show whether columns of some types hold numbers.
    if wanted is None and None in [column.dtype for column in held]:
        places = [i for i, column in zip(places, held, strict=True) if column.dtype is not None]
        if not places:
            kinds = dict(zip(map(str, taken.columns), held, strict=True))
            raise InputError(no_numbers(role, {**frame.kinds, **kinds}))
        taken, held = frame.read(places)
    check_numbers(role, [str(name) for name in taken.columns], held)
    return places, taken, held


def _default(frame: Frame, role: str) -> list[int]:
    """Return the positions of the features where nobody names them."""
    kinds = {i: frame.kind(i) for i in range(len(frame.columns))}
    main = next((i for i, name in enumerate(frame.columns) if name == frame.main), None)
    found = by_default(kinds, main)
    if not found and kinds:
        raise InputError(no_numbers(role, frame.kinds))
    return found


def places_of(
    frame: Frame, role: str, names: Sequence[str | None], wanted: Sequence[str]
) -> list[int]:
    """Return the positions of the columns of these names, or of points with such coordinates."""
    known = [str(each) for each in frame.columns]
    places: dict[int, None] = {}
    for name in wanted:
        if names.count(name) == 1:
            places[names.index(name)] = None
            continue
        place = None if name in names else place_of_points(frame, name)
        if place is None:
            what = "two columns" if name in names else "no feature"
            way = of_a_list(name, known)
            raise InputError(f"{role}: has {what} {name!r}; it has {some(known)}{way}")
        places[place] = None
    check_numbers(role, [known[i] for i in places], [frame.kind(i) for i in places])
    return list(places)


def place_of_points(frame: Frame, name: str) -> int | None:
    """Return the position of the points that have a coordinate of a name; the main ones first."""
    kinds = [frame.kind(i) for i in range(len(frame.columns))]
    points = [i for i, k in enumerate(kinds) if k.points and name in k.points.names]
    return next((i for i in points if frame.columns[i] == frame.main), next(iter(points), None))


def names_of(frame: Frame) -> tuple[str, ...]:
    """Return the names of a table's columns, and of the coordinates of its main points."""
    return tuple(dict.fromkeys([*map(str, frame.columns), *sorted(_main_points(frame))]))


def check_numbers(role: str, names: Sequence[str], held: Sequence[Column]) -> None:
    """Refuse columns that hold no numbers.

    Raises
    ------
    InputError
    """
    for name, column in zip(names, held, strict=True):
        if column.dtype is None:
            raise InputError(
                f"{role}: column {name!r} holds {column.kind}, and features are numbers"
            )


def left_out_columns(frame: Frame, places: Sequence[int], *, is_chosen: bool) -> dict[str, str]:
    """Return the columns that are no features, and why; ``is_chosen`` by the other side."""
    has_points = any(frame.kind(i).points is not None for i in places)
    found = {}
    for i in sorted({*range(len(frame.columns))} - {*places}):
        column = frame.kind(i)
        is_number = column.dtype is not None and column.is_quantity
        if is_number or not is_chosen:  # where the other side decides, text is no news
            why = why_no_feature(column) if has_points else column.kind
            found[str(frame.columns[i])] = NO_SUCH if is_chosen and not has_points else why
    return found
