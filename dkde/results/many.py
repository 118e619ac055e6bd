"""The contents of a report, and of a summary, of several results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dkde.drawing.curves import inline_curves
from dkde.drawing.tables import Table, interval_text, number_text
from dkde.errors import InputError
from dkde.results.comparing import compared_pairs
from dkde.results.contents import (
    WORDS,
    figures_at,
    kernel_words,
    origin_lines,
    result_map,
    shown_bandwidth,
    with_figures,
)
from dkde.results.map_summaries import is_map
from dkde.runs.origin import bandwidth_unit, provenance_of, with_unit
from dkde.runs.scored_rows import scored_rows

# More maps than this make a page that nobody scrolls through.
MOST_MAPS = 6


def several(results: Mapping[str, xr.Dataset], by: str | None) -> dict[str, Any]:
    """Return what the page of several results shows.

    Parameters
    ----------
    results : mapping of str to xarray.Dataset
    by : str, optional
        As for :func:`dkde.compare`.
    """
    results = {name: with_figures(result) for name, result in results.items()}
    names = list(results)
    compared, refused = as_shown(results, by)
    table, notes = results_table(results)
    maps: dict[str, str] = {}
    origins: dict[str, Any] = {}
    for name, result in results.items():
        sides = scored_rows(result)
        drawn = result_map(sides[-1].at(shown_bandwidth(result)[0]))
        if drawn is not None and len(maps) < MOST_MAPS:
            maps[name] = drawn
        provenance = json.dumps(provenance_of(result), indent=1, ensure_ascii=False)
        origins[name] = {"lines": origin_lines(result, sides[0]), "provenance": provenance}
    classes = None if compared is None else classes_table(compared)
    return {
        "name": f"{len(names)} results",
        "subtitle": ", ".join(names),
        "results": table,
        "notes": notes,
        "curves": curves_of(results),
        "pairs": None if compared is None else pairs_table(compared),
        "refused": refused,
        "classes": classes,
        "by": None if compared is None else compared.attrs["by"],
        "maps": maps,
        "origins": origins,
    }


def as_shown(results: Mapping[str, xr.Dataset], by: str | None) -> tuple[xr.Dataset | None, str]:
    """Return the comparison of results at the bandwidths at which the table shows them.

    Returns
    -------
    compared : xarray.Dataset or None
        None where they cannot be compared row by row.
    reason : str
        Why they cannot be compared; else empty.
    """
    bandwidths = [shown_bandwidth(result)[0] for result in results.values()]
    try:
        return compared_pairs(results, bandwidths, by), ""
    except InputError as error:
        return None, str(error)


def curves_of(results: Mapping[str, xr.Dataset]) -> str | None:
    """Return the curves of those results that have some, as one picture; None if none has."""
    curves = {
        name: result for name, result in results.items()
        if result.sizes["bandwidth"] > 1 and np.isfinite(result["mean_log_likelihood"]).any()
    }  # fmt: skip
    if not curves or len({bandwidth_unit(result) for result in curves.values()}) > 1:
        return None
    return inline_curves(curves)


def check_has_figures(result: xr.Dataset, name: str) -> None:
    """Refuse a result without figures that can be put beside those of others.

    Raises
    ------
    InputError
    """
    if "mean_log_likelihood" not in result:
        what = "a map has" if is_map(result) else "log-densities alone have"
        raise InputError(f"{name}: {what} no figures to put beside others; show it alone")


def results_table(results: Mapping[str, xr.Dataset]) -> tuple[Table, list[str]]:
    """Return the table of results, each at its best or only bandwidth, and notes on it.

    Raises
    ------
    InputError
        When one has no figures.
    """
    heads = ["result", "rows", "kernel", "bandwidth", "mean log-likelihood", "standard error",
             "bits/dimension", "zero density"]  # fmt: skip
    rows, words = [], set()
    for name, result in results.items():
        check_has_figures(result, name)
        shown = scored_rows(result)[-1]
        bandwidth, chosen = shown_bandwidth(result)
        figures = figures_at(result, shown, bandwidth)
        words.add(chosen)
        rows.append(
            [
                name,
                f"{shown.n_rows} {WORDS[shown.split]}",
                kernel_words(result, shown.described),
                with_unit(bandwidth, bandwidth_unit(result)),
                *(
                    number_text(figures.get(figure, np.nan))
                    for figure in ("mean_log_likelihood", "standard_error", "bits_per_dimension")
                ),
                number_text(int(figures.get("n_zero_density", 0))),
            ]
        )
    # A column of zeros would only take room.
    if all(row[-1] == "0" for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return Table(heads, rows, named=True), [f"Each at its {' or '.join(sorted(words))}; in nats."]


def pairs_table(compared: xr.Dataset) -> Table:
    """Return the table of the differences of each pair."""
    heads = ["pair", "rows", "mean difference", "standard error", "z", "95 % interval",
             "first higher", "second higher", "tied"]  # fmt: skip
    rows = []
    for i in range(compared.sizes["pair"]):
        at = {str(name): found[i].item() for name, found in compared.data_vars.items()
              if found.dims == ("pair",)}  # fmt: skip
        rows.append(
            [
                pair_name(compared, i),
                str(at["n"]),
                number_text(at["mean_difference"]),
                number_text(at["standard_error"]),
                "–" if np.isnan(at["z"]) else f"{at['z']:.2f}".replace("-", "−"),
                interval_text(at["interval_low"], at["interval_high"]),
                *(f"{100 * at[share]:.1f} %" for share in ("share_a", "share_b", "share_tied")),
            ]
        )
    return Table(heads, rows, named=True)


def classes_table(compared: xr.Dataset) -> Table | None:
    """Return the table of mean differences, a line for each class and a column for each pair."""
    if "class" not in compared.coords:
        return None
    names = compared["class_name" if "class_name" in compared.coords else "class"].values.tolist()
    rows = [
        [
            str(name),
            str(compared["class_n"].values[:, k].max()),
            *(
                f"{number_text(compared['class_mean_difference'].values[i, k].item())} ± "
                f"{number_text(compared['class_standard_error'].values[i, k].item())}"
                for i in range(compared.sizes["pair"])
            ),
        ]
        for k, name in enumerate(names)
    ]
    pairs = [pair_name(compared, i) for i in range(compared.sizes["pair"])]
    return Table([str(compared.attrs["by"]), "rows", *pairs], rows, named=True)


def pair_name(compared: xr.Dataset, i: int) -> str:
    """Return the name of a pair: the first minus the second."""
    return f"{compared['a'].values[i]} − {compared['b'].values[i]}"
