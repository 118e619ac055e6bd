"""The map of a result whose rows lie on a grid, drawn on a user's axes or into a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from dkde.drawing.maps import draw_levels, draw_line, draw_map, grid_of
from dkde.drawing.palette import name_in_picture
from dkde.errors import InputError
from dkde.results.canvas import Canvas, Panel
from dkde.results.contents import (
    densities_label,
    level_densities,
    map_label,
    regions_along,
    shown_bandwidth,
)
from dkde.results.damage import named_damage
from dkde.runs.grouped import grouped_dim, results_of_groups
from dkde.runs.opened import opened_result
from dkde.runs.scored_rows import ScoredRows, scored_rows
from dkde.runs.store import MAIN
from dkde.typing import Axes, ResultLike, StrPath

# Maps of more groups are too small to be read.
_MOST_GROUPS = 24


def plot_map(
    result: ResultLike,
    ax: Axes | None = None,
    *,
    path: StrPath | None = None,
    bandwidth: float | None = None,
    **style: Any,
) -> Axes:
    """Draw the log-densities of a grid of rows as a map, in colours; of a map, its densities.

    Latitude and longitude are drawn where rows lie along such dims, and else the last two dims; of
    further dims it is the first place: select another one before. The colours end 15 nats below
    the highest log-density, unless ``vmin`` says otherwise. Of a result of
    :func:`dkde.density_map` the expected counts are drawn where it has some, else the densities,
    from zero on, and lines around the regions of its levels; of three features at the place along
    the first dim where most of it lies, and of one feature as a line. Nothing is written unless
    ``path`` says where.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result, or labelled log-densities of :func:`dkde.log_density`, whose rows have two dims
        or more; or the path of an output.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure.
    path : path, optional
        A file to write, which ends in .png, .svg or .pdf and is replaced.
    bandwidth : float, optional
        By default the best one of the result, or the only one.
    **style
        What ``matplotlib.axes.Axes.pcolormesh`` takes: ``cmap``, ``vmin``, ``norm``, ...; for a
        line, ``matplotlib.axes.Axes.plot``.

    Returns
    -------
    matplotlib.axes.Axes
        Of groups (``by``) an array of axes, one for each map; maps of densities are on one scale.

    Raises
    ------
    InputError
        When the rows lie on no grid, or were not scored at that bandwidth.
    DataSetError
        When the result is damaged or not complete, or the file cannot be written.
    """
    canvas = Canvas.of(ax, path)
    opened = opened_result(result, groups=True)
    if (dim := grouped_dim(opened)) is not None:
        with named_damage(result):
            axes = _draw_groups(opened, dim, canvas, bandwidth, style)
        canvas.write()
        return axes
    if "density" in opened:
        with named_damage(result):
            axes = _draw_densities(opened, canvas, style)
        canvas.write()
        return axes
    with named_damage(result):
        axes = _draw_log_densities(opened, canvas, bandwidth, style)
    canvas.write()
    return axes


def _draw_log_densities(
    opened: xr.Dataset, canvas: Canvas | Panel, bandwidth: float | None, style: dict[str, Any]
) -> Axes:
    """Draw the log-densities of rows that lie on a grid."""
    side = scored_rows(opened)[-1]
    values = side.at(_bandwidth(opened, side, bandwidth))
    grid = grid_of(values[MAIN])
    if grid is None:
        raise InputError(
            f"the rows lie along {', '.join(side.dims)}; a map is of two dims or more: score "
            "a Dataset whose query has them, such as lat and lon"
        )
    axes = canvas.axes(6.4, grid.height(6.4))
    draw_map(axes, grid, map_label(values[MAIN]), **style)
    return axes


def _draw_groups(
    opened: xr.Dataset, dim: str, canvas: Canvas, bandwidth: float | None, style: dict[str, Any]
) -> Axes:
    """Draw the map of each group on axes of its own, in rows of up to four."""
    groups = results_of_groups(opened)
    if canvas.given is not None or len(groups) > _MOST_GROUPS:
        raise InputError(
            f"the result is of {len(groups)} groups, each a map of its own (up to {_MOST_GROUPS}, "
            f"without ax); select one: result.sel({dim}=...)"
        )
    every = canvas.panels(len(groups), min(4, len(groups)))
    name = "expected_count" if "expected_count" in opened else "density"
    of_lines = name in opened and grid_of(opened[name].isel({dim: 0}), fullest=True) is None
    if name in opened and not of_lines and "norm" not in style:
        style = {"vmax": float(opened[name].max()), **style}
    for axes, (words, one) in zip(every, groups.items(), strict=True):
        panel = Panel(axes)
        if name in one:
            _draw_densities(one, panel, style)
        else:
            _draw_log_densities(one, panel, bandwidth, style)
        if of_lines:
            axes.set_ylim(0, 1.05 * float(opened[name].max()))
        words = name_in_picture(str(words))
        place = axes.get_title()  # along a third axis
        axes.set_title(f"{words}\n{place}" if place else words)
    return every


def _draw_densities(opened: xr.Dataset, canvas: Canvas | Panel, style: dict[str, Any]) -> Axes:
    """Draw the densities of a map, or its expected counts, with its levels."""
    values = opened["expected_count" if "expected_count" in opened else "density"]
    label = densities_label(values)
    grid = grid_of(values, fullest=True)
    if grid is None:
        axes = canvas.axes(6.4, 4.2)
        draw_line(axes, values, label, regions_along(opened), **style)
        return axes
    axes = canvas.axes(6.4, grid.height(6.4))
    draw_map(axes, grid, label, **{"vmin": 0.0, **style})
    if "level_density" in opened:
        of_density = grid_of(opened["density"], fullest=True)
        assert of_density is not None
        draw_levels(axes, of_density, level_densities(opened))
    return axes


def _bandwidth(opened: xr.Dataset, side: ScoredRows, wanted: float | None) -> float:
    """Return the bandwidth of a map: the one that is asked for, the best, or the only one."""
    if wanted is not None:
        return wanted
    known = np.asarray(side.values["bandwidth"].values, np.float64)
    if len(known) == 1:
        return float(known[0])
    if "mean_log_likelihood" in opened:
        return shown_bandwidth(opened)[0]
    raise InputError(f"there are {len(known)} bandwidths; name one of them with bandwidth")
