"""Summaries of what dkde returns, for notebooks and terminals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.drawing.curves import curve_title, inline_curves
from dkde.drawing.summary import Summary
from dkde.drawing.tables import Table, interval_text, number_text
from dkde.errors import InputError
from dkde.results.contents import (
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
from dkde.results.group_summaries import groups_summary
from dkde.results.many import as_shown, classes_table, curves_of, pairs_table, results_table
from dkde.results.map_summaries import is_map, map_summary
from dkde.results.named import named_results, place_of
from dkde.results.planned import is_plan, is_status, plan_summary, status_summary
from dkde.runs.grouped import grouped_dim
from dkde.runs.opened import opened_result
from dkde.runs.origin import provenance_of
from dkde.runs.scored_rows import scored_rows
from dkde.typing import ResultsLike


def summary(result: ResultsLike) -> Summary:
    """Return a summary that shows itself: as HTML in a notebook, as text in a terminal.

    Results are xarray's Datasets, and show themselves as such. The summary has what readers look
    for first: the figures, the curve over bandwidths, a map where rows lie on a grid, and, folded,
    where the numbers come from. Fitted estimators show their summary by themselves.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path, URL or estimator; or several
        A result of :func:`dkde.score`, :func:`dkde.sweep`, :func:`dkde.cross_validate`,
        :func:`dkde.classify`, :func:`dkde.density_map` or :func:`dkde.compare`; the path of an
        output; a fitted estimator; or what :func:`dkde.plan`, :func:`dkde.plan_map` or
        :func:`dkde.status` returned. A dict or list of results is summarised with the differences
        of each pair.

    Returns
    -------
    Summary
        Its text is ``str(summary)``.

    Raises
    ------
    InputError
        When it is none of these.
    DataSetError
        When a result is damaged or not complete.

    Examples
    --------
    >>> import dkde
    >>> found = dkde.score("test[:50]", "train", 2.0, source="digits")
    >>> print(str(dkde.summary(found)).splitlines()[1])
    50 query rows under 1 078 training rows
    """
    if hasattr(type(result), "_summary"):  # an estimator
        shown: Summary = result._summary()
        return shown
    if is_plan(result):
        return plan_summary(result)
    if is_status(result):
        return status_summary(result)
    if isinstance(result, xr.Dataset):
        if "mean_difference" in result:
            return _of_comparison(result)
    elif isinstance(result, Mapping | list | tuple):
        return _of_several(named_results(result))
    opened = opened_result(result, groups=True)
    if grouped_dim(opened) is not None:
        with named_damage(result):
            return groups_summary(opened, place_of(result))
    if is_map(opened):
        with named_damage(result):
            return map_summary(opened, place_of(result))
    if "mean_log_likelihood" not in opened:
        raise InputError(
            "log-densities alone have no summary; pass a result of dkde.score, or draw them with "
            "dkde.plot_map"
        )
    with named_damage(result):
        return _of_result(with_figures(opened), place_of(result))


def _of_result(result: xr.Dataset, place: str | None) -> Summary:
    """Return the summary of one result."""
    sides = scored_rows(result)
    shown, title = sides[-1], title_of(result, sides)
    bandwidth, words = shown_bandwidth(result)
    pictures = {}
    if has_curve(result):
        pictures[curve_title({"": result})] = inline_curves({"": result})
    if (drawn := result_map(shown.at(bandwidth))) is not None:
        pictures["Log-densities"] = drawn
    tables = dict(
        zip(("Figures", "Test rows"), figure_tables(result, sides, bandwidth), strict=False)
    )
    return Summary(
        title if place is None else f"{title}: {place}",
        subtitle(title, sides).removeprefix(f"{title}: "),
        main_figures(result, shown, bandwidth, words),
        pictures,
        tables,
        origin_lines(result, sides[0]),
        json.dumps(provenance_of(result), indent=1, ensure_ascii=False),
    )


def _of_several(results: Mapping[str, Any]) -> Summary:
    """Return the summary of several results."""
    opened = {name: with_figures(opened_result(each)) for name, each in results.items()}
    table, notes = results_table(opened)
    tables = {"Results": table}
    compared, reason = as_shown(opened, None)
    if compared is None:
        notes = [*notes, f"Not compared row by row: {reason}."]
    else:
        tables["Differences, row by row (nats a row)"] = pairs_table(compared)
    curves = curves_of(opened)
    pictures = {} if curves is None else {"Mean log-likelihood over bandwidths": curves}
    return Summary(f"{len(opened)} results", " ".join(notes), {}, pictures, tables)


def _of_comparison(found: xr.Dataset) -> Summary:
    """Return the summary of a comparison of two results, or of more."""
    title = str(found.attrs.get("title", "Comparison"))
    if "pair" in found.dims:
        tables = {"Differences": pairs_table(found)}
        if (classes := classes_table(found)) is not None:
            tables[f"By {found.attrs['by']}"] = classes
        return Summary(title, "First minus second, in nats a row", {}, {}, tables)
    at = {name: float(found[name]) for name in found.data_vars if not found[name].dims}
    key = {
        "mean difference, nats": (
            f"{number_text(at['mean_difference'])} ± {number_text(at['standard_error'])}"
        ),
        "95 % interval": interval_text(at["interval_low"], at["interval_high"]),
        "z": number_text(at["z"]),
    }
    heads = ["", "rows", "mean difference", "standard error", "a higher", "b higher", "tied"]
    names = ("n", "mean_difference", "standard_error", "share_a", "share_b", "share_tied")
    rows = [_cells("all", [at[name] for name in names])]
    if "class" in found.coords:
        called = found["class_name" if "class_name" in found.coords else "class"].values.tolist()
        for k, label in enumerate(called):
            rows.append(_cells(label, [found[f"class_{name}"].values[k] for name in names]))
    a, b = (
        f"{found.attrs[f'split_{s}']} rows at {found.attrs[f'bandwidth_{s}']:.6g}" for s in "ab"
    )
    table = Table(heads, rows, named=True)
    return Summary(title, f"a: {a}; b: {b}", key, {}, {"Differences": table})


def _cells(label: Any, figures: list[Any]) -> list[str]:
    n, centre, error, *shares = map(float, figures)
    numbers = [f"{n:.0f}", number_text(centre), number_text(error)]
    return [str(label), *numbers, *(f"{100 * share:.1f} %" for share in shares)]
