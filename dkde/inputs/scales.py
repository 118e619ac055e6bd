"""Scales of features, and what they mean for the covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkde.errors import some

# The largest ratio of two features' standard deviations without advice: one bandwidth suits both.
_MUCH = 5.0


def scales(
    figures: Mapping[str, Mapping[str, Any]], n_constant: int | None = None, n_features: int = 0
) -> dict[str, Any]:
    """Return the ratio of the features' standard deviations, and advice where scales differ much.

    Parameters
    ----------
    figures : mapping of str to mapping
        The figures of the features, by name, as :meth:`dkde.numerics.tally.Tally.figures` returns
        them. Constant features have no part in the ratio. Empty if there are too many features
        to inspect one by one.
    n_constant, n_features : int
        The numbers of constant features and of all features, for when ``figures`` is empty.
    """
    deviations = {name: each["standard_deviation"] for name, each in figures.items()}
    constant = [name for name, deviation in deviations.items() if deviation == 0]
    names, n = some(constant), len(constant)
    if not figures:
        names, n = f"{n_constant} of {n_features} features", n_constant or 0
    varying: dict[str, float] = {name: each for name, each in deviations.items() if each}
    ratio, said = None, []
    if len(varying) > 1:
        wide = max(varying, key=lambda name: varying[name])
        narrow = min(varying, key=lambda name: varying[name])
        ratio = varying[wide] / varying[narrow]
        if ratio > _MUCH:
            said.append(
                f"{wide} spreads {ratio:.3g} times as wide as {narrow}: with one bandwidth for all,"
                f" {wide} decides nearly alone; --covariance diag gives each feature its own scale,"
                " full also accounts for how they vary together"
            )
    if n:
        verb = "does" if n == 1 else "do"
        said.append(f"{names} {verb} not vary: --covariance diag and full need --singular drop")
    return {"ratio_of_standard_deviations": ratio, "advice": ". ".join(said) or None}
