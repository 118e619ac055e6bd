"""Posterior probabilities of classes, by Bayes' rule in logarithms."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np

from dkde.errors import Argument, InputError, some
from dkde.rows.filter_values import value_words
from dkde.typing import Array, FloatArray

# By how much priors may miss a sum of one.
_SUM = 1e-6


def log_priors(priors: Any, classes: Array, weights: FloatArray) -> FloatArray:
    """Return the logarithms of the prior probabilities (n_classes,).

    Parameters
    ----------
    priors : array (n_classes,), mapping of class to float, or None
        The prior probabilities, which sum to one; by default the shares of the weight.
    classes : array (n_classes,)
        The classes, in order.
    weights : array (n_classes,)
        The total weight of the training rows of each class.

    Raises
    ------
    InputError
        When they are no probabilities of these classes.
    """
    if priors is None:
        found = weights / weights.sum()
    elif isinstance(priors, Mapping):
        found = np.array([_number(priors[name]) for name in _matched(priors, classes)])
    else:
        found = np.array([_number(each) for each in np.ravel(np.asarray(priors, object))])
    if found.shape != classes.shape:
        raise InputError(
            Argument("priors"),
            f" are {len(found)} numbers; give one for each of the {len(classes)} classes "
            f"{some([str(each) for each in classes])}",
        )
    if not (found >= 0).all() or abs(found.sum() - 1) > _SUM:
        raise InputError(
            Argument("priors"),
            f" are {some([f'{each:g}' for each in found])}; they must be probabilities that "
            f"sum to 1, and sum to {found.sum():.6g}",
        )
    with np.errstate(divide="ignore"):
        logs: FloatArray = np.log(found / found.sum())
    return logs


def _matched(priors: Mapping[Any, Any], classes: Array) -> list[Any]:
    """Return the keys of the priors in the order of the classes."""
    is_number = classes.dtype.kind in "iuf"
    known = {_word(str(key), is_number): key for key in priors}
    names = [_word(word, is_number) for word in value_words(classes)]
    if set(known) != set(names):
        missing = [name for name in names if name not in known]
        others = [name for name in known if name not in names]
        lack = f"lack the classes {some(missing)}" if missing else ""
        more = f"name {some(others)}, which are no classes" if others else ""
        raise InputError(Argument("priors"), f" {' and '.join(filter(None, (lack, more)))}")
    return [known[name] for name in names]


def _word(text: str, is_number: bool) -> str:
    """Return a class as text, whole numbers without a point: classes of floats may be these."""
    with suppress(ValueError):
        if is_number and float(text).is_integer():
            return str(int(float(text))) if "." in text or "e" in text else text
    return text


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real | np.generic):
        raise InputError(Argument("priors"), f" hold {value!r}; give a number for each class")
    return float(value)


def log_total(joint: FloatArray) -> FloatArray:
    """Return log Σ_k π_k p_k(x) of joint logarithms (..., n_classes)."""
    with np.errstate(invalid="ignore"):  # NaN of rows that are left out
        found: FloatArray = np.logaddexp.reduce(joint, axis=-1)
    return found


def log_posterior(joint: FloatArray, logs: FloatArray) -> FloatArray:
    """Return log P(k | x) of joint logarithms (..., n_classes), in nats.

    Where all densities are 0, as far from the training rows of a compact kernel, the rows say
    nothing of the class: the posterior is the prior.

    Parameters
    ----------
    joint : array (..., n_classes)
    logs : array (n_classes,)
        The log-priors.

    Examples
    --------
    >>> far = np.array([[-1e6, -1e6 - np.log(3)], [-np.inf, -np.inf]])
    >>> np.exp(log_posterior(far, np.log([0.5, 0.5])))
    array([[0.75, 0.25],
           [0.5 , 0.5 ]])
    """
    # From the highest one, so that the probabilities of far rows sum to one, too.
    highest = joint.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        above = joint - highest
        found: FloatArray = np.where(
            np.isneginf(highest), logs, above - log_total(above)[..., None]
        )
    return found
