"""The contents of reports and summaries: figures, and the lines that say where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dkde.drawing.maps import grid_of, inline_map
from dkde.drawing.tables import Table, number_text
from dkde.estimation.factors import kernel_in_words
from dkde.estimation.statistics import best_index
from dkde.rows.support import in_words
from dkde.runs.densities import DENSITY_UNITS
from dkde.runs.origin import bandwidth_unit, provenance_of, with_unit
from dkde.runs.scored_rows import ScoredRows
from dkde.runs.store import MAIN

# The figures of a result, and their heads in tables, in order.
_FIGURES = {
    "mean_log_likelihood": "mean log-likelihood",
    "standard_error": "standard error",
    "bits_per_dimension": "bits/dimension",
    "mean_fold_log_likelihood": "fold total",
    "least_squares": "least squares",
    "n_zero_density": "zero density",
    "n_rows_at_atol": "within atol",
    "accuracy": "accuracy",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "unusual_below": "unusual below",
    "n_unusual": "unusual",
}
# By split: the page's title, and the name of the rows in sentences.
_TITLES = {
    "query": "Score", "valid": "Bandwidth sweep", "train": "Cross-validation", "test": "Test rows",
}  # fmt: skip
WORDS = {
    "query": "query rows", "valid": "validation rows", "train": "held-out rows",
    "test": "test rows",
}  # fmt: skip


def with_figures(result: xr.Dataset) -> xr.Dataset:
    """Return a result whose figures are in memory; log-densities of rows stay where they are."""
    small = [name for name, found in result.data_vars.items() if set(found.dims) <= {"bandwidth"}]
    return result.assign({name: result[name].load() for name in small})


def has_curve(result: xr.Dataset) -> bool:
    """Return whether the means over bandwidths make a curve that says how one was chosen."""
    # Of classes the bandwidth is chosen by another criterion.
    is_finite = bool(np.isfinite(result["mean_log_likelihood"]).any())
    return result.sizes["bandwidth"] > 1 and is_finite and "log_posterior" not in result


def result_map(values: xr.Dataset) -> str | None:
    """Return the log-densities at one bandwidth as a map; None if rows lie on no grid.

    Parameters
    ----------
    values : xarray.Dataset
        As from :meth:`ScoredRows.at`.
    """
    grid = grid_of(values[MAIN])
    return None if grid is None else inline_map(grid, map_label(values[MAIN]))


def map_label(log_densities: xr.DataArray) -> str:
    """Return the words beside a map's colours: log-density, with the unit of the density."""
    unit = log_densities.attrs.get(DENSITY_UNITS)
    return "log-density (nats)" if unit is None else f"log-density (nats, density in {unit})"


def densities_label(values: xr.DataArray) -> str:
    """Return the words beside the colours of densities or counts: what they are, and their unit."""
    unit = values.attrs.get("units")
    name = str(values.attrs.get("long_name", values.name)).partition(" (")[0]
    return name if unit in (None, "1") else f"{name} ({unit})"


def level_densities(result: xr.Dataset) -> dict[float, float]:
    """Return the densities at the edges of a map's levels, by level; empty without levels."""
    if "level_density" not in result:
        return {}
    levels, densities = (result[name].values.tolist() for name in ("level", "level_density"))
    return dict(zip(levels, densities, strict=True))


def regions_along(result: xr.Dataset) -> dict[float, xr.DataArray]:
    """Return which cells are in the regions of a map's levels, by level."""
    return {level: result["density"] >= least for level, least in level_densities(result).items()}


def title_of(result: xr.Dataset, sides: list[ScoredRows]) -> str:
    """Return what a result is, in a word or two."""
    return "Classification" if "log_posterior" in result else _TITLES[sides[0].split]


def subtitle(title: str, sides: list[ScoredRows]) -> str:
    """Return the line below the title: the kind of result, and its numbers of rows."""
    counts = ", ".join(f"{_grouped(side.n_rows)} {WORDS[side.split]}" for side in sides)
    train = sides[0].described.get("train", {}).get("rows")
    under = "" if train is None else f" under {_grouped(train)} training rows"
    return f"{title}: {counts}{under}"


def shown_bandwidth(result: xr.Dataset) -> tuple[float, str]:
    """Return the bandwidth at which rows are shown, and words that say how it was chosen."""
    if "best_bandwidth" in result:
        return float(result["best_bandwidth"]), "best bandwidth"
    known = np.asarray(result["bandwidth"].values, np.float64)
    means = np.asarray(result["mean_log_likelihood"].values, np.float64)
    if len(known) == 1:
        return float(known[0]), "bandwidth"
    if not np.isfinite(means).any():
        return float(known[0]), "first bandwidth, as no mean is finite"
    return float(known[best_index(known, means)]), "bandwidth of the highest mean"


def main_figures(
    result: xr.Dataset, shown: ScoredRows, bandwidth: float, words: str
) -> dict[str, str]:
    """Return the main figures as text, by their names: those that readers look for first."""
    row = figures_at(result, shown, bandwidth)
    own = {}
    if "feature_bandwidth" in result:
        own["best bandwidth of each feature"] = str(result["feature_bandwidth"].attrs["in_words"])
    if "accuracy" in row:
        own |= {_FIGURES[name]: number_text(row[name]) for name in ("accuracy", "log_loss")}
    return {
        words: with_unit(bandwidth, bandwidth_unit(result)),
        **own,
        f"mean log-likelihood of the {WORDS[shown.split]}, nats": (
            f"{number_text(row['mean_log_likelihood'])} ± {number_text(row['standard_error'])}"
        ),
        "bits per dimension": number_text(row["bits_per_dimension"]),
    }


def figures_at(result: xr.Dataset, side: ScoredRows, bandwidth: float) -> dict[str, Any]:
    """Return the figures of a side at one bandwidth."""
    # A sweep scores its test rows at the best bandwidth only, and stores their figures by name.
    if side.split == "test":
        return {n: result[f"test_{n}"].item() for n in _FIGURES if f"test_{n}" in result}
    at = result.sel(bandwidth=bandwidth)
    return {name: at[name].item() for name in _FIGURES if name in result}


def figure_tables(result: xr.Dataset, sides: list[ScoredRows], bandwidth: float) -> list[Table]:
    """Return the table of figures at all bandwidths, and that of the test rows if there are any."""
    bandwidths = result["bandwidth"].values.tolist()
    rows = [figures_at(result, sides[0], h) for h in bandwidths]
    heads = {n: words for n, words in _FIGURES.items() if n in rows[0]}
    # A column of zeros would only take room.
    if not any(row.get("n_zero_density") for row in rows):
        heads.pop("n_zero_density", None)
    unit = bandwidth_unit(result)
    first = "bandwidth" if unit is None else f"bandwidth ({unit})"

    def table(at: list[float], rows: list[dict[str, Any]], marked: int | None = None) -> Table:
        names = [n for n in heads if n in rows[0]]
        cells = [
            [f"{h:.6g}", *(number_text(row[n]) for n in names)]
            for h, row in zip(at, rows, strict=True)
        ]
        return Table([first, *(heads[n] for n in names)], cells, marked)

    # Highlight a bandwidth only if it was chosen among several.
    finite = np.isfinite(result["mean_log_likelihood"].values).any()
    marked = bandwidths.index(bandwidth) if len(bandwidths) > 1 and finite else None
    tests = [table([bandwidth], [figures_at(result, side, bandwidth)]) for side in sides[1:]]
    return [table(bandwidths, rows, marked), *tests]


def kernel_words(result: xr.Dataset, described: Mapping[str, Any]) -> str:
    """Return the kernel of a result as text: of a product, the kernels of its factors."""
    options = provenance_of(result).get("options", {})
    return kernel_in_words(options.get("kernels", described.get("kernel", "–")))


def origin_lines(result: xr.Dataset, main: ScoredRows) -> dict[str, Any]:
    """Return the lines that describe the result's origin, by their names."""
    provenance = provenance_of(result)
    if not main.described:
        return {}
    # A line is left out if the result has no such entry.
    options, described = provenance.get("options", {}), main.described
    known: dict[str, Any] = {
        "kernel": kernel_words(result, described),
        "metric": described["metric"],
        "bandwidth matrix": f"h² C, C: {options.get('covariance', 'identity')}",
    }
    if support := options.get("support"):
        known["support"] = in_words(support)
    if protocol := options.get("protocol"):
        known["protocol"] = f"{protocol['name']}: {protocol['reference']}"
        known["otherwise than in it"] = "; ".join(protocol["otherwise"]) or "nothing"
    if options.get("pca"):
        known["principal components"] = options["pca"]
    if "folds" in result.attrs:
        known["folds"] = result.attrs["folds"]
    known |= {
        "precision": f"{described['precision']}, errors below {described['tol']:g} max(1, |log p|)"
        + (f", or densities within {described['atol']:g}" if "atol" in described else ""),
        "training rows": _side(described["train"]),
    }
    for role in ("score", "valid", "test"):
        if role in provenance:
            name = "query" if role == "score" else role
            known[f"{name} rows"] = _side(provenance[role]["query"])
    plan = described["plan"]
    known |= {
        "method": described.get("method", "unknown"),
        "plan": f"{_counted(plan['n_blocks'], 'block')} of {_grouped(plan['query_rows'])} × "
        f"{_grouped(plan['panel_rows'])} rows; {_grouped(plan['pairs'])} pairs of "
        f"{_counted(plan['n_features'], 'feature')} at "
        f"{_counted(plan['n_bandwidths'], 'bandwidth')}",
        "time": f"{float(result.attrs.get('seconds', np.nan)):.3g} s",
        "versions": ", ".join(f"{n} {v}" for n, v in provenance.get("versions", {}).items()),
    }
    return known


def _side(side: Mapping[str, Any]) -> str:
    """Return the rows of a side as text: their number and the first four of their parts."""
    parts = [
        f"{part['name']}[{part['start']}:{part['stop']}]"
        + (f" ({part['checksum'][:19]}…)" if part["checksum"] else "")
        for part in side["parts"]
    ]
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    weighted = ", weighted" if side["weighted"] else ""
    return f"{_grouped(side['rows'])}{weighted}: {' + '.join(parts[:4])}{more}"


def _grouped(number: int) -> str:
    """Return a number with its digits in groups of three."""
    return f"{number:,}".replace(",", " ")


def _counted(number: int, thing: str) -> str:
    """Return a number with its noun: "1 block", "2 blocks"."""
    return f"{_grouped(number)} {thing}{'s' * (number != 1)}"
