"""Doubts about the best bandwidth: equal rows, and rows far away."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dkde.errors import warn
from dkde.estimation.row_weights import Weighted
from dkde.estimation.statistics import mean, mean_of, share_of, standard_error
from dkde.numerics.piecewise import pieces
from dkde.stores.scratch import piecewise, room_beside
from dkde.typing import FloatArray

# Users are warned from this share of rows on whose density comes from an equal row alone.
_SHARE = 0.25
# A row's sum of kernels is that of equal rows if it hardly grows with the bandwidth: by less than
# this share of the growth of the kernel's volume.
_CONSTANT = 0.1
# A sum above this share of all kernels is that of all rows, and cannot grow either.
_ALL = 0.9
# The bandwidths that are compared for this differ by a factor of at least 2.
_APART = np.log(2.0)
# Rows that decide alone are at most two, and at most one in a hundred. Without them the best
# bandwidth differs by a factor of at least 4, by at least five standard errors.
_FEW, _ONE_IN, _FACTOR, _ERRORS = 2, 100, np.log(4.0), 5.0
# At a grid's end three are enough: the bandwidths that would show more lie beyond it.
_ERRORS_AT_END = 3.0
# With fewer rows than this no warning is given, as any of them decides.
_FEWEST = 50


@dataclass(frozen=True)
class Deciding:
    """A few rows that alone decide which bandwidth is chosen.

    Parameters
    ----------
    rows : tuple of int
        Row numbers.
    bandwidth : float
        The bandwidth that the other rows prefer.
    """

    rows: tuple[int, ...]
    bandwidth: float


def warn_of_doubts(
    bandwidths: FloatArray,
    log_norms: FloatArray,
    scored: Weighted,
    best: int,
    in_words: Callable[[float], str] = "{:g}".format,
    *,
    held_out: bool = True,
    far_rows: bool = True,
) -> bool:
    """Warn of rows that alone decide the best bandwidth; return whether there are any.

    Parameters
    ----------
    bandwidths, log_norms, scored, best, held_out, far_rows
        As for :func:`doubt`.
    in_words : callable
        Turns a bandwidth into text with its unit.
    """
    found = doubt(bandwidths, log_norms, scored, best, held_out=held_out, far_rows=far_rows)
    if found is not None:
        h = in_words(float(bandwidths[best]))
        warn(f"the best bandwidth, {h}, says little: {found}")
    return found is not None


def doubt(
    bandwidths: FloatArray,
    log_norms: FloatArray,
    scored: Weighted,
    best: int,
    *,
    held_out: bool = True,
    far_rows: bool = True,
) -> str | None:
    """Return why the best bandwidth is doubtful, and what to do; None where it is not.

    Parameters
    ----------
    bandwidths, log_norms : array (n_bandwidths,)
        The bandwidths, and the kernel's log-normaliser at each.
    scored : Weighted
    best : int
        The number of the best bandwidth.
    held_out : bool
        Whether the rows are scored under other rows of the same side (cross-validation).
    far_rows : bool
        Whether rows far from all others can decide: not where densities, and not their logarithms,
        are averaged.
    """
    if len(bandwidths) < 2 or scored.values.shape[1] < _FEWEST:
        return None
    share = share_of_equal_rows(bandwidths, log_norms, scored, best)
    if share >= _SHARE:
        return _of_equal_rows(share, held_out)
    found = deciding_rows(bandwidths, scored, best) if far_rows else None
    if found is None:
        return None
    names = ", ".join(map(str, found.rows))
    rows = f"row {names}" if len(found.rows) == 1 else f"rows {names}"
    if found.bandwidth < bandwidths[best]:
        # Without these rows the optimum may be low only because of equal rows: say that instead.
        without = int(np.flatnonzero(bandwidths == found.bandwidth)[0])
        share = share_of_equal_rows(bandwidths, log_norms, scored, without)
        if share >= _SHARE:
            return _of_equal_rows(share, held_out, f" at {found.bandwidth:.3g}")
    decide, them = ("decides", "it") if len(found.rows) == 1 else ("decide", "them")
    return (
        f"{rows} alone {decide}, far from the others: without {them}, the best bandwidth "
        f"would be about {found.bandwidth:.3g}; look whether such rows belong to the data"
    )


def _of_equal_rows(share: float, held_out: bool, where: str = "") -> str:
    remedy = ", or hold equal ones out together (folds)" if held_out else " of one of the sides"
    return (
        f"equal rows decide: {share:.0%} of the rows owe their density{where} to rows that are "
        "equal to them, for which it rises without end as the bandwidth goes to 0; leave repeated "
        f"rows out{remedy}; where values are rounded, begin the grid at the step of their rounding"
    )


def share_of_equal_rows(
    bandwidths: FloatArray, log_norms: FloatArray, scored: Weighted, best: int
) -> float:
    """Return the share of rows whose density comes only from rows equal to them.

    Where distances are zero, the sum of kernels is the same at another bandwidth. It is the same,
    too, where both bandwidths reach all rows; the sum is then nearly all kernels.
    """
    logs = np.log(bandwidths)
    lower = np.flatnonzero(logs <= logs[best] - _APART)
    upper = np.flatnonzero(logs > logs[best])
    if len(lower):
        other = int(lower[logs[lower].argmax()])
    elif len(upper):
        other = int(upper[logs[upper].argmin()])
    else:
        return 0.0
    growth = abs(log_norms[best] - log_norms[other])
    ratio = np.exp(min(0.0, logs[best] - logs[other]))
    if ratio < 1:
        # At large bandwidths the sum of rows at any distance stops growing, so less is asked for.
        growth *= (1 - ratio**2) / (-2 * np.log(ratio))
    here, there = scored.values[best], scored.values[other]

    def equal(rows: slice) -> FloatArray:
        with np.errstate(invalid="ignore"):
            first, second = here[rows] + log_norms[best], there[rows] + log_norms[other]
            change = np.abs(second - first)
        few = first < np.log(_ALL)
        # The change is NaN where both densities are zero; the comparison is then False, as wanted.
        found: FloatArray = (few & (change < _CONSTANT * growth)).astype(np.float64)
        return found

    return mean_of(equal, len(here), scored.positive)


def deciding_rows(bandwidths: FloatArray, scored: Weighted, best: int) -> Deciding | None:
    """Return the few rows that decide against all others, if there are any.

    For each other bandwidth, the function looks for the few rows that lose most by it. If all
    other rows clearly prefer this bandwidth, these few have decided against it. If the best
    bandwidth is at an end of the grid, all others are compared with it, as the true optimum may
    lie far beyond the grid; elsewhere only those that differ by a factor.
    """
    values, weights = scored.values, scored.positive
    n = values.shape[1]
    most = min(_FEW, max(1, n // _ONE_IN))
    logs = np.log(bandwidths)
    found: dict[int, list[tuple[float, Deciding]]] = {}
    is_edge = logs[best] in (logs.min(), logs.max())
    errors = _ERRORS_AT_END if is_edge else _ERRORS
    apart = np.abs(logs - logs[best])
    for other in np.flatnonzero(apart > 0 if is_edge else apart >= _FACTOR):
        gains = piecewise(np.subtract, values[other], values[best])
        against = _least(gains, weights, most)
        for count in range(1, most + 1):
            gain = _clear_gain(gains, weights, against[:count], errors)
            if gain > 0:
                deciding = Deciding(scored.rows(against[:count].tolist()), float(bandwidths[other]))
                found.setdefault(count, []).append((gain, deciding))
                break
    if not found:
        return None
    return max(found[min(found)], key=lambda each: each[0])[1]


def _least(gains: FloatArray, weights: FloatArray | None, most: int) -> npt.NDArray[np.intp]:
    """Return the places of the least gains, weighted, in their order."""
    share = None if weights is None else share_of(weights)
    places, least = np.zeros(0, np.intp), np.zeros(0)
    for rows in pieces(gains):
        some = gains[rows] if share is None else gains[rows] * share(rows)
        mine = (
            np.argsort(some, kind="stable")[:most]
            if len(some) <= most
            else (np.argpartition(some, most)[:most])
        )
        places = np.append(places, rows.start + mine)
        least = np.append(least, some[mine])
        kept = np.argsort(least, kind="stable")[:most]
        places, least = places[kept], least[kept]
    return places


def _clear_gain(
    gains: FloatArray, weights: FloatArray | None, left_out: npt.NDArray[np.intp], errors: float
) -> float:
    """Return the mean gain of the rows kept, if it is clear of its error; else 0."""
    rest = _without(gains, left_out)
    kept = None if weights is None else _without(weights, left_out)
    if not all(np.isfinite(rest[rows]).all() for rows in pieces(rest)):
        return 0.0
    centre = float(mean(rest[None], kept)[0])
    error = float(standard_error(rest[None], kept)[0])
    return centre if centre > errors * error else 0.0


def _without(values: FloatArray, places: npt.NDArray[np.intp]) -> FloatArray:
    """Return values (n,) without those at a few places, beside the others."""
    found, start = room_beside(values, (len(values) - len(places),)), 0
    for number, place in enumerate([*np.sort(places), len(values)]):
        found[start - number : place - number] = values[start:place]
        start = place + 1
    return found
