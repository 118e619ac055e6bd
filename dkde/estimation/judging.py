"""The comparison of what a result holds with what is computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, Remedy
from dkde.numerics.piecewise import pieces
from dkde.runs.store import MAIN
from dkde.typing import Array, FloatArray, StrPath

# Half the distance from 1 to the next number, and how many roundings a function may make.
_UNIT, _EACH = float(np.finfo(np.float64).eps) / 2, 16
# Figures that are sums of positive terms, or functions of one value: their errors are relative.
_RELATIVE = frozenset(
    {"density", "mass", "expected_count", "cell_area", "cell_length", "cell_volume", "row_weight",
     "bandwidth_scale", "choice_log_loss"}
)  # fmt: skip
_BOUNDS, _ROUNDING = "the bounds on their errors", "the bounds of rounding"
Pair = tuple[FloatArray, FloatArray]
# Attributes that hold figures; others hold words, or times.
_FIGURES = ("n_features", "folds", "folds_by", "grouped_by")


@dataclass(frozen=True)
class Judge:
    """The comparison of what is stored with what is computed again.

    Parameters
    ----------
    path : path or URL
        The result, for messages.
    others : sequence of str
        What has changed since the run began.
    anywhere : bool
        As for :func:`dkde.verify`.
    """

    path: StrPath
    others: Sequence[str]
    anywhere: bool

    @property
    def lenient(self) -> bool:
        """Return whether what agrees within bounds is accepted."""
        return bool(self.anywhere or self.others)

    @property
    def leniently(self) -> Judge:
        """Return a judge that accepts what agrees within bounds."""
        return replace(self, anywhere=True)

    def is_exact(self, which: str, name: str, again: Pair, kept: Pair) -> bool:
        """Return whether values, and bounds on their errors, are the same to the last bit.

        Parameters
        ----------
        which : str
            The rows, for messages.
        name : str
            The variable of the values; that of the bounds is called the same, with ``_error``.
        again, kept : pairs of arrays
            The values and the bounds.

        Raises
        ------
        DataSetError
            When they differ by more than the bounds; or only in the last bits, on the same
            machine and without ``anywhere``.
        """
        (found, errors), (stored, bounds) = again, kept
        same = is_same(found, stored, 0.0)
        exact = same and np.array_equal(errors, bounds, equal_nan=True)
        # Two values that are both within their bounds of the exact one differ by at most the sum.
        # An infinite one says nothing of a value that is known.
        allowed = np.where(np.isinf(bounds) & np.isfinite(errors), 0.0, bounds + errors)
        within = exact or is_same(found, stored, allowed)
        which = f"{which} come out different in {name}{'_error' if same else ''}"
        return self._decided(which, "when they are recomputed", _BOUNDS, exact, within)

    def counts(self, which: str, found: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
        """Refuse counts that are not those computed again; another machine may have others."""
        for name, numbers in found.items():
            if not self.lenient and not np.array_equal(numbers, stored[name], equal_nan=True):
                raise DataSetError(
                    self._different(f"{which}: the counts {name} come out different")
                )

    def figures(
        self, derived: xr.Dataset, stored: xr.Dataset, standing: Sequence[str] = ()
    ) -> bool:
        """Return whether all variables that were derived again are the same to the last bit.

        Elsewhere figures of n rows must agree within ``16 (n + 64) u`` of the largest term of their
        sums, where u = 2⁻⁵³. A sum of n terms in any order is off by at most ``n u / (1 - n u)`` of
        the sum of their sizes, and each function before and after by a few roundings.

        Parameters
        ----------
        derived, stored : xarray.Dataset
        standing : sequence of str
            The figures of the result that stand for log-densities which it does not keep.

        Raises
        ------
        DataSetError
            When one differs; the message names it.
        """
        exact, origin = True, " and ".join([MAIN, *standing])
        allowed = _Rounding.of(stored)
        for name, variable in derived.variables.items():
            if name not in stored.variables:
                continue  # an older version did not have it
            now, then = variable.values, stored[name].values
            if variable.dims != stored[name].dims or now.shape != then.shape:
                raise DataSetError(self._different(f"the dims of {name} come out different"))
            same, within = _compared(now, then, partial(allowed, str(name)))
            exact &= self._decided(
                f"the values of {name} come out different", f"when they are derived from {origin}",
                _ROUNDING, same, within,
            )  # fmt: skip
        for name in _FIGURES:
            of_now, of_then = derived.attrs.get(name), stored.attrs.get(name)
            if of_now is not None and of_then is not None and of_now != of_then:
                raise DataSetError(self._different(f"the attribute {name} comes out different"))
        return exact

    def _decided(self, which: str, when: str, bounds: str, exact: bool, within: bool) -> bool:
        if exact or (within and self.lenient):
            return exact
        which = f"{which} {when}"
        if within:
            raise DataSetError(
                f"{self.path}: {which}, but within {bounds}, which "
                "happens if another processor or other libraries computed them; allow it ",
                Remedy("anywhere"),
            )
        beyond = f", beyond {bounds} ({'; '.join(self.others)})" if self.others else ""
        raise DataSetError(self._different(f"{which}{beyond}"))

    def _different(self, how: str) -> str:
        return f"{self.path}: {how}; the result is damaged, or the inputs have changed"


@dataclass(frozen=True)
class _Rounding:
    """The differences that rounding allows in figures which another machine derives.

    Parameters
    ----------
    n_terms : int
        The most terms of a sum.
    largest : float
        The largest log-density or log-posterior, in size.
    criterion : float
        The largest term of the least-squares criterion.
    """

    n_terms: int
    largest: float
    criterion: float

    @classmethod
    def of(cls, stored: xr.Dataset) -> _Rounding:
        logs = [n for n in (MAIN, f"test_{MAIN}", "log_posterior") if n in stored]
        largest = max(1.0, *(_largest(stored[name].values) for name in logs))
        n_terms = max(stored[name].size for name in logs)
        parts = [n for n in ("log_integrated_square", "log_mean_density") if n in stored]
        with np.errstate(over="ignore"):
            criterion = 3 * float(np.exp(max((stored[n].values.max() for n in parts), default=0.0)))
        return cls(n_terms, largest, criterion)

    def __call__(self, name: str, values: Array) -> Any:
        each = _EACH * (self.n_terms + 64) * _UNIT
        if name in _RELATIVE or name.startswith("level"):
            return each * np.abs(values)
        if name == "least_squares":
            return each * self.largest * self.criterion
        # Totals of folds are sums, and not means.
        of_sums = self.n_terms if "fold" in name else 1
        return each * (self.largest * of_sums + np.abs(np.nan_to_num(values, posinf=0, neginf=0)))


def _largest(values: FloatArray) -> float:
    found, flat = 0.0, np.ravel(values)
    for rows in pieces(flat):
        piece = flat[rows]
        found = max(found, float(np.abs(piece[np.isfinite(piece)]).max(initial=0.0)))
    return found


def _compared(now: Array, then: Array, allowed: Callable[[FloatArray], Any]) -> tuple[bool, bool]:
    """Return whether arrays are equal, and whether they differ by no more than is allowed."""
    now, then, same = np.ravel(now), np.ravel(then), True
    for rows in pieces(now):
        found, stored = now[rows], then[rows]
        if _equal(found, stored):
            continue
        same = False
        if found.dtype.kind != "f" or not is_same(found, stored, allowed(found)):
            return False, False
    return same, True


def _equal(now: Array, then: Array) -> bool:
    """Return whether arrays are equal; NaN equals NaN."""
    if now.dtype.kind == then.dtype.kind == "f":
        return np.array_equal(now, then, equal_nan=True)
    if now.dtype.kind in "mM":
        return bool(((now == then) | (np.isnat(now) & np.isnat(then))).all())
    return np.array_equal(now, then)


def is_same(found: FloatArray, stored: FloatArray, allowed: FloatArray | float) -> bool:
    """Return whether numbers are equal, or differ by what is allowed; NaN equals NaN."""
    # Equality apart, as the difference of two infinite values is NaN.
    with np.errstate(invalid="ignore"):
        near = np.abs(found - stored) <= allowed
    return bool((near | (found == stored) | (np.isnan(found) & np.isnan(stored))).all())
