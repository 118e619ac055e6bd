"""The columns and dims that users name, and the check that a side has them."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from dkde.errors import InputError, some
from dkde.inputs.operands import Operand
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.row_dims import unknown_dims


def columns_met(operand: Operand, choice: FeatureChoice) -> frozenset[str] | None:
    """Return the columns that the user named as latitude or longitude and rows have.

    None where columns have no names.

    Parameters
    ----------
    operand : Operand
        Whose names are its own yet.
    """
    named = [part.features for part in operand.rows.parts if part.features is not None]
    known = {name for features in named for name in features}
    return frozenset(known.intersection(choice.places)) if named else None


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
