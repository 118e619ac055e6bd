"""The report of a result, or of several, as a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import xarray as xr

from dkde.drawing.curves import curve_title, inline_curves
from dkde.drawing.pages import rendered
from dkde.errors import InputError
from dkde.results.contents import (
    WORDS,
    figure_tables,
    has_curve,
    main_figures,
    origin_lines,
    result_map,
    shown_bandwidth,
    subtitle,
    title_of,
    with_figures,
)
from dkde.results.damage import named_damage
from dkde.results.extremes import extremes
from dkde.results.group_summaries import groups_summary
from dkde.results.many import check_has_figures, several
from dkde.results.map_summaries import is_map, map_summary
from dkde.results.named import named_results, place_of
from dkde.runs.grouped import grouped_dim
from dkde.runs.opened import opened_results
from dkde.runs.origin import provenance_of, with_unit
from dkde.runs.scored_rows import scored_rows
from dkde.stores.publishing import write_whole
from dkde.stores.targets import check_place
from dkde.typing import ResultsLike, StrPath
from dkde.version import __version__

SUFFIXES = (".html", ".htm")


def report(
    result: ResultsLike,
    path: StrPath,
    *,
    by: str | None = None,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
) -> None:
    """Write a result, or several, as one page for a browser, which loads nothing.

    The page holds the figures, the curve over bandwidths with its standard errors, a map where
    rows lie on a grid, the rows of highest and of lowest density (as pictures if they are
    pictures), and the origin of the numbers. Those rows are read again from the stores or files
    that were scored, if these are still there and unchanged; else the page says why not.

    Of several results the page holds one table and one figure of all, and the differences of each
    pair, row by row, with their standard errors and intervals, as :func:`dkde.compare` has them.
    Where results scored other rows, the page says so in place of their differences. Of a result of
    groups (``by``) it holds a table with a line for each, and their curves or maps.

    Parameters
    ----------
    result : xarray.Dataset, path or URL, or several as a dict or list
        Results of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or the
        paths of their output. A dict has the names that the page shows.
    path : path
        The file, which ends in .html and is replaced.
    by : str, optional
        Of several results: a coordinate of the rows whose values are compared one by one, as for
        :func:`dkde.compare`.
    sources : mapping of str to path, optional
        Where data lie that were moved apart from the results, as for :func:`dkde.verify`.
    trust_sources : bool
        Open all data that the result names, wherever they are, as for :func:`dkde.verify`.

    Raises
    ------
    InputError
        When the suffix is another, or an argument is not a result.
    DataSetError
        When a result is damaged or not complete, or the file cannot be written.
    """
    check_report(path)
    if not isinstance(result, xr.Dataset) and isinstance(result, dict | list | tuple):
        named = named_results(result)
    else:
        named = {"": result}
    found = opened_results(
        [*named.values()], sources, groups=len(named) == 1, trusting=trust_sources
    )
    opened = {
        name: _reported(each, None if len(named) == 1 else name)
        for name, each in zip(named, found, strict=True)
    }
    if len(named) > 1:
        with named_damage(*named.values()):
            page = rendered("several.html", version=__version__, **several(opened, by))
    else:
        ((name, only),) = named.items()
        with named_damage(only):
            page = _page(opened[name], name or (place_of(only) or ""))
    write_whole(path, page.encode())


def check_report(path: StrPath) -> None:
    """Refuse a report's path early, before hours of work.

    Raises
    ------
    InputError, DataSetError
        As :func:`report`.
    """
    check_place(path, "report", suffixes=SUFFIXES)


def _reported(result: xr.Dataset, name: str | None) -> xr.Dataset:
    """Return a result that has a report; with a name, in one page with others."""
    if is_map(result):
        if name is not None:
            check_has_figures(result, name)
        return result
    if "mean_log_likelihood" not in result:
        raise InputError("log-densities alone have no report; pass a result of dkde.score")
    return result


def _page(result: xr.Dataset, name: str) -> str:
    """Return the page as HTML; name is that of the result, empty if it is in memory."""
    if is_map(result) or grouped_dim(result) is not None:
        summarised = map_summary if grouped_dim(result) is None else groups_summary
        shown = summarised(result, name or None)
        title = os.path.basename(name.rstrip("/")) or shown.title
        return rendered(
            "map.html", name=title, subtitle=shown.subtitle, shown=shown, version=__version__
        )
    result = with_figures(result)
    sides = scored_rows(result)
    scored, title = sides[-1], title_of(result, sides)
    bandwidth, words = shown_bandwidth(result)
    values = scored.at(bandwidth)
    return rendered(
        "page.html",
        name=os.path.basename(name.rstrip("/")) or title,
        subtitle=subtitle(title, sides),
        key=main_figures(result, scored, bandwidth, words),
        curve=inline_curves({name: result}) if has_curve(result) else None,
        curve_title=curve_title({name: result}),
        map=result_map(values),
        figures=figure_tables(result, sides, bandwidth),
        rows=WORDS[scored.split],
        bandwidth=with_unit(float(values["bandwidth"]), scored.unit),
        extremes=extremes(scored, values),
        origin=origin_lines(result, sides[0]),
        provenance=json.dumps(provenance_of(result), indent=1, ensure_ascii=False),
        version=__version__,
    )
