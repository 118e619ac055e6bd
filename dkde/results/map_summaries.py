"""Summaries of maps: their cells, the areas of their levels, and the picture."""

from __future__ import annotations

import json

import xarray as xr

from dkde.drawing.maps import grid_of, inline_line, inline_map
from dkde.drawing.summary import Summary
from dkde.drawing.tables import Table, number_text
from dkde.results.contents import densities_label, origin_lines, regions_along
from dkde.runs.origin import bandwidth_unit, provenance_of, with_unit
from dkde.runs.scored_rows import scored_rows

_SIZES = {"level_length": "length", "level_area": "area", "level_volume": "volume"}


def is_map(result: xr.Dataset) -> bool:
    """Return whether a result is a map of a density."""
    return "density" in result and "mass" in result


def map_summary(result: xr.Dataset, place: str | None) -> Summary:
    """Return the summary of a map.

    Parameters
    ----------
    result : xarray.Dataset
    place : str, optional
        The path of its store.
    """
    origin = scored_rows(result)[0]
    train = origin.described.get("train", {}).get("rows")
    cells = " × ".join(f"{n} along {dim}" for dim, n in result["density"].sizes.items())
    key = {
        "bandwidth": with_unit(float(result["bandwidth"].values[0]), bandwidth_unit(result)),
        "cells": cells,
        "share of the density within them": number_text(float(result["mass"])),
    }
    if "expected_count" in result:
        key["expected counts, in all"] = f"{float(result['expected_count'].sum()):.6g}"
    return Summary(
        "Density map" if place is None else f"Density map: {place}",
        "" if train is None else f"{train} training rows",
        key,
        map_picture(result),
        levels_table(result),
        origin_lines(result, origin),
        json.dumps(provenance_of(result), indent=1, ensure_ascii=False),
    )


def map_picture(result: xr.Dataset) -> dict[str, str]:
    """Return the map as inline SVG, by its heading; along one axis as a line."""
    values = result["expected_count" if "expected_count" in result else "density"]
    label, words = densities_label(values), "Map of the density"
    grid = grid_of(values, fullest=True)
    if grid is None:
        return {label.capitalize(): inline_line(values, label, regions_along(result), words)}
    return {label.capitalize(): inline_map(grid, label, words, vmin=0.0)}


def levels_table(result: xr.Dataset) -> dict[str, Table]:
    """Return the table of a map's levels, by its heading; nothing where it has none."""
    found = next((name for name in _SIZES if name in result), None)
    if found is None:
        return {}
    unit = result[found].attrs.get("units")
    size = _SIZES[found] if unit in (None, "1") else f"{_SIZES[found]} ({unit})"
    columns = (result[name].values.tolist() for name in ("level", "level_density", found))
    rows = [
        [f"{level:g} %", f"{density:.6g}", f"{area:.6g}"]
        for level, density, area in zip(*columns, strict=True)
    ]
    by = result["level_density"].attrs.get("levels_from", "grid")
    return {f"Levels, from the {by}": Table(["level", "density at its edge", size], rows)}
