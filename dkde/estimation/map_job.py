"""A map as a job: the log-densities of its cells, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.reading import checked_weights, weights_as_read
from dkde.engine.work import Work
from dkde.errors import DataSetError, Remedy, some, warn
from dkde.estimation.adaptive import PILOT, RowBandwidths
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, in_unit_of_call
from dkde.estimation.density_units import LOG_DENSITY_ERROR, log_density_notes
from dkde.estimation.fitted import Fitted
from dkde.estimation.labelling import (
    PAIRS_EVALUATED,
    ROWS_READ,
    attributes,
    coordinates_along,
    in_own_dims,
    whole_numbers,
)
from dkde.estimation.map_layout import MapLayout
from dkde.estimation.map_levels import Levels
from dkde.estimation.map_raster import map_of_raster
from dkde.inputs.operands import Operand
from dkde.numerics.logsum import Densities
from dkde.numerics.map_cells import KM2_OF_STERADIAN
from dkde.runs.job import Compute
from dkde.runs.store import MAIN
from dkde.typing import FloatArray

TITLE = "Density map"
# A mass that is off by less is not told: of counts that are to add up, and of levels.
_EXACT, _NEAR = 1e-6, 1e-2
_COUNT_NOTES = {"units": "1", "long_name": "expected count (weight within the cell)"}


@dataclass(frozen=True, eq=False)
class MapJob:
    """A prepared call of :func:`dkde.density_map`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    fitted : Fitted
    query : Operand
        The centres of the cells.
    layout : MapLayout
    levels : Levels
    total : float, optional
        The weight of all training rows, where expected counts are asked for.
    reach : mapping of str to float
        The bandwidth along each feature, in its unit.
    asked : dict
        The options, for the result's attributes.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    fitted: Fitted
    query: Operand
    works: Mapping[str, Work]
    layout: MapLayout
    levels: Levels
    total: float | None
    reach: Mapping[str, float]
    asked: dict[str, Any]
    start: float
    former: None = None

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score the cells, and return the map."""
        density = RowBandwidths.of(self.fitted, compute, self.works.get(PILOT))
        found = density.score("score", self.works["score"], compute)
        matrix = self.fitted.matrix
        effort = found.effort
        dims = ("bandwidth", "sample")
        notes = log_density_notes(self.fitted.density_units)
        variables = {
            MAIN: (dims, found.values, notes),
            f"{MAIN}_error": (dims, found.errors, LOG_DENSITY_ERROR),
            "pairs_evaluated": ("sample", whole_numbers(effort.pairs), PAIRS_EVALUATED),
            "rows_read": ("sample", whole_numbers(effort.read), ROWS_READ),
        }
        variables = in_own_dims(variables, "sample", self.query)
        variables |= self.fitted.options.missing_variables(found)
        variables |= self.fitted.options.atol_variables(found) | density.variables()
        coords = {"bandwidth": bandwidth_coordinate(matrix), **coordinates_along(self.query)}
        result = xr.Dataset(variables, coords)
        thresholds = None
        if self.levels.from_sample:
            of_rows = density.score("sample", self.works["sample"], compute)
            thresholds = self._by_sample(of_rows)
        result = self._mapped(result, thresholds)
        seconds = perf_counter() - self.start
        return result.assign_attrs(
            {**attributes(seconds, self.asked, methods, score=self.works["score"]), "title": TITLE}
        )

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored map with the levels and counts of this call."""
        found = in_unit_of_call(finished, self.fitted.matrix)
        if MAIN not in found:
            return self._of_raster(found, name)
        known = found.get("level_density")
        thresholds = None
        if self.levels.from_sample and known is not None:
            stored = dict(zip(known["level"].values.tolist(), known.values.tolist(), strict=True))
            if not set(self.levels.percents) <= stored.keys():
                raise DataSetError(
                    f"{name}: has the levels {', '.join(f'{p:g} %' for p in stored)} from the "
                    "sample, and others need its densities again; begin it anew ",
                    Remedy("restart"),
                )
            thresholds = np.array([stored[percent] for percent in self.levels.percents])
        own = {"density", "expected_count", "mass", self.layout.size_name}
        own |= {str(v) for v in found.variables if str(v).split("_")[0] == "level"}
        bare = found.drop_vars([name for name in own if name in found.variables])
        return self._mapped(bare, thresholds)

    def _of_raster(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a map from the GeoTIFF that its run became."""
        found = map_of_raster(finished, name, self.layout, self.levels, self.total)
        found[MAIN].attrs = log_density_notes(self.fitted.density_units)
        found["density"].attrs = self._density_notes
        if self.total is not None:
            found["expected_count"].attrs = _COUNT_NOTES
        thresholds = found["level_density"].values if self.levels.percents else None
        self._say_what_is_missing(float(found["mass"]), thresholds)
        return self.layout.labelled(found.assign_coords(coordinates_along(self.query)))

    def _mapped(self, result: xr.Dataset, thresholds: FloatArray | None) -> xr.Dataset:
        """Return a result with densities, counts and levels, which follow from its log-densities.

        Parameters
        ----------
        thresholds : array (n_levels,), optional
            The densities at the edges of the levels, where the sample says them.
        """
        sizes, per_density = self.layout.sizes(), self.layout.masses()
        density = self._density(result)
        masses = density * per_density
        mass = float(masses.sum())
        found: dict[str, Any] = {
            "density": density,
            self.layout.size_name: sizes,
            "mass": (
                (), mass, {"units": "1", "long_name": "share of the density within the cells"}
            ),
        }  # fmt: skip
        if self.total is not None:
            counts = masses * self.total
            counts.attrs = _COUNT_NOTES
            found["expected_count"] = counts
        if self.levels.percents:
            if thresholds is None:
                flat = xr.broadcast(density, masses)
                thresholds = self.levels.of_cells(*(np.ravel(each.values) for each in flat))
            found |= self.levels.variables(thresholds, density, masses, sizes)
        self._say_what_is_missing(mass, thresholds)
        return self.layout.labelled(result.assign(found))

    def _density(self, result: xr.Dataset) -> xr.DataArray:
        """Return the density of each cell; on the sphere per square kilometre."""
        log_density = result[MAIN].isel(bandwidth=0, drop=True).load()
        with np.errstate(under="ignore", over="ignore"):
            values: xr.DataArray = xr.apply_ufunc(np.exp, log_density)
        if self.layout.sphere:
            values = values / KM2_OF_STERADIAN
        found: xr.DataArray = values.rename("density")
        found.attrs = self._density_notes
        return found

    @property
    def _density_notes(self) -> dict[str, str]:
        units = "km-2" if self.layout.sphere else self.fitted.density_units
        return {"long_name": "probability density"} | ({} if units is None else {"units": units})

    def _by_sample(self, found: Densities) -> FloatArray:
        """Return the thresholds of levels from the log-densities of the training rows."""
        side = self.works["sample"].query
        weights = None
        if side.weights is not None:
            weights = weights_as_read(side, 0, side.rows.n_rows)
            weights = checked_weights(side, weights, missing=found.missing)
        densities = np.exp(found.values[0])
        if self.layout.sphere:
            densities = densities / KM2_OF_STERADIAN
        return self.levels.of_sample(densities, weights)

    def _say_what_is_missing(self, mass: float, thresholds: FloatArray | None) -> None:
        """Warn where the cells hold less than the weights, or than a level."""
        name, width = self.layout.widest(self.reach)
        # Cells up to a bandwidth wide add up to 1e-8: anything else is what the box leaves out.
        why = "the box leaves the rest out"
        if width > 1 + 1e-9:
            why = f"cells are up to {width:.3g} bandwidths wide (along {name})"
            why += "" if mass > 1 else ", or the box leaves the rest out"
        elif not self.layout.sphere and (uneven := self.layout.uneven):
            # Midpoints are exact for smooth densities only where all cells are alike.
            why = f"cells differ in width (along {some(uneven)})"
            why += "" if mass > 1 else ", or the box leaves the rest out"
        elif mass > 1 and self.layout.sphere:
            why = "around a pole they need cells up to half a bandwidth wide"
        elif self.fitted.options.kernel != "gaussian" and not self.layout.sphere:
            # These kernels have edges or tips, between which and the cells nothing is exact.
            why = "cells are too wide for this kernel" + ("" if mass > 1 else f", or {why}")
        if self.total is not None and abs(mass - 1) > _EXACT:
            off = f"{100 * abs(1 - mass):.2g} % {'less' if mass < 1 else 'more'} than"
            warn(
                f"expected counts add up to {mass * self.total:.6g}, {off} the weight of all rows, "
                f"{self.total:.6g}: {why}"
            )
        elif self.levels.percents and abs(mass - 1) > _NEAR:
            warn(f"the cells hold {100 * mass:.4g} % of the density: {why}")
        if thresholds is not None and np.isnan(thresholds).any():
            beyond = ", ".join(
                f"{p:g} %"
                for p, t in zip(self.levels.percents, thresholds, strict=True)
                if np.isnan(t)
            )
            warn(f"the cells hold less than the level {beyond}, which has no region; widen the box")
