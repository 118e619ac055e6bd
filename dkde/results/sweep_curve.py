"""The curve of a sweep, or of a cross-validation.

Figures are made without pyplot, so that nothing here depends on a display or changes the state of a
session that plots as well.
"""

import os
import re
from io import BytesIO, StringIO
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import InputError
from dkde.results.pictures import check_picture
from dkde.runs.origin import bandwidth_unit, with_unit
from dkde.stores.publishing import write_whole

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_GREY = "0.4"
# In a report matplotlib's colours become variables of the page, which has a light and a dark style.
_COLOURS = {
    "#0072b2": "var(--curve)",
    "#d55e00": "var(--test)",
    "#666666": "var(--muted)",
    "#e6e6e6": "var(--line)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
# The beginnings of the legend's entries, in the order in which the legend shows them.
_ORDER = ("validation", "cross-validation", "leave one out", "best", "test", "−∞:")


def plot_sweep(result: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Draw a sweep: the mean and its standard error over bandwidths, with the best one marked.

    Means of -inf are triangles at the lower edge. Means that are NaN are left out.

    Parameters
    ----------
    result : xarray.Dataset
        A result of :func:`dkde.sweep` or :func:`dkde.cross_validate`, or one opened from their
        output.
    path : path
        The file, which ends in .png, .svg or .pdf and is replaced.

    Raises
    ------
    InputError
        When the suffix is another, or the result is not of a sweep or a cross-validation.
    DataSetError
        When the file cannot be written.
    """
    check_picture(path)
    missing = {"mean_log_likelihood", "standard_error", "best_bandwidth"} - set(result.variables)
    if missing:
        raise InputError(
            f"the result has no {', '.join(sorted(missing))}; pass one of dkde.sweep or "
            "dkde.cross_validate"
        )
    # Into memory first, so that the file is written whole or not at all.
    figure = draw_sweep(result)
    format = Path(path).suffix[1:].lower()
    file = BytesIO()
    figure.savefig(file, format=format, dpi=150)
    write_whole(path, file.getvalue())


def draw_sweep(result: xr.Dataset) -> Any:
    """Return the figure of a sweep or a cross-validation, or of a score, which has no best one."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_curve(axes, result)
    if "best_bandwidth" in result:
        _draw_best(axes, result)
    _label_bandwidths(axes, np.asarray(result["bandwidth"].values, np.float64))
    # Off the sphere the axis names no unit: bandwidths are in units of the data, or have none where
    # a covariance is given.
    unit = bandwidth_unit(result)
    axes.set_xlabel("bandwidth" if unit is None else f"bandwidth ({unit})")
    axes.set_ylabel("mean log-likelihood (nats per row)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure


def inline_curve(result: xr.Dataset) -> str:
    """Return the mean log-likelihood and its standard errors over bandwidths, as inline SVG."""
    from matplotlib import rc_context  # slow to import

    figure = draw_sweep(result)
    file = StringIO()
    # Text stays text, in the page's font. With a fixed salt the ids within are the same each time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dkde"}):
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    coloured = _COLOUR.sub(lambda found: _COLOURS.get(found[0].lower(), found[0]), drawn)
    # matplotlib writes no colour for black text: it takes that of the whole picture.
    return coloured.replace("<svg ", '<svg role="img" fill="var(--ink)" ', 1)


def _draw_curve(axes: Any, result: xr.Dataset) -> None:
    """Draw means with their standard errors, and triangles where the mean is -inf."""
    order = np.argsort(result["bandwidth"].values)
    bandwidths, mean, error = (
        np.asarray(result[name].values, np.float64)[order]
        for name in ("bandwidth", "mean_log_likelihood", "standard_error")
    )
    if len(bandwidths) == 1:  # matplotlib warns of an axis of length zero
        axes.set_xlim(bandwidths[0] / 2, bandwidths[0] * 2)
    finite = np.isfinite(mean)
    axes.errorbar(
        bandwidths[finite], mean[finite], np.nan_to_num(error[finite]),
        color=_BLUE, marker="o", markersize=4, linewidth=1.4, capsize=2.5,
        label=_curve_label(result),
    )  # fmt: skip
    axes.set_xscale("log")
    # The height of the triangles is a fraction of the axes, as -inf has no place on the scale.
    zero = np.isneginf(mean)
    if zero.any():
        axes.plot(
            bandwidths[zero], np.full(zero.sum(), 0.02), "v",
            transform=axes.get_xaxis_transform(), color=_GREY, clip_on=False,
            label="−∞: some rows have no density",
        )  # fmt: skip


def _curve_label(result: xr.Dataset) -> str:
    """Return the curve's label: the rows whose means it shows."""
    folds = result.attrs.get("folds")
    if folds is None:
        return "validation"
    return "leave one out" if folds == "loo" else f"cross-validation, {folds} folds"


def _draw_best(axes: Any, result: xr.Dataset) -> None:
    """Mark the best bandwidth, draw the test rows' mean there, and add the legend."""
    best = float(result["best_bandwidth"])
    at_best = result.sel(bandwidth=best)
    mean = float(at_best["mean_log_likelihood"])
    error = float(at_best["standard_error"])
    axes.axvline(best, color=_GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.plot(
        best, mean, "o", markersize=10, markerfacecolor="none", markeredgecolor=_BLUE,
        label=f"best at {with_unit(best, bandwidth_unit(result))}: {_value(mean, error)} nats",
    )  # fmt: skip
    if "test_mean_log_likelihood" in result:
        mean = float(result["test_mean_log_likelihood"])
        error = float(result["test_standard_error"])
        label = f"test there: {_value(mean, error)} nats"
        if np.isfinite(mean):
            axes.errorbar(
                best, mean, np.nan_to_num(error), color=_ORANGE, marker="D", markersize=8,
                markerfacecolor="none", capsize=4, linestyle="none", label=label,
            )  # fmt: skip
        else:  # -inf has no place on the scale: an entry of the legend alone
            axes.plot([], [], "D", color=_ORANGE, markerfacecolor="none", label=label)
    handles, labels = axes.get_legend_handles_labels()
    # Curve, best, test: by itself matplotlib would put the entries of error bars last.
    entries = sorted(
        zip(labels, handles, strict=True),
        key=lambda entry: [entry[0].startswith(start) for start in _ORDER].index(True),
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
