"""Curves over bandwidths: mean log-likelihoods, or another criterion of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.drawing.palette import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    inline_svg,
    name_in_picture,
    new_figure,
)
from dkde.errors import InputError
from dkde.runs.origin import bandwidth_unit, with_unit

_LEAST_SQUARES = "least_squares"
# A legend shows names of at most so many letters.
_MOST_LETTERS = 36
_NO_DENSITY = "−∞: some rows have no density"
# The beginnings of the legend's entries, in the order in which the legend shows them.
_ORDER = ("validation", "cross-validation", "leave one out", "best", "test", "−∞:")


def draw_curves(axes: Any, results: Mapping[str, xr.Dataset], **style: Any) -> None:
    """Draw means with their standard errors over bandwidths, with the best ones marked.

    Of a single result that was chosen by least squares, that criterion is drawn instead.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    results : mapping of str to xarray.Dataset
        Each with ``mean_log_likelihood`` and ``standard_error``; ``best_bandwidth`` and the test
        rows' figures are drawn where there are any. The name of a single result is not shown.
    **style
        For ``axes.errorbar``, in place of dkde's own; ``label`` only of a single result.

    Raises
    ------
    InputError
        When the bandwidths have different units.
    """
    style = _in_full(style)
    units = {bandwidth_unit(result) for result in results.values()}
    if len(units) > 1:
        words = " and ".join(sorted(unit or "units of the data" for unit in units))
        raise InputError(f"the bandwidths are in {words}; draw results of one unit at a time")
    every = np.concatenate([np.asarray(r["bandwidth"].values, float) for r in results.values()])
    if every.min() == every.max():  # matplotlib warns of an axis of length zero
        axes.set_xlim(every[0] / 2, every[0] * 2)
    label = "mean log-likelihood (nats per row)"
    if _is_by_least_squares(results):
        label = "least-squares criterion"
        results = {name: _with_criterion(result) for name, result in results.items()}
    if len(results) == 1:
        (result,) = results.values()
        _draw_curve(axes, result, {"label": _curve_label(result), **style})
        if "best_bandwidth" in result:
            _draw_best(axes, result, style.get("color", BLUE))
    else:
        for i, (name, result) in enumerate(results.items()):
            _draw_one_of_many(axes, name, result, {"color": PALETTE[i % len(PALETTE)], **style})
        _legend_below(axes)
    _label_bandwidths(axes, every)
    # Off the sphere the axis names no unit: bandwidths are in units of the data, or have none where
    # a covariance is given.
    unit = units.pop()
    axes.set_xlabel("bandwidth" if unit is None else f"bandwidth ({unit})")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _is_by_least_squares(results: Mapping[str, xr.Dataset]) -> bool:
    """Return whether there is one result, whose bandwidth was chosen by least squares."""
    # Several results are compared by what all of them have.
    return len(results) == 1 and all(_LEAST_SQUARES in result for result in results.values())


def _with_criterion(result: xr.Dataset) -> xr.Dataset:
    """Return a result with the least-squares criterion where means are drawn; it has no error."""
    criterion = result[_LEAST_SQUARES]
    return result.assign(mean_log_likelihood=criterion, standard_error=criterion * np.nan)


def _short(name: str) -> str:
    """Return a name that fits in a legend: the ends of a long one.

    >>> _short("sweep.zarr"), _short("a" * 30 + "b" * 30)
    ('sweep.zarr', 'aaaaaaaaaaaaaaaa…bbbbbbbbbbbbbbbbbbb')
    """
    return name if len(name) <= _MOST_LETTERS else f"{name[:16]}…{name[17 - _MOST_LETTERS :]}"


def _legend_below(axes: Any) -> None:
    """Add a legend below the axes: among several curves no corner is free, and titles are above."""
    from matplotlib.transforms import ScaledTranslation

    # Below the numbers and the name of the axis, whatever the height of the axes is.
    down = ScaledTranslation(0, -40 / 72, axes.get_figure().canvas.figure.dpi_scale_trans)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=axes.transAxes + down,
        borderaxespad=0, frameon=False,
    )  # fmt: skip


def curve_height(n_results: int) -> float:
    """Return the height of a picture of curves, in inches; legends of several lie below them."""
    return 4.2 if n_results == 1 else 4.2 + 0.22 * n_results


def inline_curves(results: Mapping[str, xr.Dataset]) -> str:
    """Return the curves of results as inline SVG."""
    figure, axes = new_figure(5.2, curve_height(len(results)) - 0.8)
    draw_curves(axes, results)
    return inline_svg(figure, curve_title(results))


def curve_title(results: Mapping[str, xr.Dataset]) -> str:
    """Return the title of the curves of results."""
    is_other = _is_by_least_squares(results)
    return f"{'Least-squares criterion' if is_other else 'Mean log-likelihood'} over bandwidths"


def _in_full(style: Mapping[str, Any]) -> dict[str, Any]:
    """Return a style with the full names of what matplotlib has short ones for, as ``lw``."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    found: dict[str, Any] = normalize_kwargs(dict(style), Line2D)
    return found


def _draw_one_of_many(axes: Any, name: str, result: xr.Dataset, style: dict[str, Any]) -> None:
    """Draw one of several curves, its best bandwidth, and the mean of its test rows."""
    style = {"marker": "o", "markersize": 3.5, **style}
    # Names are no formulas, and matplotlib leaves names that begin with _ out of the legend.
    label, colour = name_in_picture(_short(name)), style["color"]
    label = f" {label}" if label.startswith("_") else label
    if "best_bandwidth" in result:
        best = float(result["best_bandwidth"])
        label += f": best at {with_unit(best, bandwidth_unit(result))}"
        at_best = result.sel(bandwidth=best)
        axes.plot(
            best, float(at_best["mean_log_likelihood"]), "o", markersize=9,
            markerfacecolor="none", markeredgecolor=colour,
        )  # fmt: skip
        mean = float(result.get("test_mean_log_likelihood", np.nan))
        if np.isfinite(mean):
            error = float(result["test_standard_error"])
            label += f", test {_value(mean, error)}"
            axes.errorbar(
                best, mean, np.nan_to_num(error), color=colour, marker="D", markersize=7,
                markerfacecolor="none", capsize=4, linestyle="none",
            )  # fmt: skip
    _draw_curve(axes, result, {**style, "label": label})


def _draw_curve(axes: Any, result: xr.Dataset, style: dict[str, Any]) -> None:
    """Draw means with their standard errors, and triangles where the mean is -inf."""
    order = np.argsort(result["bandwidth"].values)
    bandwidths, mean, error = (
        np.asarray(result[name].values, np.float64)[order]
        for name in ("bandwidth", "mean_log_likelihood", "standard_error")
    )
    finite = np.isfinite(mean)
    axes.errorbar(
        bandwidths[finite], mean[finite], np.nan_to_num(error[finite]),
        **{"color": BLUE, "marker": "o", "markersize": 4, "linewidth": 1.4, "capsize": 2.5} | style,
    )  # fmt: skip
    axes.set_xscale("log")
    # The height of the triangles is a fraction of the axes, as -inf has no place on the scale.
    zero = np.isneginf(mean)
    if zero.any():
        known = axes.get_legend_handles_labels()[1]
        axes.plot(
            bandwidths[zero], np.full(zero.sum(), 0.02), "v",
            transform=axes.get_xaxis_transform(), color=GREY, clip_on=False,
            label=None if _NO_DENSITY in known else _NO_DENSITY,
        )  # fmt: skip


def _curve_label(result: xr.Dataset) -> str:
    """Return the curve's label: the rows whose means it shows."""
    folds = result.attrs.get("folds")
    if folds is None:
        return "validation"
    return "leave one out" if folds == "loo" else f"cross-validation, {folds} folds"


def _draw_best(axes: Any, result: xr.Dataset, colour: str) -> None:
    """Mark the best bandwidth, draw the test rows' mean there, and add the legend."""
    best = float(result["best_bandwidth"])
    at_best = result.sel(bandwidth=best)
    mean = float(at_best["mean_log_likelihood"])
    error = float(at_best["standard_error"])
    unit = "" if _LEAST_SQUARES in result else " nats"
    axes.axvline(best, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.plot(
        best, mean, "o", markersize=10, markerfacecolor="none", markeredgecolor=colour,
        label=f"best at {with_unit(best, bandwidth_unit(result))}: {_value(mean, error)}{unit}",
    )  # fmt: skip
    if "test_mean_log_likelihood" in result:
        mean = float(result["test_mean_log_likelihood"])
        error = float(result["test_standard_error"])
        label = f"test there: {_value(mean, error)} nats"
        if np.isfinite(mean):
            axes.errorbar(
                best, mean, np.nan_to_num(error), color=ORANGE, marker="D", markersize=8,
                markerfacecolor="none", capsize=4, linestyle="none", label=label,
            )  # fmt: skip
        else:  # -inf has no place on the scale: an entry of the legend alone
            axes.plot([], [], "D", color=ORANGE, markerfacecolor="none", label=label)
    handles, labels = axes.get_legend_handles_labels()
    # Curve, best, test: by itself matplotlib would put the entries of error bars last.
    entries = sorted(
        zip(labels, handles, strict=True),
        key=lambda entry: next(
            (i for i, start in enumerate(_ORDER) if entry[0].startswith(start)), -1
        ),
    )
    axes.legend(
        [h for _, h in entries], [label for label, _ in entries], framealpha=1, edgecolor="none"
    )


def _value(mean: float, error: float) -> str:
    """Return a mean and its error as text, to two digits of the error.

    >>> _value(-143.21234, 0.512), _value(2.0, float("nan")), _value(1234.5, 25.0)
    ('−143.21 ± 0.51', '2', '1234 ± 25')
    """
    if not np.isfinite(mean):
        return "−∞" if mean < 0 else "undefined"
    if not (np.isfinite(error) and error > 0):
        return f"{mean:.6g}".replace("-", "−")
    digits = max(0, 1 - floor(np.log10(error)))
    return f"{mean:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def _label_bandwidths(axes: Any, bandwidths: npt.NDArray[np.float64]) -> None:
    """Label 1, 2 and 5 of each decade, or every digit where the grid is narrow."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = np.log10(bandwidths.max() / bandwidths.min())
    # On a wide grid matplotlib's own labels, one for each decade, suffice.
    if decades > 4:
        return
    subs = (1.0, 2.0, 5.0) if decades > 0.7 else tuple(range(1, 10))
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
