"""Levels of a map: the smallest regions that hold shares of the mass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import Argument, InputError, warn
from dkde.numerics.highest_density import threshold_by_mass, threshold_by_sample
from dkde.typing import FloatArray

GRID, SAMPLE = "grid", "sample"
_FROM = {
    GRID: "cells of highest density that together hold the level's share of the mass",
    SAMPLE: "quantile of the density at the training rows (Hyndman 1996)",
}


@dataclass(frozen=True)
class Levels:
    """The levels of a map, in percent of the mass, and what their thresholds follow from.

    Parameters
    ----------
    percents : tuple of float
        Ascending.
    by : {"grid", "sample"}
    """

    percents: tuple[float, ...] = ()
    by: str = GRID

    @classmethod
    def of(cls, levels: Any, by: str) -> Levels:
        """Return checked levels.

        Raises
        ------
        InputError
            When one is not between 0 and 100, or given twice.
        """
        if by not in _FROM:
            raise InputError(
                Argument("levels_from"), f" is {by!r}; choose one of: {', '.join(_FROM)}"
            )
        if levels is None:
            return cls((), by)
        given = list(levels) if isinstance(levels, Iterable) else [levels]
        for level in given:
            is_number = isinstance(level, Real | np.number) and not isinstance(level, bool)
            if not (is_number and 0 < level < 100):
                raise InputError(
                    Argument("levels"), f": {level!r} is no level; each is a share of the mass in "
                    "percent, above 0 and below 100, such as 50 and 95",
                )  # fmt: skip
        percents = sorted(float(level) for level in given)
        if len(set(percents)) < len(percents):
            raise InputError(Argument("levels"), " name one level twice")
        if percents and percents[-1] <= 1:
            shown = ", ".join(f"{p:g} %" for p in percents)
            warn(f"levels are in percent: these are of {shown} of the mass; write 95 for 95 %")
        return cls(tuple(percents), by)

    @property
    def from_sample(self) -> bool:
        """Return whether thresholds need the densities of the training rows."""
        return bool(self.percents) and self.by == SAMPLE

    @property
    def _shares(self) -> list[float]:
        return [percent / 100 for percent in self.percents]

    def of_cells(self, densities: FloatArray, masses: FloatArray) -> FloatArray:
        """Return the density at the edge of each level's region, from all cells (n_cells,)."""
        return np.array([threshold_by_mass(densities, masses, share) for share in self._shares])

    def of_sample(self, densities: FloatArray, weights: FloatArray | None) -> FloatArray:
        """Return these densities, from those of the training rows (n_rows,)."""
        return np.array([threshold_by_sample(densities, weights, s) for s in self._shares])

    def variables(
        self,
        thresholds: FloatArray,
        density: xr.DataArray,
        masses: xr.DataArray,
        sizes: xr.DataArray,
    ) -> dict[str, Any]:
        """Return the variables of a map that describe its levels.

        Parameters
        ----------
        thresholds : array (n_levels,)
        density, masses, sizes : xarray.DataArray
            The density of each cell, its mass and its size.
        """
        if not self.percents:
            return {}
        size_notes = {n: sizes.attrs[n] for n in ("units",) if n in sizes.attrs}
        inside = [density >= threshold for threshold in thresholds]
        areas = [float((within * sizes).sum()) for within in inside]
        held = [float((within * masses).sum()) for within in inside]
        areas, held = (
            [np.nan if np.isnan(t) else value for t, value in zip(thresholds, values, strict=True)]
            for values in (areas, held)
        )
        named = "area" if density.ndim == 2 else {1: "length", 3: "volume"}[density.ndim]
        density_notes = {n: density.attrs[n] for n in ("units",) if n in density.attrs}
        return {
            "level": (
                "level",
                list(self.percents),
                {"units": "percent", "long_name": "share of the mass within the region"},
            ),
            "level_density": (
                "level",
                thresholds,
                {
                    "long_name": "density at the edge of the region",
                    "levels_from": self.by,
                    "comment": f"from the {self.by}: {_FROM[self.by]}",
                    **density_notes,
                },
            ),
            f"level_{named}": (
                "level",
                areas,
                {"long_name": f"{named} of the region", **size_notes},
            ),
            "level_mass": (
                "level",
                held,
                {"units": "1", "long_name": "share of the mass in the region's cells"},
            ),
        }
