"""The columns of sides: which of them are features, in which order, and what no side has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from dkde.errors import InputError, some
from dkde.inputs.operands import Operand
from dkde.rows.column_notes import NO_SUCH, only_weights
from dkde.rows.columns import Columns, alike, chosen, chosen_by_name, lacking, picked, placed
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.row_dims import unknown_dims
from dkde.rows.row_source import innermost
from dkde.rows.side import Part
from dkde.rows.variables import VariablesSource


def aligned(
    operand: Operand, choice: FeatureChoice, beside: Sequence[str], like: Columns | None
) -> Operand:
    """Return the same rows with their features alone, in order.

    Parameters
    ----------
    beside : sequence of str
        Columns that have another use, and are features only where they are named.
    like : Columns, optional
        Those of another side, which are taken by name; as many columns without names are these.
        Columns that it lacks are noted as left out.

    Raises
    ------
    InputError
        When there are none of the names that the user chose, none but those beside, or when the
        data say that a latitude or a longitude is in something else than degrees.
    """
    parts: Sequence[Part] = operand.rows.parts
    if choice.features is None:
        parts = [_without(part, beside) for part in parts]
    else:
        width = None if like is None else like.width
        parts = [_choosing(part, choice.features, width) for part in parts]
    named = [part.features for part in parts if part.features is not None]
    met = {name for features in named for name in features}.intersection(choice.places)
    if choice.places:
        parts = [placed(part, choice) for part in parts]
    if like is not None:
        parts = [_alike(part, like, tell=choice.features is None) for part in parts]
    return replace(operand.with_parts(parts), met=frozenset(met) if named else None)


def _without(part: Part, names: Sequence[str]) -> Part:
    """Return the part without the columns that have another use; refused if there are no others."""
    left_out = {name: why for name, why in part.left_out.items() if name not in names}
    if len(left_out) < len(part.left_out):
        part = replace(part, left_out=left_out)
    known = part.features or ()
    rest = [i for i, name in enumerate(known) if name not in names]
    if known and not rest:
        raise only_weights(part.name, known)
    return part if len(rest) == len(known) else picked(part, rest)


def _choosing(part: Part, names: tuple[str, ...], width: int | None) -> Part:
    """Return the columns with these names, or all columns of these variables or lists."""
    source = innermost(part.source)
    is_whole = isinstance(source, VariablesSource) and source.names == names
    are_these = part.features is None and part.source.shape[1] == width
    return part if is_whole or are_these or part.opened == names else chosen(part, names)


def _alike(part: Part, columns: Columns, *, tell: bool) -> Part:
    """Return the part with another's columns; the rest is noted as left out, if it is to be."""
    found = alike(part, columns)
    extra = dict.fromkeys(lacking(part, found), NO_SUCH) if tell else {}
    return replace(found, left_out={**found.left_out, **extra}) if extra else found


def aligned_parts(
    parts: Sequence[Part], selector: str, features: tuple[str, ...] | None
) -> tuple[Part, ...]:
    """Return parts with the columns of the first, matched by name in any order.

    Parameters
    ----------
    features : tuple of str, optional
        Those that are asked for: they are taken of each part that was opened with others too, and
        are the names of columns that have none.

    Raises
    ------
    InputError
        When their columns are not the same ones, or cannot be told to be.
    """
    if features is not None:
        parts = [part if part.opened else chosen_by_name(part, features) for part in parts]
        if len(parts) > 1:
            parts = [alike(part, Columns(features)) for part in parts]
    first, names = parts[0], parts[0].features
    # A latitude and a longitude may be called otherwise.
    parts = [first, *(alike(part, Columns(names)) if part.features else part for part in parts[1:])]
    for part in parts[1:]:
        if part.source.shape[1] != first.source.shape[1]:
            counts = ", ".join(f"{each.label} has {each.source.shape[1]}" for each in parts)
            raise InputError(f"{selector}: features differ: {counts}")
        if (part.features is None) != (names is None):
            with_names, without = (first, part) if part.features is None else (part, first)
            raise InputError(
                f"{selector}: the columns of {with_names.label} have names and those of "
                f"{without.label} have none, so that their order cannot be told; give names to "
                "both, or to neither"
            )
        if names is not None and set(part.features or ()) != set(names):
            raise InputError(
                f"{selector}: features differ: {first.label} has {some(names)}, and "
                f"{part.label} {some(part.features or ())}"
            )
    return tuple(parts if names is None else (chosen(part, names) for part in parts))


def dims_of(data: Any, operand: Operand) -> tuple[str, ...]:
    """Return the names of the rows' original dims; none where they have no names."""
    found = dict.fromkeys(dim for part in operand.rows.parts for dim in part.dims)
    if not found and isinstance(data, xr.DataArray | xr.Dataset | xr.DataTree):
        found = dict.fromkeys(map(str, data.dims))
    return tuple(found)


def refuse_unmet_dims(choice: FeatureChoice, operands: Sequence[Operand]) -> None:
    """Refuse a name in ``row_dim`` that no side has as a dim.

    Raises
    ------
    InputError
    """
    known = {dim for operand in operands for dim in operand.known_dims}
    unmet = [dim for dim in choice.row_dim or () if dim not in known]
    if not unmet:
        return
    there = [f"{operand.rows.label} has {_dims(operand.known_dims)}" for operand in operands]
    raise InputError(unknown_dims(unmet, "; ".join(dict.fromkeys(there))))


def _dims(names: Sequence[str]) -> str:
    return f"the dims {some(names)}" if names else "no dims with names"


def unmet_columns(choice: FeatureChoice, operands: Sequence[Operand]) -> str | None:
    """Return the refusal for a latitude or longitude that no side has, if any."""
    if not choice.implied and all(operand.met is None for operand in operands):
        return None  # the features are said in their order, and columns without names have it
    met = {name for operand in operands for name in operand.met or ()}
    unmet = [
        f"{what} is {name!r}"
        for what, name in (("lat", choice.lat), ("lon", choice.lon))
        if name is not None and name not in met
    ]
    if not unmet:
        return None
    them = "that name" if len(unmet) == 1 else "these names"
    sides = "no side has a column" if len(operands) > 1 else "there is no column"
    return f"{' and '.join(unmet)}, and {sides} of {them}"
