"""A result's report: what it says, in which order."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dkde.density.statistics import best_index
from dkde.errors import DkdeError, InputError
from dkde.results.report.curve import curve
from dkde.results.report.extremes import Extremes, extremes, pictures_of
from dkde.results.report.html import Markup, element, page, picture, section, table
from dkde.results.report.origin import origin
from dkde.results.report.style import STYLE
from dkde.results.report.words import cell, grouped, number_text, plain
from dkde.results.rereading import read_back
from dkde.results.scored import ScoredRows, opened_result, scored_rows
from dkde.rows.side import Rows
from dkde.runs.provenance import bandwidth_unit, with_unit
from dkde.runs.store import MAIN
from dkde.stores.files import check_place, write_whole

SUFFIXES = (".html", ".htm")
_SHOWN = 12
# Of rows that are no pictures, so many features are shown.
_MOST_FEATURES = 8
_FIGURES = {
    "mean_log_likelihood": "mean log-likelihood",
    "standard_error": "standard error",
    "bits_per_dimension": "bits/dimension",
    "mean_fold_log_likelihood": "fold total",
    "n_zero_density": "zero density",
}
_TITLES = {
    "query": "Score", "valid": "Bandwidth sweep", "train": "Cross-validation", "test": "Test rows",
}  # fmt: skip

_WORDS = {
    "query": "query rows", "valid": "validation rows", "train": "held-out rows",
    "test": "test rows",
}  # fmt: skip


def report(result: Any, path: str | os.PathLike[str]) -> None:
    """Write a result as one page for a browser: nothing is needed beside it, or loaded.

    It holds the figures, the curve over bandwidths with its standard errors, the rows of highest
    and of lowest density, as pictures where they are some, and what the numbers come from. Those
    rows are read back from the stores or files that were scored, if they are still there and the
    same; else the page says why not.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        Of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or their output.
    path : path
        Ends in .html; overwritten.

    Raises
    ------
    InputError
        For another suffix, or for no result.
    DataSetError
        When the result is damaged or not complete, or the file cannot be written.
    """
    check_report(path)
    opened = opened_result(result)
    if "mean_log_likelihood" not in opened:
        raise InputError("log-densities alone have no report; pass a result of dkde.score")
    name = os.fspath(result) if isinstance(result, str | os.PathLike) else ""
    write_whole(path, _page(opened, name).encode())


def check_report(path: str | os.PathLike[str]) -> None:
    """Refuse a report's path early.

    Raises
    ------
    InputError, DataSetError
        As :func:`report`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: reports are written as {' or '.join(SUFFIXES)} files")
    check_place(path, "report")


def _page(result: xr.Dataset, name: str) -> str:
    small = [name for name, found in result.data_vars.items() if set(found.dims) <= {"bandwidth"}]
    result = result.assign({name: result[name].load() for name in small})
    sides = scored_rows(result)
    main, shown = sides[0], sides[-1]
    shown_at, words = _bandwidth(result)
    values = shown.at(shown_at)
    title = _TITLES[main.split]
    called = os.path.basename(name.rstrip("/")) or title
    content = [
        element(
            "header", element("h1", called), element("p", _subtitle(title, sides), class_="muted")
        ),
        _key(result, shown, shown_at, words),
    ]
    if result.sizes["bandwidth"] > 1 and np.isfinite(result["mean_log_likelihood"]).any():
        content.append(section("Mean log-likelihood over bandwidths", curve(result)))
    content += [
        section("Figures", *_figures(result, sides, shown_at)),
        section("Rows of highest and of lowest density", *_extremes(shown, values)),
        section("Where it comes from", *origin(result, main)),
        element(
            "footer",
            f"Written by dkde {version('dkde')}. Times and versions are those of the run.",
        ),
    ]
    return page(f"{called} – dkde", STYLE, *content)


def _subtitle(title: str, sides: list[ScoredRows]) -> str:
    counts = ", ".join(f"{grouped(side.n_rows)} {_WORDS[side.split]}" for side in sides)
    train = sides[0].described.get("train", {}).get("rows")
    under = "" if train is None else f" under {grouped(train)} training rows"
    return f"{title}: {counts}{under}"


def _bandwidth(result: xr.Dataset) -> tuple[float, str]:
    """The bandwidth at which rows are shown, and what it is; a score's own rows chose none."""
    if "best_bandwidth" in result:
        return float(result["best_bandwidth"]), "best bandwidth"
    known = np.asarray(result["bandwidth"].values, np.float64)
    means = np.asarray(result["mean_log_likelihood"].values, np.float64)
    if len(known) == 1:
        return float(known[0]), "bandwidth"
    if not np.isfinite(means).any():
        return float(known[0]), "first bandwidth, as no mean is finite"
    return float(known[best_index(known, means)]), "bandwidth of the highest mean"


def _key(result: xr.Dataset, shown: ScoredRows, bandwidth: float, words: str) -> Markup:
    """What is looked for first."""
    row = _row(result, shown, bandwidth)
    known = {
        words: with_unit(bandwidth, bandwidth_unit(result)),
        f"mean log-likelihood of the {_WORDS[shown.split]}, nats": (
            f"{number_text(row['mean_log_likelihood'])} ± {number_text(row['standard_error'])}"
        ),
        "bits per dimension": number_text(row["bits_per_dimension"]),
    }
    return element(
        "div",
        *(element("div", element("span", n), element("strong", v)) for n, v in known.items()),
        class_="key",
    )


def _row(result: xr.Dataset, side: ScoredRows, bandwidth: float) -> dict[str, Any]:
    """The figures of a side at one bandwidth."""
    if side.split == "test":
        return {n: result[f"test_{n}"].item() for n in _FIGURES if f"test_{n}" in result}
    at = result.sel(bandwidth=bandwidth)
    return {name: at[name].item() for name in _FIGURES if name in result}


def _figures(result: xr.Dataset, sides: list[ScoredRows], bandwidth: float) -> list[Markup]:
    main = sides[0]
    bandwidths = result["bandwidth"].values.tolist()
    rows = [_row(result, main, h) for h in bandwidths]
    heads = {n: words for n, words in _FIGURES.items() if n in rows[0]}
    if not any(row.get("n_zero_density") for row in rows):
        heads.pop("n_zero_density", None)
    cells = [
        [f"{h:.6g}", *(number_text(row[n]) for n in heads)]
        for h, row in zip(bandwidths, rows, strict=True)
    ]
    finite = np.isfinite(result["mean_log_likelihood"].values).any()
    marked = bandwidths.index(bandwidth) if len(bandwidths) > 1 and finite else None
    unit = bandwidth_unit(result)
    head = "bandwidth" if unit is None else f"bandwidth ({unit})"
    found = [table([head, *heads.values()], cells, marked)]
    if len(sides) > 1:
        test = _row(result, sides[1], bandwidth)
        cells = [[f"{bandwidth:.6g}", *(number_text(test[n]) for n in heads if n in test)]]
        found += [
            element("h3", "Test rows, at the best bandwidth"),
            table([head, *(words for n, words in heads.items() if n in test)], cells),
        ]
    return found


def _extremes(side: ScoredRows, values: xr.Dataset) -> list[Markup]:
    at = f"at bandwidth {with_unit(float(values['bandwidth']), side.unit)}"
    if not np.isfinite(values[MAIN]).any():
        return [element("p", f"No {_WORDS[side.split]} have a density above zero {at}.")]
    words = f"Of the {_WORDS[side.split]}, {at}; log-densities in nats."
    found = [element("p", words, class_="muted")]
    rows, reason = read_back(side)
    names = ("Highest", "Lowest")
    blocks: list[Markup] = []
    for name, some in zip(names, extremes(side, values, _SHOWN), strict=True):
        if not len(some.numbers):
            continue
        try:
            shown = _rows(some, rows)
        except DkdeError as error:  # a chunk that is damaged
            rows, reason = None, str(error)
            shown = _rows(some, None)
        blocks += [element("h3", name), shown]
    if reason:
        found.append(element("p", f"The rows themselves are not shown: {reason}.", class_="muted"))
    return found + blocks


def _rows(some: Extremes, rows: Rows | None) -> Markup:
    """Rows as pictures, or as a table with their values where these are few."""
    pixels = None if rows is None else pictures_of(rows, some.numbers)
    captions = [
        [f"row {number}", *(f"{plain(n)} {some.word(n, i)}" for n in some.known)]
        for i, number in enumerate(some.numbers.tolist())
    ]
    if pixels is not None:
        figures = [
            element(
                "figure",
                picture(shown, ", ".join(words)),
                element(
                    "figcaption", element("b", number_text(value)), Markup("<br>"), ", ".join(words)
                ),
            )
            for shown, value, words in zip(pixels, some.log_density, captions, strict=True)
        ]
        return element("div", *figures, class_="rows")
    heads = ["row", *map(plain, some.known), "log-density"]
    body = [
        [str(number), *(some.word(n, i) for n in some.known), number_text(some.log_density[i])]
        for i, number in enumerate(some.numbers.tolist())
    ]
    if rows is not None and rows.n_stored_features <= _MOST_FEATURES:
        taken = rows.take(some.numbers)
        heads += rows.parts[0].features or [f"feature {n}" for n in range(taken.shape[1])]
        body = [[*line, *map(cell, values)] for line, values in zip(body, taken, strict=True)]
    return table(heads, body)
