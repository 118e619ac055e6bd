"""Figures of a result that follow from its own variables, where its call cannot be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dkde.estimation.class_labelling import classes_at
from dkde.estimation.class_scores import score_figures
from dkde.estimation.criteria import LeastSquares
from dkde.estimation.labelling import at_best
from dkde.estimation.row_weights import Weighted
from dkde.estimation.statistics import best_index, count_missing, summarise
from dkde.estimation.stored_densities import alike, rows_of, stored_densities, stored_posteriors
from dkde.estimation.unusual import unusual_variables
from dkde.estimation.validation import fold_totals
from dkde.runs.grouped import grouped_dim, results_of_groups
from dkde.runs.store import MAIN, ROW_WEIGHT


def figures_alone(result: xr.Dataset) -> list[tuple[xr.Dataset, xr.Dataset]]:
    """Return figures that follow from the log-densities of a result, each beside the result.

    Of groups those of each, beside its own result.
    """
    alone = [result] if grouped_dim(result) is None else list(results_of_groups(result).values())
    return [(_figures(each), each) for each in alone]


def _figures(result: xr.Dataset) -> xr.Dataset:
    if "density" in result:  # cells have no means
        return xr.Dataset()
    found = _means(result, "")
    held_out = _weighted(result, "")
    if f"test_{MAIN}" in result:
        found |= {f"test_{name}": at_best(each) for name, each in _means(result, "test_").items()}
    if "log_integrated_square" in result:
        known = np.asarray(result["log_integrated_square"].values, np.float64)
        squares = LeastSquares.of(held_out, Weighted(alike(known, 1)))
        found |= squares.variables(None)
        found["best_bandwidth"] = ((), result["bandwidth"].values[squares.best])
    elif "best_bandwidth" in result:
        by_loss = "choice_log_loss" in result
        gains = -result["choice_log_loss"].values if by_loss else found["mean_log_likelihood"][1]
        number = best_index(result["bandwidth"].values, np.asarray(gains))
        found["best_bandwidth"] = ((), result["bandwidth"].values[number])
    if "held_out_in" in result:
        totals = fold_totals(np.ravel(result["held_out_in"].values), held_out)
        found["fold_log_likelihood"] = (("fold", "bandwidth"), totals)
        found["mean_fold_log_likelihood"] = ("bandwidth", np.nanmean(totals, axis=0))
    if "unusual_below" in result:
        of_rows = unusual_variables(held_out, result["unusual_below"].values, "sample")
        found["n_unusual"] = of_rows["n_unusual"]
        found["unusual"] = _in_dims(result, "unusual", of_rows["unusual"][1])
    if "log_posterior" in result:
        found |= _of_classes(result)
    return xr.Dataset({name: each for name, each in found.items() if name in result})


def _weighted(result: xr.Dataset, prefix: str) -> Weighted:
    name = f"{prefix}{ROW_WEIGHT}"
    weights = np.ravel(result[name].values) if name in result else None
    return Weighted(stored_densities(result, prefix), weights)


def _means(result: xr.Dataset, prefix: str) -> dict[str, Any]:
    """Return the means of log-densities, and the number of rows that were left out."""
    found = _weighted(result, prefix)
    figures = summarise(found.values, np.nan, found.positive)
    del figures["bits_per_dimension"]  # it is not known by which dimensions
    entries: dict[str, Any] = {name: ("bandwidth", each) for name, (each, _) in figures.items()}
    for name in ("n_missing", "n_outside"):
        entries[name] = ((), count_missing(found.densities)[0])
    return {name: (*each, {}) for name, each in entries.items()}


def _of_classes(result: xr.Dataset) -> Mapping[str, Any]:
    """Return the predicted classes, and the scores where true classes are known."""
    found, classes = stored_posteriors(result), result["class"].values
    numbers = np.where(found.total.missing, -1, found.log_posteriors.argmax(axis=1))
    figures: dict[str, Any] = {
        "predicted": _in_dims(result, "predicted", classes_at(classes, numbers))
    }
    if "true_class" in result and "accuracy" in result:
        places = {value: i for i, value in enumerate(classes.tolist())}
        truth = np.ravel(result["true_class"].values).tolist()
        codes = np.array([places.get(value, -1) for value in truth], np.int64)
        known = (codes >= 0) & ~found.total.missing
        figures |= score_figures(rows_of(result, "log_posterior", 2)[:, :, known], codes[known])
    return figures


def _in_dims(result: xr.Dataset, name: str, values: Any) -> tuple[Any, Any]:
    """Return values of rows in the dims that a variable of the result has."""
    return result[name].dims, values.reshape(result[name].shape)
