"""Maps: log-densities of rows that lie on a grid of two dims, or of two and more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import xarray as xr

from dkde.drawing.palette import inline_svg, name_in_picture, new_figure
from dkde.rows.place_names import role_of, unit_of

# Cells along a side of a map: more would not be seen.
_MOST_CELLS = 600
# The colours end so many nats below the highest log-density: a factor of three million.
_RANGE_NATS = 15.0
# A map that is lower than so much of its width has its bar below.
_WIDE = 0.55


@dataclass(frozen=True, eq=False)
class Grid:
    """Values on a grid, as they are drawn.

    Parameters
    ----------
    values : xarray.DataArray
        Of two dims: down, and to the right.
    place : str
        Where this grid lies along the dims that are not drawn: "time = 0"; empty without such.
    is_earth : bool
        Whether the dims are latitude and longitude.
    """

    values: xr.DataArray
    place: str
    is_earth: bool

    @property
    def aspect(self) -> float | None:
        """Return the length of a unit down over that of one to the right; None to fill the axes."""
        if not self.is_earth:
            return None
        middle = float(np.nanmean(np.asarray(self.values[self.values.dims[0]].values, np.float64)))
        # A degree of longitude is shorter than one of latitude; near the poles no scale is right.
        return float(1 / max(np.cos(np.deg2rad(middle)), 0.2))

    @property
    def shape(self) -> float:
        """Return the height of the map over its width."""
        if self.aspect is None:
            return 0.66
        down, right = (np.asarray(self.values[d].values, np.float64) for d in self.values.dims)
        return self.aspect * float(np.ptp(down)) / max(float(np.ptp(right)), 1e-9)

    def height(self, width: float) -> float:
        """Return the height of a picture of some width, in inches."""
        # There is room for names, and for the bar beside the map, or below it.
        room = width * self.shape + 1.7 if self.is_wide else 0.75 * width * self.shape + 0.9
        return float(np.clip(room, 2.4, 1.3 * width))

    @property
    def is_wide(self) -> bool:
        """Return whether the bar has more room below the map than beside it."""
        return self.shape < _WIDE


def grid_of(values: xr.DataArray, *, fullest: bool = False) -> Grid | None:
    """Return the grid on which values lie; None if they have no two dims of more than one place.

    Latitude and longitude are drawn where there are such dims, and else the last two.

    Parameters
    ----------
    values : xarray.DataArray
        Values along the dims of the rows.
    fullest : bool
        Whether it is the place of the highest sum that is drawn of further dims; else the first.
    """
    dims = [str(dim) for dim in values.dims if values.sizes[dim] > 1]
    if len(dims) < 2:
        return None
    roles = {role: dim for dim in dims if (role := _role(values, dim)) is not None}
    is_earth = len(roles) == 2
    down, right = (roles["latitude"], roles["longitude"]) if is_earth else dims[-2:]
    others = [str(dim) for dim in values.dims if dim not in (down, right)]
    at = dict.fromkeys(others, 0)
    if fullest and others:
        sums = values.sum([down, right]).values
        at = dict(zip(others, map(int, np.unravel_index(sums.argmax(), sums.shape)), strict=True))
    places = [
        f"{dim} = {_place(values[dim].values[at[dim]]) if dim in values.coords else at[dim]}"
        for dim in others if values.sizes[dim] > 1
    ]  # fmt: skip
    steps = {dim: slice(None, None, ceil(values.sizes[dim] / _MOST_CELLS)) for dim in (down, right)}
    flat = values.isel(at | steps, drop=True).transpose(down, right)
    return Grid(flat, ", ".join(places), is_earth)


def draw_line(
    axes: Any, values: xr.DataArray, label: str, inside: Mapping[float, xr.DataArray], **style: Any
) -> None:
    """Draw values along one axis as a line, and what lies below it in regions as areas.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : xarray.DataArray
        Of at most one dim of more than one place.
    label : str
        What the values are, with their unit.
    inside : mapping of float to xarray.DataArray
        By level in percent, which cells are in its region.
    **style
        For ``axes.plot``, in place of dkde's own.
    """
    from matplotlib.colors import to_rgb

    along = next((str(dim) for dim in values.dims if values.sizes[dim] > 1), str(values.dims[-1]))
    flat = values.isel({dim: 0 for dim in values.dims if dim != along}, drop=True)
    places, heights = _places(flat, along), np.asarray(flat.values, np.float64)
    (line,) = axes.plot(places, heights, **style)
    # The widest first, and narrower ones darker on it.
    colour = np.array(to_rgb(line.get_color()))
    for i, level in enumerate(sorted(inside, reverse=True), 1):
        axes.fill_between(
            places, 0.0, heights, where=inside[level].values.ravel(), linewidth=0,
            color=1 - (1 - colour) * 0.6 * i / len(inside), label=f"{level:g} %",
        )  # fmt: skip
    if inside:
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(_named(flat, along))
    axes.set_ylabel(name_in_picture(label))


def draw_map(axes: Any, grid: Grid, label: str, **style: Any) -> None:
    """Draw a grid in colours, with a bar that says what they mean.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    grid : Grid
    label : str
        What the values are, with their unit.
    **style
        For ``axes.pcolormesh``, in place of dkde's own.
    """
    values = np.asarray(grid.values.values, np.float64)
    down, right = map(str, grid.values.dims)
    finite = values[np.isfinite(values)]
    high = float(finite.max()) if finite.size else 1.0
    low = max(float(finite.min()), high - _RANGE_NATS) if finite.size else 0.0
    if isinstance(style.get("vmin"), float):
        low = style["vmin"]
    # -inf is below all colours and gets that of the lowest; only missing values are left blank.
    shown = np.ma.masked_invalid(np.where(np.isneginf(values), low, values))
    own = {"vmin": low, "vmax": high, "cmap": "viridis", "shading": "nearest", "rasterized": True}
    if "norm" in style:  # a norm has its own ends
        own = {name: value for name, value in own.items() if name not in ("vmin", "vmax")}
    mesh = axes.pcolormesh(
        _places(grid.values, right), _places(grid.values, down), shown, **{**own, **style}
    )
    is_cut = bool(np.isneginf(values).any()) or (finite.size > 0 and float(finite.min()) < low)
    place = {"location": "bottom", "aspect": 40} if grid.is_wide else {"location": "right"}
    bar = axes.get_figure().colorbar(mesh, ax=axes, extend="min" if is_cut else "neither", **place)
    bar.set_label(name_in_picture(label))
    bar.outline.set_visible(False)
    axes.set_xlabel(_named(grid.values, right))
    axes.set_ylabel(_named(grid.values, down))
    if grid.place:
        axes.set_title(name_in_picture(grid.place), fontsize="medium")
    if grid.aspect is not None:
        axes.set_aspect(grid.aspect)


def draw_levels(axes: Any, grid: Grid, levels: Mapping[float, float]) -> None:
    """Draw lines around regions on a map, with their levels in percent.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    grid : Grid
        Densities.
    levels : mapping of float to float
        From levels in percent to the densities at their edges.
    """
    values = np.asarray(grid.values.values, np.float64)
    down, right = map(str, grid.values.dims)
    named = {value: f"{level:g} %" for level, value in levels.items() if np.isfinite(value)}
    # Regions of two levels may have one edge where few cells hold much.
    at = sorted(value for value in named if np.nanmin(values) < value < np.nanmax(values))
    if at and min(values.shape) > 1:
        places = (_places(grid.values, right), _places(grid.values, down))
        lines = axes.contour(*places, values, levels=at, colors="white", linewidths=1.2)
        axes.clabel(lines, fmt={value: named[value] for value in at}, fontsize="small")


def inline_map(
    grid: Grid, label: str, words: str = "Map of the log-densities", **style: Any
) -> str:
    """Return a map as inline SVG.

    Parameters
    ----------
    words : str
        What it shows, for readers who do not see it.
    **style
        As for :func:`draw_map`.
    """
    figure, axes = new_figure(5.2, grid.height(5.2))
    draw_map(axes, grid, label, **style)
    return inline_svg(figure, words)


def inline_line(
    values: xr.DataArray, label: str, inside: Mapping[float, xr.DataArray], words: str
) -> str:
    """Return values along one axis as inline SVG; the arguments are as for :func:`draw_line`."""
    figure, axes = new_figure(5.2, 3.2)
    draw_line(axes, values, label, inside)
    return inline_svg(figure, words)


def _role(values: xr.DataArray, dim: str) -> str | None:
    """Return "latitude" or "longitude" for a dim whose coordinate is such degrees, else None."""
    if dim not in values.coords or values[dim].dtype.kind not in "iuf":
        return None
    return role_of(dim, unit_of(values[dim].attrs))


def _places(values: xr.DataArray, dim: str) -> Any:
    """Return where the cells lie along a dim: their coordinate, or their numbers."""
    if dim in values.coords and values[dim].dtype.kind in "iufM":
        places = values[dim].values
        # Cells in no order would be drawn over each other.
        steps = np.diff(places).astype(np.float64)
        if (steps > 0).all() or (steps < 0).all():
            return places
    return np.arange(values.sizes[dim])


def _place(value: Any) -> str:
    """Return a place along a dim as text: times without zeros that say nothing."""
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="auto"))
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _named(values: xr.DataArray, dim: str) -> str:
    """Return a dim's name for an axis, with its unit."""
    unit = values[dim].attrs.get("units") if dim in values.coords else None
    name = str(values[dim].attrs.get("long_name", dim)) if dim in values.coords else dim
    text = f"{name} ({unit})" if isinstance(unit, str) and unit not in ("", "1") else name
    return name_in_picture(text)
