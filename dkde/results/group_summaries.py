"""Summaries of results of groups: a line for each, their curves, and their maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.drawing.summary import Summary
from dkde.drawing.tables import Table, number_text
from dkde.results.contents import origin_lines, with_figures
from dkde.results.many import MOST_MAPS, curves_of, results_table
from dkde.results.map_summaries import is_map, levels_table, map_picture
from dkde.runs.grouped import grouped_dim, results_of_groups
from dkde.runs.origin import bandwidth_unit, provenance_of, with_unit
from dkde.runs.scored_rows import scored_rows


def groups_summary(result: xr.Dataset, place: str | None) -> Summary:
    """Return the summary of a score, or of maps, of groups.

    Parameters
    ----------
    result : xarray.Dataset
        A result along a dim of groups.
    place : str, optional
        The path of its store.
    """
    groups = results_of_groups(result)
    first = next(iter(groups.values()))
    title = "Density maps" if is_map(result) else "Score"
    title = f"{title} of {len(groups)} groups"
    key = {"groups": f"{len(groups)}, by {grouped_dim(result)}"}
    pictures: dict[str, str] = {}
    if is_map(result):
        tables = _of_maps(groups)
        for name, one in [*groups.items()][:MOST_MAPS]:
            pictures |= {f"{name}: {words}": drawn for words, drawn in map_picture(one).items()}
    else:
        groups = {name: with_figures(one) for name, one in groups.items()}
        table, _ = results_table(groups)
        tables = {"Groups": table}
        if (curves := curves_of(groups)) is not None:
            pictures["Mean log-likelihood over bandwidths"] = curves
    return Summary(
        title if place is None else f"{title}: {place}",
        "one density for each value, from its own training rows",
        key,
        pictures,
        tables,
        origin_lines(first, scored_rows(first)[0]) | {"training rows": _training_rows(groups)},
        json.dumps(provenance_of(result), indent=1, ensure_ascii=False),
    )


def _training_rows(groups: Mapping[str, xr.Dataset]) -> str:
    """Return the number of training rows of each group."""
    counts = (
        f"{name} {scored_rows(one)[0].described.get('train', {}).get('rows', '?')}"
        for name, one in groups.items()
    )
    return ", ".join(counts)


def _of_maps(groups: Mapping[str, xr.Dataset]) -> dict[str, Table]:
    """Return the table of maps, and those of their levels."""
    heads = ["group", "bandwidth", "share within the cells"]
    counts = "expected_count" in next(iter(groups.values()))
    rows = [_map_cells(name, one, counts=counts) for name, one in groups.items()]
    tables = {"Groups": Table([*heads, *(["expected counts"] * counts)], rows, named=True)}
    for name, one in groups.items():
        tables |= {f"{name}: {words}": table for words, table in levels_table(one).items()}
    return tables


def _map_cells(name: str, one: xr.Dataset, *, counts: bool) -> list[str]:
    cells: list[Any] = [
        name,
        with_unit(float(one["bandwidth"].values[0]), bandwidth_unit(one)),
        number_text(float(one["mass"])),
    ]
    return [*cells, *([f"{float(one['expected_count'].sum()):.6g}"] if counts else [])]
