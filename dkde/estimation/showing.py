"""How estimators show themselves in a notebook: parameters, and what was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils import estimator_html_repr

from dkde.drawing.curves import curve_title, inline_curves
from dkde.drawing.summary import Summary
from dkde.drawing.tables import Table, number_text
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.density_units import NATS
from dkde.estimation.factors import kernel_in_words
from dkde.runs.origin import bandwidth_unit

# Scales of so many features are shown.
_MOST_FEATURES = 12
# So many classes are shown.
_MOST_CLASSES = 40


class ShownInNotebooks:
    """The HTML of an estimator: scikit-learn's diagram, and below it what was fitted."""

    def _html_repr(self) -> str:
        drawn: str = estimator_html_repr(self)
        # An estimator that is not fitted has parameters alone.
        return drawn + self._summary()._repr_html_() if self.__sklearn_is_fitted__() else drawn

    # Versions of scikit-learn differ in which of these three a notebook gets to.
    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        return found | {"text/html": self._html_repr()} if "text/html" in found else found

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def _summary(self) -> Summary:
        """Return the summary of what was fitted."""
        raise NotImplementedError


def fitted_summary(estimator: Any, n_rows: int, curve: xr.Dataset | None) -> Summary:
    """Return the summary of a fitted estimator.

    Parameters
    ----------
    estimator : FittedDensity
    n_rows : int
        The training rows.
    curve : xarray.Dataset or None
        What :func:`curve_of` returns, where a bandwidth was chosen.
    """
    n_features = estimator.n_features_in_
    key = {
        "bandwidth": estimator._matrix.in_words(estimator.bandwidth_),
        "kernel": kernel_in_words(estimator.kernel),
        "training rows": f"{n_rows:,}".replace(",", " "),
        "features": str(n_features),
    }
    pictures, tables = {}, {}
    if curve is not None:
        best = curve.sel(bandwidth=float(curve["best_bandwidth"]))
        figures = best["mean_log_likelihood"], best["standard_error"]
        text = " ± ".join(number_text(float(figure)) for figure in figures)
        key["mean log-likelihood of held-out rows, nats"] = text
        if curve.sizes["bandwidth"] > 1 and np.isfinite(curve["mean_log_likelihood"]).any():
            pictures[curve_title({"": curve})] = inline_curves({"": curve})
        tables["Bandwidths"] = _bandwidths(curve)
    named = getattr(estimator, "feature_names_in_", None)
    if named is not None and n_features <= _MOST_FEATURES and not estimator._fitted.on_sphere:
        scales = np.sqrt(np.diag(estimator.covariance_)) * estimator.bandwidth_
        rows = [[str(n), f"{s:.6g}"] for n, s in zip(named, scales, strict=True)]
        tables["Bandwidth along each feature"] = Table(["feature", "bandwidth"], rows, named=True)
    return Summary(f"{type(estimator).__name__}, fitted", "", key, pictures, tables)


def classes_summary(estimator: Any, n_rows: list[int]) -> Summary:
    """Return the summary of a fitted classifier.

    Parameters
    ----------
    estimator : KernelDensityClassifier
    n_rows : list of int
        The training rows of each class.
    """
    key = {
        "kernel": kernel_in_words(estimator.kernel),
        "training rows": f"{sum(n_rows):,}".replace(",", " "),
        "features": str(estimator.n_features_in_),
        "classes": str(len(n_rows)),
    }
    columns = (n_rows, np.exp(estimator.class_log_prior_), estimator.bandwidth_)
    rows = [
        [str(name), str(n), number_text(prior), f"{h:.6g}"]
        for name, n, prior, h in zip(estimator.classes_, *columns, strict=True)
    ]
    table = Table(["class", "rows", "prior", "bandwidth"], rows[:_MOST_CLASSES], named=True)
    return Summary(f"{type(estimator).__name__}, fitted", "", key, {}, {"Classes": table})


def curve_of(
    results: Mapping[str, Any], matrix: BandwidthMatrix, best: float, folds: Any
) -> xr.Dataset:
    """Return the curve of ``cv_results_``, with the names that results of dkde have.

    Parameters
    ----------
    results : mapping
        ``cv_results_``.
    matrix : BandwidthMatrix
        It knows the unit in which bandwidths were given.
    best : float
        The chosen bandwidth.
    folds : int, "loo" or any
        As ``cv`` has it; a splitter is named by its type.
    """
    known = np.asarray(results["param_bandwidth"], np.float64)
    given = np.asarray(matrix.in_given_unit(known), np.float64)
    chosen_by = {
        name: ("bandwidth", results[name]) for name in ("least_squares",) if name in results
    }
    said = folds if isinstance(folds, int | str) else type(folds).__name__
    return xr.Dataset(
        {
            "mean_log_likelihood": ("bandwidth", results["mean_log_likelihood"], NATS),
            "standard_error": ("bandwidth", results["standard_error"], NATS),
            **chosen_by,
            "best_bandwidth": ((), float(given[known == best][0]), matrix.notes),
        },
        {"bandwidth": ("bandwidth", given, matrix.notes)},
        {"folds": said},
    )


def _bandwidths(curve: xr.Dataset) -> Table:
    """Return the table of the bandwidths that were tried."""
    heads = {"mean_log_likelihood": "mean log-likelihood", "standard_error": "standard error"}
    if "least_squares" in curve:
        heads["least_squares"] = "least squares"
    columns = [curve[name].values.tolist() for name in heads]
    known = curve["bandwidth"].values.tolist()
    rows = [
        [f"{h:.6g}", *map(number_text, figures)]
        for h, *figures in zip(known, *columns, strict=True)
    ]
    unit = bandwidth_unit(curve)
    first = "bandwidth" if unit is None else f"bandwidth ({unit})"
    marked = known.index(float(curve["best_bandwidth"]))
    return Table([first, *heads.values()], rows, marked)
