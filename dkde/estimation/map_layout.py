"""The layout of a map: its axes, the order of its dims, and the sizes of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from dkde.estimation.density_units import inverse_product
from dkde.estimation.map_axes import Axis, from_days
from dkde.numerics.map_cells import KM2_OF_STERADIAN, areas_on_sphere, weights_of_latitudes
from dkde.rows.place_names import LATITUDE, LONGITUDE, role_of
from dkde.typing import FloatArray

# The names of a cell's size, by the number of axes.
_SIZES = {1: "cell_length", 2: "cell_area", 3: "cell_volume"}

# Usual names of axes in the plane, down and to the right on a map.
_PLANE = {"y": "down", "northing": "down", "x": "right", "easting": "right"}


@dataclass(frozen=True, eq=False)
class MapLayout:
    """The cells of a map.

    Parameters
    ----------
    axes : tuple of Axis
        One for each feature, in the order of the features.
    dims : tuple of str
        The names of the features in the order of the map's dims.
    times : mapping of str to str
        The units of features that are times.
    sphere : bool
        Whether the density is one on the sphere, per steradian.
    extra : mapping
        Further coordinates of the template: its grid mapping.
    """

    axes: tuple[Axis, ...]
    dims: tuple[str, ...]
    times: Mapping[str, str]
    sphere: bool
    extra: Mapping[str, Any]

    @property
    def query(self) -> xr.Dataset:
        """Return the centres of the cells as a Dataset of axes, times as days."""
        by_name = {axis.name: axis for axis in self.axes}
        return xr.Dataset(
            coords={
                name: (name, by_name[name].centres, self._notes(by_name[name]))
                for name in self.dims
            }
        )

    def _notes(self, axis: Axis) -> dict[str, Any]:
        own = {name: note for name, note in axis.attrs.items() if name != "bounds"}
        return own | ({"units": self.times[axis.name]} if axis.name in self.times else {})

    def labelled(self, result: xr.Dataset) -> xr.Dataset:
        """Return a result with times as times, and with the further coordinates of the template."""
        for axis in self.axes:
            if axis.name in self.times:
                shown = axis.shown
                if shown is None:
                    notes = {"standard_name": "time"}
                    shown = xr.Variable(axis.name, from_days(axis.centres), notes)
                # Under this name, whatever that of the template's axis.
                named = xr.Variable(axis.name, shown.values, shown.attrs)
                result = result.assign_coords({axis.name: named})
        return result.assign_coords(self.extra)

    def placed(self, raster: FloatArray) -> xr.DataArray:
        """Return the cells of a raster (bands, down, right), north up, along the dims of the map.

        Raises
        ------
        ValueError
            When it has other cells.
        """
        along = {axis.name: axis.centres for axis in self.axes}
        values = raster.reshape([len(along[dim]) for dim in self.dims])
        down, right = (np.argsort(np.argsort(along[dim])) for dim in self.dims[-2:])
        values = values.take(len(down) - 1 - down, axis=-2).take(right, axis=-1)
        return xr.DataArray(values, dims=self.dims)

    @property
    def size_name(self) -> str:
        """Return the name of a cell's size: its area, in two dims."""
        return _SIZES[len(self.axes)]

    def sizes(self) -> xr.DataArray:
        """Return the sizes of the cells: on the sphere in km², else in units of the features.

        They lie along the dims along which they differ.
        """
        if self.sphere:
            latitude, longitude = self._places()
            areas = areas_on_sphere(latitude.edges, longitude.edges)
            found = xr.DataArray(areas, dims=(latitude.name, longitude.name))
            found = self._collapsed(found, [longitude])
            units: str | None = "km2"
        else:
            found = xr.DataArray(1.0)
            for axis in self.axes:
                found = found * self._collapsed(xr.DataArray(axis.widths, dims=axis.name), [axis])
            units = inverse_product([inverse_product([self._unit(axis)]) for axis in self.axes])
        found = found.transpose(*[dim for dim in self.dims if dim in found.dims])
        name = self.size_name.replace("_", " ")
        found.attrs = {"long_name": name, **({} if units is None else {"units": units})}
        if len(self.axes) == 2:
            found.attrs["standard_name"] = "cell_area"
        return found.rename(self.size_name)

    def masses(self) -> xr.DataArray:
        """Return what the density at a cell's centre is multiplied by to give the cell's mass.

        For a density per km² on the sphere, else per unit of volume of the features.
        """
        if not self.sphere:
            return self.sizes()
        latitude, longitude = self._places()
        weights = KM2_OF_STERADIAN * weights_of_latitudes(latitude.edges)
        turns = self._collapsed(
            xr.DataArray(np.deg2rad(longitude.widths), dims=longitude.name), [longitude]
        )
        return xr.DataArray(weights, dims=latitude.name) * turns

    def widest(self, bandwidths: Mapping[str, float]) -> tuple[str, float]:
        """Return the feature along which cells are widest, and their width in bandwidths.

        Parameters
        ----------
        bandwidths : mapping of str to float
            The bandwidth along each feature, in its unit.
        """
        found = {axis.name: float(axis.widths.max()) / bandwidths[axis.name] for axis in self.axes}
        name = max(found, key=lambda name: found[name])
        return name, found[name]

    @property
    def uneven(self) -> list[str]:
        """Return the features along which cells differ in width."""
        return [axis.name for axis in self.axes if not axis.is_regular]

    @property
    def n_cells(self) -> int:
        """Return the number of cells."""
        return prod(len(axis.centres) for axis in self.axes)

    def _places(self) -> tuple[Axis, Axis]:
        """Return the axes of latitudes and of longitudes."""
        roles = {role_of(axis.name, axis.attrs.get("units")): axis for axis in self.axes}
        return roles[LATITUDE], roles[LONGITUDE]

    def _unit(self, axis: Axis) -> str | None:
        unit = self.times.get(axis.name, axis.attrs.get("units"))
        return unit if isinstance(unit, str) else None

    @staticmethod
    def _collapsed(sizes: xr.DataArray, axes: Sequence[Axis]) -> xr.DataArray:
        """Return sizes without the dims of axes whose cells are equally wide."""
        for axis in axes:
            if axis.is_regular:
                sizes = sizes.isel({axis.name: 0})
        return sizes


def ordered(
    names: Sequence[str], units: Sequence[str | None], times: Mapping[str, str]
) -> tuple[str, ...]:
    """Return features in the order of a map's dims: times, then down, then to the right.

    Examples
    --------
    >>> ordered(["x", "y"], [None, None], {}), ordered(["lat", "lon", "day"], [None] * 3, {})
    (('y', 'x'), ('day', 'lat', 'lon'))
    >>> ordered(["y", "x"], [None, None], {})
    ('y', 'x')
    """
    roles = {role_of(name, unit): name for name, unit in zip(names, units, strict=True)}
    plain = {_PLANE.get(name.lower()): name for name in names}
    last: list[str] = []
    for known, pair in ((roles, (LATITUDE, LONGITUDE)), (plain, ("down", "right"))):
        if not last and set(pair) <= known.keys():
            last = [known[each] for each in pair]
    rest = [name for name in reversed(names) if name not in last]
    return (
        *(name for name in rest if name in times),
        *(name for name in rest if name not in times),
        *last,
    )
