"""Pictures of classifications: the confusion of classes, and the calibration of probabilities."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dkde.drawing.palette import BLUE, GREY, ORANGE, name_in_picture
from dkde.errors import InputError
from dkde.results.named import place_of
from dkde.results.pictures import check_picture
from dkde.runs.opened import opened_result
from dkde.stores.publishing import write_whole
from dkde.typing import ResultLike, StrPath

# Numbers are written in the table of up to so many classes.
_MOST_NUMBERED = 20


def plot_classes(result: ResultLike, path: StrPath) -> None:
    """Draw a classification: true against predicted classes, and a calibration curve.

    The table shows shares of each true class, and numbers of rows. The curve shows, for rows whose
    most probable class has a probability of about p, the share for which it is the true class.
    Where probabilities are right it is the diagonal. Of several bandwidths the best one is drawn.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        A result of :func:`dkde.classify` whose query had classes, or the path of its output.
    path : path
        A file, which ends in .png, .svg or .pdf and is replaced.

    Raises
    ------
    InputError
        When the suffix is another, or the result has no true classes.
    DataSetError
        When the file cannot be written.
    """
    from matplotlib.figure import Figure  # slow to import

    check_picture(path)
    opened = opened_result(result)
    if "confusion" not in opened:
        raise InputError(
            f"{place_of(result) or 'the result'} has no confusion of classes; pass one of "
            "dkde.classify whose query had classes"
        )
    best = opened.get("best_bandwidth", opened["bandwidth"][0])
    at = opened.sel(bandwidth=float(best)).load()
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_confusion(left, at)
    _draw_calibration(right, at)
    file = BytesIO()
    figure.savefig(file, format=Path(path).suffix[1:].lower(), dpi=150)
    write_whole(path, file.getvalue())


def _draw_confusion(axes: Any, at: xr.Dataset) -> None:
    """Draw the table of true and predicted classes."""
    counts = at["confusion"].values
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [name_in_picture(str(each)) for each in at["class"].values]
    if len(names) <= _MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, count, ha="center", va="center", color=colour, fontsize="small"
                )
        turned = 90 if max(map(len, names)) > 4 else 0
        axes.set_xticks(range(len(names)), names, rotation=turned)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"accuracy {float(at['accuracy']):.4g}", fontsize="medium")


def _draw_calibration(axes: Any, at: xr.Dataset) -> None:
    """Draw the calibration curve, with its binomial errors, above the diagonal."""
    rows = at["calibration_rows"].values
    held = rows > 0
    confidence, share = (
        at[f"calibration_{name}"].values[held] for name in ("confidence", "accuracy")
    )
    spread = np.sqrt(share * (1 - share) / rows[held])
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    axes.errorbar(confidence, share, spread, fmt="o-", color=BLUE, capsize=2)
    beside = axes.twinx()
    width = 1 / len(rows)
    beside.bar(
        at["confidence_bin"].values + width / 2, rows, width=0.9 * width, color=ORANGE, alpha=0.2
    )
    beside.set_ylim(0, 4 * max(1, rows.max()))
    beside.set_yticks([])
    axes.set(
        xlim=(0, 1.02), ylim=(0, 1.02),
        xlabel="probability of the most probable class (bars: rows)",
        ylabel="share of rows for which it is true",
    )  # fmt: skip
    axes.set_title(
        f"log-loss {float(at['log_loss']):.4g} nats, Brier score {float(at['brier']):.4g}",
        fontsize="medium",
    )
