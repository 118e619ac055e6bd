"""Values of classes at rows, in the container of the rows: NumPy, Dask or xarray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.engine.eager_run import computed
from dkde.errors import InputError
from dkde.estimation.class_densities import ClassDensities
from dkde.estimation.query_forms import densities_of
from dkde.inputs.operands import Operand
from dkde.progress import shown
from dkde.rows.side import Side
from dkde.typing import Array
from dkde.workers.cluster import pool_for

CLASS = "class"  # the dim of classes in labelled answers


def class_log_densities(
    query: Operand, densities: ClassDensities, prepared: Side, classes: Array
) -> Any:
    """Return the log-densities of rows under each class, with the classes along the last axis.

    They are computed now for NumPy, and lazy for any other container.

    Parameters
    ----------
    query : Operand
        The rows, and ``prepared`` the side made of them.
    densities : ClassDensities
        Of one bandwidth each.
    classes : array (n_classes,)
        The coordinate of a labelled answer.

    Raises
    ------
    InputError
        When the rows have a dim or coordinate with the name of that coordinate.
    """
    if query.form == "numpy":
        works = densities.works(prepared)
        with shown(None) as progress, pool_for(*works) as pool:
            return np.stack([computed(w, pool, progress).values[0] for w in works], axis=-1)
    works = densities.works(prepared, in_shares=False)
    found = [
        densities_of(query, [work], each.matrix, scalar=True)[0]
        for work, each in zip(works, densities.fitted, strict=True)
    ]
    if not isinstance(found[0], xr.DataArray):
        return da.stack(found, axis=-1).rechunk({-1: -1})
    if CLASS in {*query.dims, *found[0].coords}:
        raise InputError(
            f"X has a dim or coordinate {CLASS!r}, a name that the answer needs for itself; "
            "rename it"
        )
    along = xr.DataArray(classes, dims=[CLASS], name=CLASS)
    bare = [each.drop_vars("bandwidth", errors="ignore") for each in found]
    joined = xr.concat(bare, along, coords="minimal", compat="override")
    return joined.transpose(..., CLASS).chunk({CLASS: -1}).drop_attrs()


def along_classes(
    found: Any, function: Callable[[Any], Any], dtype: npt.DTypeLike, *, keeps: bool = True
) -> Any:
    """Return a function of values along classes, the last axis, of any container.

    Parameters
    ----------
    keeps : bool
        Whether the function keeps that axis.
    """
    if isinstance(found, xr.DataArray):
        return xr.apply_ufunc(
            function,
            found,
            input_core_dims=[[CLASS]],
            output_core_dims=[[CLASS] if keeps else []],
            dask="parallelized",
            output_dtypes=[dtype],
        )
    if isinstance(found, da.Array):
        dropped = None if keeps else found.ndim - 1
        return found.map_blocks(function, dtype=dtype, drop_axis=dropped)
    return function(found)
