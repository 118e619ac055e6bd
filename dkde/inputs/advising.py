"""Advice on the bandwidth matrix, from the scales of the features."""

from collections.abc import Mapping
from typing import Any

from dkde.errors import some

# How many times wider one feature may spread than another for one bandwidth to suit both.
_MUCH = 5.0


def ratio_of(figures: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the largest standard deviation over the smallest; None for fewer than two.

    Parameters
    ----------
    figures : mapping of str to mapping
        Of the features, as :meth:`dkde.numerics.tally.Tally.figures` has them; those that are
        constant do not count.
    """
    deviations = _deviations(figures)
    if len(deviations) < 2:
        return None
    return max(deviations.values()) / min(deviations.values())


def advice(figures: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return advice where scales differ much, or features are constant."""
    constant = [name for name, each in figures.items() if each["standard_deviation"] == 0]
    said = [_constant(some(constant), len(constant))] if constant else []
    ratio = ratio_of(figures)
    if ratio is not None and ratio > _MUCH:
        deviations = _deviations(figures)
        wide = max(deviations, key=lambda name: deviations[name])
        narrow = min(deviations, key=lambda name: deviations[name])
        said.insert(0, (
            f"{wide} spreads {ratio:.3g} times as wide as {narrow}: with one bandwidth for all, "
            f"{wide} decides nearly alone; --covariance diag gives each feature its own scale, "
            "full heeds how they vary together too"
        ))  # fmt: skip
    return ". ".join(said) or None


def advice_of_many(n_constant: int | None, n_features: int) -> str | None:
    """Return the same advice for features too many to inspect one by one."""
    return _constant(f"{n_constant} of {n_features} features", n_constant) if n_constant else None


def _constant(names: str, n: int) -> str:
    verb = "does" if n == 1 else "do"
    return f"{names} {verb} not vary: --covariance diag and full need --singular drop"


def _deviations(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    found = {name: each["standard_deviation"] for name, each in figures.items()}
    return {name: deviation for name, deviation in found.items() if deviation}
