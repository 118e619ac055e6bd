"""Files of a map: what they cannot hold is refused before anything is summed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from dkde.drawing.level_regions import check_axes, write_geojson
from dkde.errors import Argument, InputError, some
from dkde.estimation.map_axes import from_days
from dkde.estimation.map_layout import MapLayout
from dkde.estimation.map_levels import Levels
from dkde.runs.result_files import write_file
from dkde.runs.shares import is_init_only
from dkde.stores.objects import SeenObject, look_at_object
from dkde.stores.store import is_remote
from dkde.stores.targets import Seen, check_place, look

_GEOJSON = (".geojson", ".json")


def check_raster(output: str | os.PathLike[str] | None, layout: MapLayout) -> None:
    """Refuse a map that a GeoTIFF cannot hold, before it is computed.

    Raises
    ------
    InputError
    """
    if output is None or not os.fspath(output).lower().endswith(".tif"):
        return
    drawn = [axis for axis in layout.axes if axis.name in layout.dims[-2:]]
    if len(drawn) < 2:
        raise InputError(f"{output}: a GeoTIFF has two axes, and the map has one; write it as .nc")
    if uneven := [axis.name for axis in drawn if not axis.is_even]:
        raise InputError(
            f"{output}: cells along {some(uneven)} differ in width, and those of a GeoTIFF are all "
            "alike; give cells of one width, or write it as .nc"
        )


@dataclass(frozen=True)
class RegionsFile:
    """The file for the regions of a map's levels, and what was at its place before.

    Parameters
    ----------
    path : path or URL
    seen : Seen or SeenObject
    """

    path: str
    seen: Seen | SeenObject

    @classmethod
    def checked(cls, path: str | os.PathLike[str]) -> RegionsFile:
        """Return the file, once it is certain that it may be written.

        Raises
        ------
        InputError, DataSetError
        """
        path = os.fspath(path)
        if Path(path).suffix.lower() not in _GEOJSON:
            raise InputError(Argument("contours"), f": {path} is no .geojson file")
        if is_init_only():
            raise InputError(
                Argument("contours"), ": a run that is only set up has none; export them once the "
                "map is complete",
            )  # fmt: skip
        check_place(path, f"{Path(path).suffix.lower()} file", overwrite=True)
        return cls(path, look_at_object(path) if is_remote(path) else look(path))

    def check(self, layout: MapLayout, levels: Levels) -> None:
        """Refuse a map without levels, or whose levels have no polygons.

        Raises
        ------
        InputError
        """
        if not levels.percents:
            raise InputError(Argument("contours"), " needs ", Argument("levels"))
        check_axes(
            [
                from_days(axis.centres) if axis.name in layout.times else axis.centres
                for axis in layout.axes
            ]
        )

    def write(self, found: xr.Dataset) -> None:
        """Write the regions of a map."""
        write_file(found, self.path, self.seen, write_geojson)
