"""Arguments of other packages' density estimates, answered with what stands for them here."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from dkde.errors import Argument, InputError

Function = TypeVar("Function", bound=Callable[..., Any])

_NO_SUCH = "leave it out: how sums are made is chosen from the data, and all ways are exact to tol"
# Names of arguments of scikit-learn's KernelDensity that this package does not have, with their
# defaults there and what to do here.
_ARGUMENTS: Mapping[str, tuple[Any, str]] = {
    "algorithm": ("auto", _NO_SUCH),
    "breadth_first": (True, _NO_SUCH),
    "leaf_size": (40, _NO_SUCH),
    "rtol": (0, "write tol, the largest error of a log-density relative to max(1, |log p|)"),
    "atol": (0, "give tol alone"),
    "metric_params": (
        None, "write covariance: the scales of the features, or the matrix C of the distances"
    ),
}  # fmt: skip
_METRICS: Mapping[str, tuple[Any, ...]] = {
    "haversine": (
        Argument("kernel", "vonmises_fisher"),
        ", which takes latitudes and longitudes in degrees",
    ),
    "minkowski": (
        Argument("metric", "euclidean"), ", ", Argument("metric", "manhattan"), " or ",
        Argument("metric", "chebyshev"),
    ),
    "l2": (Argument("metric", "euclidean"),),
    "p": (Argument("metric", "euclidean"),),
    "l1": (Argument("metric", "manhattan"),),
    "cityblock": (Argument("metric", "manhattan"),),
    "infinity": (Argument("metric", "chebyshev"),),
    "seuclidean": (Argument("covariance", "diag"), ", or the scales of the features as covariance"),
    "mahalanobis": (Argument("covariance", "full"), ", or the matrix itself as covariance"),
}  # fmt: skip


def answered(function: Function) -> Function:
    """Return a function that answers arguments of scikit-learn with what stands for them."""

    absent = [name for name in _ARGUMENTS if name not in signature(function).parameters]

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        foreign = {name: named.pop(name) for name in absent if name in named}
        _refuse_foreign(foreign)
        return function(*arguments, **named)

    return cast(Function, checked)


def _refuse_foreign(foreign: Mapping[str, Any]) -> None:
    """Refuse arguments of scikit-learn that differ from its defaults.

    Raises
    ------
    InputError
    """
    for name, value in foreign.items():
        default, way = _ARGUMENTS[name]
        # An array is no default, and its comparison no truth.
        if not (value is default or (isinstance(value, int | float | str) and value == default)):
            if name == "atol":
                raise InputError(
                    "atol is for scores, and no bandwidth is chosen by rows that are only within "
                    f"it, nor a threshold; {way}"
                )
            raise InputError(f"{name} is an argument of scikit-learn, and not of dkde; {way}")


def refuse_foreign_metric(metric: Any) -> None:
    """Refuse a metric of scikit-learn that has another name here, or is another option.

    Raises
    ------
    InputError
    """
    if isinstance(metric, str) and metric in _METRICS:
        raise InputError(f"metric {metric!r} is not one of dkde; write ", *_METRICS[metric])
