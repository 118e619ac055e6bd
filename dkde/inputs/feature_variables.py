"""The choice of features among the variables of a Dataset, a store or a file."""

from collections.abc import Collection

import xarray as xr

from dkde.errors import InputError, warn
from dkde.inputs.groups import Group
from dkde.rows.feature_choice import only_weights

# The kinds of data variables that are no features unless named, or never, by NumPy's kind.
_LEFT_OUT = {
    "b": "true or false", "M": "timestamps", "m": "lengths of time", "U": "text", "S": "text",
    "T": "text", "O": "text or objects",
}  # fmt: skip
# Variables with the bounds of cells are no features. CF's attributes that name them, and the usual
# ends of their names.
_BOUNDS, _BOUNDS_NAMES = ("bounds", "climatology"), ("_bnds", "_bounds")


def is_split(dataset: xr.Dataset, features: tuple[str, ...] | None = None) -> bool:
    """Return whether a Dataset is like a split, whose rows are those of its variable ``x``.

    Parameters
    ----------
    features : tuple of str, optional
        The features that the user names. If ``x`` is one of them, it is a variable like any other.
    """
    if "x" not in dataset.data_vars or dataset["x"].ndim != 2:
        return False
    if "feature" in dataset["x"].dims:
        return True
    # A Dataset of other origin is like a split if ``x`` is its only matrix: labels, one for each
    # row, may be beside it, but no numbers along its dims, which could be features too.
    first, second = dataset["x"].dims
    others = [variable for name, variable in dataset.variables.items() if name != "x"]
    numbers = (v for v in others if getattr(v.dtype, "kind", "O") in "fc" or second in v.dims)
    return "x" not in (features or ()) and not any(set(v.dims) & {first, second} for v in numbers)


def feature_names(
    dataset: xr.Dataset, group: Group, role: str, beside: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of a Dataset's features where the user names none.

    The features are the data variables of numbers, and the coordinates of numbers that come before
    the last of these: selecting variables by name, ``data[["lat", "lon", "depth"]]``, puts them in
    this order. If there is no data variable, the coordinates are the features.

    Parameters
    ----------
    dataset, group : xarray.Dataset, Group
        The Dataset, and its variables.
    role : str
        The name of the data, for messages.
    beside : collection of str
        Variables with another use, such as weights.

    Returns
    -------
    The names, and the data variables that are left out with the reason of each.

    Raises
    ------
    InputError
        When no variable can be a feature.
    """
    names, left_out = [name for name in group.variables if name not in beside], {}
    if dataset.data_vars:
        there = [names.index(str(name)) for name in dataset.data_vars if name not in beside]
        last = max(there, default=-1)
        meant = [name for name in names if name in group.coordinates and _may_be_meant(group, name)]
        chosen = [
            name for name in names[: last + 1]
            if name not in group.coordinates or (name in meant and group.numeric(name))
        ]  # fmt: skip
        left_out = {name: why for name in chosen if (why := why_not(group, name)) is not None}
        chosen = [name for name in chosen if name not in left_out]
        _warn_of_coordinates(role, group, chosen, meant)
    else:
        chosen = [name for name in names if group.numeric(name)]
        # Coordinates of a grid: an axis that others lie along is their index, and no feature.
        spanned = {
            dim for name in chosen for dim in group.variables[name].dims if dim != name
        }  # fmt: skip
        chosen = [name for name in chosen if name not in spanned]
    if not chosen and any(group.numeric(name) for name in beside):
        raise only_weights(role, [name for name in beside if group.numeric(name)])
    if not chosen:
        raise InputError(
            f"{role}: the Dataset has no variables of numbers to be features; it has "
            f"{group.listing}"
        )
    return tuple(chosen), left_out


def why_not(group: Group, name: str) -> str | None:
    """Return the reason why a data variable is no feature by default; None if it is one."""
    return _LEFT_OUT.get(getattr(group.variables[name].dtype, "kind", "O"))


def _warn_of_coordinates(role: str, group: Group, chosen: list[str], meant: list[str]) -> None:
    """Warn of coordinates that may be features: their order matters, and xarray may change it."""
    taken = [name for name in meant if name in chosen]
    # The index of a grid's dim shows where rows lie; it is no feature that was left out.
    axes = {dim for name in chosen for dim in group.variables[name].dims if dim in meant}
    left = [name for name in meant if name not in chosen and name not in axes]
    if not taken and not left:
        return
    notes = [f"the features are {', '.join(chosen)}"]
    if taken:
        are = "are coordinates" if len(taken) > 1 else "is a coordinate"
        notes.append(f"of these {', '.join(taken)} {are}")
    if left:
        are = "as coordinates, are not" if len(left) > 1 else "as a coordinate, is not"
        notes.append(f"{', '.join(left)}, {are}")
    warn(f"{role}: {'; '.join(notes)} (say which are with features=[...])")


def _may_be_meant(group: Group, name: str) -> bool:
    """Return whether a coordinate may be meant as a feature.

    Times and numbers with a fraction may be meant (times cannot be features by default, which is
    worth a warning). Integers and the rows' own index are not.
    """
    variable = group.variables[name]
    if getattr(variable.dtype, "kind", "O") not in "fmM":  # a dtype of pandas may lack a kind
        return False
    others = (v for key, v in group.variables.items() if key not in group.coordinates)
    is_index = variable.dims == (name,) and any(v.dims == (name,) for v in others)
    return not is_index and variable.ndim > 0


def along_the_widest(group: Group) -> list[str]:
    """Return the numeric variables along the dims of the widest one, without their indexes."""
    bounds = _bounds(group)
    numeric = [
        name for name in group.variables
        if group.numeric(name) and group.fault(name) is None and name not in bounds
    ]  # fmt: skip
    if not numeric:
        return []
    widest = max(numeric, key=lambda name: group.variables[name].ndim)
    dims = set(group.variables[widest].dims)
    if not dims:
        return []
    return [
        name
        for name in numeric
        if set(group.variables[name].dims) == dims and group.variables[name].dims != (name,)
    ] or [widest]  # a lone index is its own feature


def _bounds(group: Group) -> set[str]:
    """Return the variables that hold the bounds of cells, which are no features."""
    found = {
        str(name)
        for variable in group.variables.values()
        for key in _BOUNDS
        if (name := variable.attrs.get(key, variable.encoding.get(key))) is not None
    }
    # xarray moves the attribute to ``encoding`` as it decodes. The end of a name counts only for
    # variables of pairs: lower and upper bound.
    return found | {
        name for name, variable in group.variables.items()
        if name.endswith(_BOUNDS_NAMES) and variable.shape[-1:] == (2,)
    }  # fmt: skip
