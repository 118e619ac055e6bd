"""How good posterior probabilities of classes are: accuracy, log-loss, Brier score, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.estimation.density_units import NATS, ROWS
from dkde.estimation.statistics import mean, standard_error
from dkde.inputs.dividing import Codes
from dkde.typing import FloatArray

# The bins of confidence, of equal width from 0 to 1.
_BINS = 10

# The dims and variables that a result has where true classes are known.
COMPARED = frozenset({
    "predicted_class", "confidence_bin", "accuracy", "accuracy_standard_error", "log_loss",
    "log_loss_standard_error", "brier", "brier_standard_error", "confusion", "calibration_rows",
    "calibration_confidence", "calibration_accuracy", "calibration_error",
})  # fmt: skip
_ONE = {"units": "1"}
NOTES = {
    "accuracy": _ONE | {"long_name": "share of rows whose most probable class is the true one"},
    "log_loss": NATS | {"long_name": "mean of minus the log-probability of the true class"},
    "brier": _ONE | {"long_name": "mean over rows of the sum over classes of (p - truth)²"},
}


def losses(log_posteriors: FloatArray, codes: Codes) -> dict[str, FloatArray]:
    """Return the scores of each row (n_bandwidths, n_rows), whose means are those of all.

    Parameters
    ----------
    log_posteriors : array (n_bandwidths, n_classes, n_rows)
        In nats.
    codes : array (n_rows,)
        The number of the true class of each row.

    Examples
    --------
    >>> found = losses(np.log([[[0.75], [0.25]]]), np.array([0]))
    >>> {name: values.item() for name, values in found.items()}
    {'accuracy': 1.0, 'log_loss': 0.2876820724517809, 'brier': 0.125}
    """
    rows = np.arange(len(codes))
    p = np.exp(log_posteriors)
    truth = np.zeros(p.shape[1:])
    truth[codes, rows] = 1
    return {
        "accuracy": (log_posteriors.argmax(axis=1) == codes).astype(np.float64),
        "log_loss": 0.0 - log_posteriors[:, codes, rows],
        "brier": ((p - truth) ** 2).sum(axis=1),
    }


def score_figures(log_posteriors: FloatArray, codes: Codes) -> dict[str, Any]:
    """Return the variables of a result that compare posteriors with the true classes.

    Parameters
    ----------
    log_posteriors, codes
        As for :func:`losses`; at least one row.
    """
    found: dict[str, Any] = {}
    for name, values in losses(log_posteriors, codes).items():
        with np.errstate(invalid="ignore"):  # probabilities of 0 have an infinite loss
            error = standard_error(values)
        found[name] = ("bandwidth", mean(values), NOTES[name])
        found[f"{name}_standard_error"] = ("bandwidth", error, _ONE)
    n_classes = log_posteriors.shape[1]
    found["confusion"] = (
        ("bandwidth", "class", "predicted_class"),
        confusion(log_posteriors.argmax(axis=1), codes, n_classes),
        ROWS | {"long_name": "rows of a true class that are predicted to be of a class"},
    )
    return found | calibration(log_posteriors, codes)


def confusion(predicted: Codes, codes: Codes, n_classes: int) -> npt.NDArray[np.int64]:
    """Return how many rows of each true class have each predicted class.

    Parameters
    ----------
    predicted : array (n_bandwidths, n_rows)
    codes : array (n_rows,)

    Returns
    -------
    array (n_bandwidths, n_classes, n_classes)
        True classes along the second axis.
    """
    flat = codes * n_classes + predicted
    counts = [np.bincount(row, minlength=n_classes**2) for row in flat]
    return np.array(counts, np.int64).reshape(len(predicted), n_classes, n_classes)


def calibration(log_posteriors: FloatArray, codes: Codes) -> dict[str, Any]:
    """Return the variables of a calibration curve: how often the most probable class is right.

    Rows are put in bins by the probability of their most probable class. Where probabilities are
    right, this share of a bin's rows is of that class.

    Parameters
    ----------
    log_posteriors, codes
        As for :func:`losses`.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks, ICML.
    """
    confidence = np.exp(log_posteriors.max(axis=1))
    right = log_posteriors.argmax(axis=1) == codes
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    counts, confidences, shares = (
        np.array([np.bincount(*each, minlength=_BINS) for each in zip(bins, of, strict=True)])
        for of in (np.ones_like(confidence), confidence, right.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):  # bins without rows
        confidences, shares = confidences / counts, shares / counts
    gaps = np.nan_to_num(np.abs(confidences - shares)) * counts
    dims = ("bandwidth", "confidence_bin")
    return {
        "calibration_rows": (dims, counts.astype(np.int64), ROWS),
        "calibration_confidence": (dims, confidences, _ONE),
        "calibration_accuracy": (dims, shares, _ONE),
        "calibration_error": (
            "bandwidth",
            gaps.sum(axis=1) / counts.sum(axis=1),
            _ONE | {"long_name": "mean over rows of |confidence - accuracy| of their bins"},
        ),
    }


def bin_edges() -> Any:
    """Return the coordinate of the bins of confidence: their lower edges."""
    return ("confidence_bin", np.arange(_BINS) / _BINS, _ONE | {"long_name": "lower edge"})
