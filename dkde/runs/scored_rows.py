"""The rows that a result scored, by role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError
from dkde.inputs.moved import Whereabouts
from dkde.runs.opened import whereabouts_of
from dkde.runs.origin import bandwidth_unit, provenance_of, recounted
from dkde.runs.plan_schema import is_described
from dkde.runs.store import MAIN, ROW_WEIGHT

# The roles of scored rows in the provenance, and the names of their splits in tables. The first of
# these roles that a provenance has is the main one.
_SPLITS = {"score": "query", "valid": "valid", "cross_validate": "train", "test": "test"}
_TEST = "test_"  # the prefix of a sweep's variables of test rows
# The variables that have a value for each row. Only the first four have one for each bandwidth,
# and the last two are those of maps.
_OF_ROWS = (
    MAIN, f"{MAIN}_error", "unusual", "predicted", "true_class", "pairs_evaluated", "rows_read",
    ROW_WEIGHT, "density", "expected_count",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The rows that a result scored in one role.

    Parameters
    ----------
    split : {"query", "valid", "train", "test"}
        The name of the rows in tables: ``query`` of a score, ``valid`` and ``test`` of a sweep,
        ``train`` of a cross-validation.
    values : xarray.Dataset
        ``log_density`` and the other variables of each row, along ``bandwidth`` and the rows' own
        dims, with the rows' coordinates.
    described : mapping
        The provenance's description of the work; empty if there is none.
    where : Whereabouts
        The places at which the run was begun, and at which its store and its data lie now.
    """

    split: str
    values: xr.Dataset
    described: Mapping[str, Any]
    where: Whereabouts = field(default_factory=Whereabouts)

    @property
    def dims(self) -> tuple[str, ...]:
        """Return the dims along which rows lie."""
        return tuple(str(dim) for dim in self.values[MAIN].dims if dim != "bandwidth")

    @property
    def unit(self) -> str | None:
        """Return the unit of the bandwidths; None if they are not angles."""
        unit = self.values["bandwidth"].attrs.get("units")
        return unit if isinstance(unit, str) else None

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return prod(self.values.sizes[dim] for dim in self.dims)

    @property
    def coordinates(self) -> list[str]:
        """Return the names of the rows' coordinates, without their dims and the bandwidth."""
        others = (*self.dims, "bandwidth")
        return sorted(str(name) for name in self.values.coords if name not in others)

    def names(self, coordinate: str) -> dict[Any, str]:
        """Return the names that a coordinate's codes stand for (CF flags), if it has them."""
        notes = self.values[coordinate].attrs
        words, values = notes.get("flag_meanings"), notes.get("flag_values", ())
        if not isinstance(words, str):
            return {}
        return dict(zip(np.atleast_1d(values).tolist(), words.split(), strict=False))

    def at(self, bandwidth: float) -> xr.Dataset:
        """Return the values at one bandwidth, which may be given in fewer digits.

        Raises
        ------
        InputError
            When it is not among the result's bandwidths.
        """
        known = np.asarray(self.values["bandwidth"].values, np.float64)
        nearest = int(np.abs(known - bandwidth).argmin())
        if not np.isclose(known[nearest], bandwidth, rtol=1e-6, atol=0):
            # The message names the first dozen, as there may be hundreds.
            names = ", ".join(f"{h:.6g}" for h in known[:12]) + ", ..." * (len(known) > 12)
            unit = "" if self.unit is None else f" (in {self.unit})"
            raise InputError(
                f"the {self.split} rows were not scored at bandwidth {bandwidth:g}; they were "
                f"scored at {names}{unit}"
            )
        return self.values.isel(bandwidth=nearest)


def scored_rows(result: xr.Dataset) -> list[ScoredRows]:
    """Return the rows that a result scored, an item for each role; a sweep's test rows are last."""
    provenance = provenance_of(result)
    role = next((name for name in _SPLITS if name in provenance), "score")
    found = [_scored(result, role, "", provenance)]
    if f"{_TEST}{MAIN}" in result:
        found.append(_scored(result, "test", _TEST, provenance))
    return found


def _scored(
    result: xr.Dataset, role: str, prefix: str, provenance: Mapping[str, Any]
) -> ScoredRows:
    """Return the rows of one role, whose variables' names begin with a prefix."""
    names = [f"{prefix}{name}" for name in _OF_ROWS if f"{prefix}{name}" in result.data_vars]
    dims = set(result[names[0]].dims) - {"bandwidth"}
    # Coordinates of the rows alone: not those of the bandwidths, of components or of features.
    along = [
        name
        for name, coordinate in result.coords.items()
        if coordinate.dims and dims.issuperset(coordinate.dims)
    ]
    posteriors = _posteriors(result)
    kept = {"bandwidth"} & set(result[names[0]].dims)
    values = (
        result[names]
        .reset_coords(drop=True)
        .assign_coords({name: result[name].variable for name in [*along, *kept]})
        .assign(posteriors)
    )
    # Test rows were scored at the best bandwidth alone. Here they get the names and the dims of the
    # other rows, so that both fit in one table.
    if prefix:
        renamed = {
            name: str(name).removeprefix(prefix)
            for name in {*values.variables, *values.dims}
            if str(name).startswith(prefix)
        }
        values = values.rename(renamed)
        best = float(result["best_bandwidth"])
        of_each = [name for name in _OF_ROWS[:4] if name in values]
        expanded = values[of_each].expand_dims(bandwidth=[best])
        values = values.drop_vars(of_each).merge(expanded, join="exact", compat="no_conflicts")
    if (unit := bandwidth_unit(result)) is not None:
        along_it = values["bandwidth"].values
        values = values.assign_coords(bandwidth=("bandwidth", along_it, {"units": unit}))
    described = provenance.get(role, {})
    # An incomplete description is taken as none: the values can be used without it.
    known = recounted(described) if is_described(described) else {}
    return ScoredRows(
        _SPLITS[role],
        values,
        known,
        whereabouts_of(result),
    )


def _posteriors(result: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the log-posterior of each class as a variable of its own; none without classes."""
    if "log_posterior" not in result:
        return {}
    found, classes = result["log_posterior"], result["class"].values.tolist()
    return {f"log_posterior_{k}": found.variable.isel({"class": i}) for i, k in enumerate(classes)}
