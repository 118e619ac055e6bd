"""Random calls of ``log_density``, their answers in extended precision, and what must hold.

``python tests/numeric_cases.py --cases 100000 --seed 0`` tries that many, and prints what is wrong.
A case follows from the seed and its number alone.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from math import inf
from typing import Any
from unittest import mock

import globe
import numpy as np
import numpy.typing as npt
import pandas as pd

import dkde
from dkde.engine import cell_survey, survey, task
from dkde.estimation.covariance import _Axes
from dkde.numerics import near
from dkde.numerics.bounds import stretch
from dkde.numerics.frame import Frame
from dkde.numerics.linear import Scaling

Array = npt.NDArray[Any]
Number = np.longdouble
PI = 180 * globe.RADIAN
# Half the distance from 1 to the next number: of float64, and of the numbers of the oracle.
UNIT, OWN = 2.0**-53, float(np.finfo(Number).eps) / 2

POWERS = {"tophat": 0, "epanechnikov": 1, "biweight": 2, "triweight": 3}
COMPACT = (*POWERS, "linear", "cosine")
KERNELS = ("gaussian", "exponential", "univariate_gaussian", *COMPACT)
SPHERE, PRODUCT = "vonmises_fisher", "product"
# What the survey chooses for far more rows, or more features.
METHODS = ("leaves", "leaves", "expansions", "surveyed", "near pairs", "all pairs")


@dataclass(frozen=True, eq=False)
class Case:
    """A call of ``log_density``, by its arguments, and the method that is chosen for it.

    Parameters
    ----------
    depth : float
        The bandwidth of the third feature at h = 1, in a product with a kernel on the sphere.
    is_extreme : bool
        Whether numbers may be out of range, and refused.
    cut : dict
        Rows of a block and of a panel.
    """

    number: int
    query: Array
    train: Array
    bandwidths: Array
    kernel: str
    tol: float
    method: str = "leaves"
    metric: str = "euclidean"
    precision: str = "float64"
    atol: float = 0.0
    weights: Array | None = None
    groups: tuple[Array, Array] | None = None
    scales: Array | None = None
    adaptive: float | None = None
    covariance: Array | None = None
    support: list[Any] = field(default_factory=list)
    depth: float = 1.0
    is_extreme: bool = False
    cut: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        some = {
            name: value for name, value in vars(self).items()
            if name not in ("query", "train", "weights", "groups", "scales") and value is not None
        }  # fmt: skip
        if self.covariance is not None:
            some["covariance"] = f"{self.covariance.shape}"
        kinds = [n for n in ("weights", "groups", "scales") if getattr(self, n) is not None]
        return f"{self.query.shape} x {self.train.shape} {self.train.dtype} {kinds} {some}"

    @property
    def is_sphere(self) -> bool:
        return self.kernel in (SPHERE, PRODUCT)

    @property
    def n_features(self) -> int:
        """Of the rows as distances are taken."""
        return self.train.shape[1] + self.is_sphere

    @property
    def power(self) -> int:
        """By which log-densities change with log h."""
        if self.kernel == "univariate_gaussian":
            return 1
        return self.n_features - self.is_sphere

    def answer(self) -> tuple[Array, Array]:
        """Log-densities and bounds, (n_bandwidths, query rows)."""
        options: dict[str, Any] = {
            "kernel": self.kernel, "metric": self.metric, "precision": self.precision,
            "tol": self.tol, "atol": self.atol, "weights": self.weights,
            "bandwidth_scale": self.scales, "adaptive": self.adaptive, **self.cut,
        }  # fmt: skip
        query, train, h = self.query, self.train, self.bandwidths
        if self.covariance is not None:
            options["covariance"] = self.covariance
        if self.support:
            options["support"] = self.support
        if self.groups is not None:
            options |= dict(zip(("groups", "train_groups"), self.groups, strict=True))
        if self.kernel == PRODUCT:
            names = ["lat", "lon", "z"]
            query, train = (pd.DataFrame(side, columns=names) for side in (query, train))
            places = tuple(names[:2])
            options["kernel"] = {places: SPHERE, "z": "gaussian"}
            options["covariance"] = {places: 1.0, "z": self.depth}
        if np.isnan(self.query).any() or np.isnan(self.train).any():
            options["nan"] = "drop"
        with chosen(self.method), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = dkde.log_density(query, train, h, return_error=True, **options)
        values, errors = (np.asarray(each) for each in found)
        return values, errors


def chosen(method: str) -> ExitStack:
    """Choose a method, as if a sample had said that it pays."""
    patches = ExitStack()
    enter = patches.enter_context
    if method == "leaves":
        return patches
    enter(mock.patch.object(survey, "_is_small", return_value=False))
    if method == "expansions":
        enter(mock.patch.object(cell_survey, "leaves_time", return_value=inf))
    if method in ("near pairs", "all pairs"):
        enter(mock.patch.object(task, "MOST_IN_LEAVES", 0))
        enter(mock.patch.object(near, "_FEW", 1.0))
        enter(mock.patch.object(survey, "_WORTHWHILE", inf if method == "near pairs" else 0.0))
    return patches


# --- The oracle ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Exact:
    """What is true of a case, (n_bandwidths, query rows), in extended precision.

    Parameters
    ----------
    low, values, high : array
        Log-densities; of compact kernels for bandwidths a little less and more, too.
    widest : array
        ``log(W / Z)``; infinite where there is no sum.
    nearest : array
        The exponent of the nearest pair.
    slack : array
        What the oracle itself may be off by.
    """

    low: Array
    values: Array
    high: Array
    widest: Array
    nearest: Array
    slack: Array


def exact(case: Case) -> Exact:
    """Return the answer to a case as the formula is written."""
    missing = np.isnan(case.query).any(axis=1)
    query = case.query[~missing]
    counts = ~np.isnan(case.train).any(axis=1)
    weights = np.ones(len(case.train)) if case.weights is None else case.weights
    counts &= weights > 0
    train, weights = case.train[counts], weights[counts].astype(Number)
    apart = np.zeros((len(query), len(train)), bool)
    if case.groups is not None:
        apart = case.groups[0][~missing, None] == case.groups[1][None, counts]
    within = 0.0
    if case.kernel in COMPACT:
        integer = bool(case.train.dtype.kind in "iu")
        frame = Frame(np.zeros(case.n_features), 1.0, integer, case.precision)  # type: ignore[arg-type]
        within = stretch(frame, scaled=case.scales is not None)
    shape = len(case.bandwidths), len(case.query)
    low, values, high, widest, nearest, slack = np.full((6, *shape), np.nan, Number)
    factors = [
        None if case.adaptive is None else _factors(case, train, weights, h)
        for h in case.bandwidths
    ]
    widest_of = [1.0 if f is None else float(f.max()) for f in factors]
    distances = list(_distances(case, query, train, max(widest_of)))
    for k, h in enumerate(case.bandwidths):
        scales = None if case.scales is None else case.scales[counts].astype(Number)
        if case.adaptive is not None:
            scales = factors[k]
        rows = (k, ~missing)
        off_by = _edges(case, query, h) if case.kernel in COMPACT else 0.0
        by = [(-within, off_by), (0.0, 0.0), (within, -off_by)]
        if case.kernel not in COMPACT:
            by = by[1:2]
        found = [
            _log_sums(case, distances, weights, apart, Number(h) * (1 + Number(b)), scales, off)
            for b, off in by
        ]
        found = found if len(found) == 3 else found * 3
        with np.errstate(divide="ignore", invalid="ignore"):
            log_weight = np.log(np.where(apart, 0, weights).sum(axis=1))
            log_weight[apart.all(axis=1)] = np.nan
            norm = _log_norm(case, Number(h))
            low[rows], values[rows], high[rows] = (sums - norm - log_weight for sums, _, _ in found)
            _, nearest[rows], heaviest = found[1]
            widest[rows] = heaviest + np.log(Number(len(distances))) - found[1][0]
        size = np.abs(found[1][0]) + np.abs(norm) + np.abs(log_weight) + nearest[rows]
        slack[rows] = 64 * (case.n_features + 8) * OWN * (1 + np.where(np.isfinite(size), size, 0))
    return Exact(low, values, high, widest, nearest, slack)


def _distances(case: Case, query: Array, train: Array, widest: float = 1.0) -> Iterator[Array]:
    """Yield the distances of all pairs, image by image, for bandwidths so many times wider."""
    if case.is_sphere:
        q, t = globe.true_vectors(query[:, :2]), globe.true_vectors(train[:, :2])
        squares = ((q[:, None] - t) ** 2).sum(axis=2)
        if case.kernel == PRODUCT:
            apart = query[:, None, 2].astype(Number) - train[:, 2]
            squares = squares + (apart / Number(case.depth)) ** 2
        yield np.sqrt(squares)
        return
    q, t = query.astype(Number)[:, None], train.astype(Number)
    for image in product(*(_images(case, j, widest) for j in range(train.shape[1]))):
        signs, shifts = (np.array(each, Number) for each in zip(*image, strict=True))
        apart = np.abs(signs * q + shifts - t)
        if case.covariance is not None:
            apart = _whitened(case.covariance, signs * q + shifts - t)
        if case.metric == "manhattan":
            yield np.abs(apart).sum(axis=2)
        elif case.metric == "chebyshev":
            yield np.abs(apart).max(axis=2)
        else:
            top = np.abs(apart).max(axis=2, keepdims=True)
            top[top == 0] = 1
            yield top[..., 0] * np.sqrt(((apart / top) ** 2).sum(axis=2))


def _edges(case: Case, query: Array, h: float) -> Any:
    """What distances may be off by, (query rows, 1), as rows are mapped or moved.

    Bounds of kernels of compact support hold for rows as they are rounded.
    """
    off = np.zeros((len(query), 1))
    if case.covariance is not None:
        linear = _map_of(case.covariance)
        both = np.concatenate([query, case.train[~np.isnan(case.train).any(axis=1)]])
        middle = both.mean(axis=0)
        longest = np.sqrt((linear.apply(both - middle) ** 2).sum(axis=1).max())
        assert linear.rounding is not None
        off += 4 * linear.rounding.of_length * longest + linear.rounding.of_squares * h
    return off + _of_images(case)


def _of_images(case: Case) -> float:
    """What distances to images may be off by."""
    total = 0.0
    for j, axis in enumerate(case.support):
        if isinstance(axis, dkde.Periodic):
            size = 4 * axis.period
        elif axis is not None:
            low, high = axis
            ends = [abs(end) for end in axis if end is not None]
            if case.covariance is not None:
                spread = np.nanmax(np.abs(np.concatenate([case.query[:, j], case.train[:, j]])))
                size = 2 * max(ends) + 2 * spread
            else:
                size = 0.5 * max(low, -high, 0.0) if len(ends) == 2 else 0.0
                # Of a power of two beside a bound beyond which images are further from zero.
                outer = [max(high or 0.0, 0.0), max(-(low or 0.0), 0.0)]
                size += 0.16 * max(outer)
        else:
            continue
        total += 8 * UNIT * size / (1.0 if case.covariance is None else float(case.covariance[j]))
    return total


def _map_of(covariance: Array) -> Any:
    if covariance.ndim == 1:
        return Scaling(len(covariance), np.arange(len(covariance)), 1 / covariance)
    axes = _Axes.of(covariance)
    return axes.covariance(np.arange(len(covariance)), len(covariance), covariance).linear


def _whitened(covariance: Array, apart: Array) -> Array:
    if covariance.ndim == 1:
        return np.asarray(apart / covariance.astype(Number))
    d = len(covariance)
    root, rest = np.zeros((d, d), Number), covariance.astype(Number)
    out = np.empty_like(apart)
    for i in range(d):  # Cholesky's factor, and forward substitution
        root[i, i] = np.sqrt(rest[i, i] - (root[i, :i] ** 2).sum())
        for j in range(i + 1, d):
            root[j, i] = (rest[j, i] - (root[j, :i] * root[i, :i]).sum()) / root[i, i]
        out[..., i] = (apart[..., i] - (out[..., :i] * root[i, :i]).sum(axis=-1)) / root[i, i]
    return out


def _images(case: Case, j: int, widest: float) -> list[tuple[float, Any]]:
    """Signs and shifts of a feature, more than matter."""
    axis = case.support[j] if case.support else None
    if axis is None:
        return [(1, Number(0))]
    if isinstance(axis, dkde.Periodic):
        period, turned = Number(axis.period), []
    else:
        turned = [2 * Number(end) for end in axis if end is not None]
        if len(turned) == 1:
            return [(1, Number(0)), (-1, turned[0])]
        period, turned = turned[1] - turned[0], turned[:1]
    scale = 1.0 if case.covariance is None else float(case.covariance[j])
    wide = {"gaussian": 11.0, "exponential": 60.0}.get(case.kernel, 1.0)
    scale *= widest if case.scales is None else float(case.scales.max())
    most = int(wide * float(case.bandwidths.max()) * scale / float(period)) + 2
    shifts = [k * period for k in range(-most, most + 1)]
    return [(1, s) for s in shifts] + [(-1, turned[0] + s) for s in shifts if turned]


def _log_kernel(kernel: str, u: Array) -> Array:
    if kernel == "exponential":
        return -u
    if kernel not in COMPACT:
        return -u * u / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        if kernel == "cosine":
            inside = np.sin(PI / 2 * (1 - u))
        elif kernel == "linear":
            inside = 1 - u
        else:
            inside = ((1 - u) * (1 + u)) ** POWERS[kernel]
        return np.where(u < 1, np.log(np.where(u < 1, inside, 1)), -inf)


def _log_sums(
    case: Case, distances: list[Array], weights: Array, apart: Array, h: Any,
    scales: Array | None, off: Any = 0.0,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Log-sums, the least exponents, and the log of all weights over powers of scales.

    Distances are longer by ``off`` (query rows, 1).
    """
    own, logs = (np.ones(len(weights), Number) if scales is None else scales), np.log(weights)
    logs = logs - case.power * np.log(own)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        exponents = [
            _log_kernel(case.kernel, np.maximum(each + off, 0) / (h * own)) for each in distances
        ]
        terms = np.stack([np.where(apart, -inf, each + logs) for each in exponents])
        nearest = -np.max([np.where(apart, -inf, each).max(axis=1) for each in exponents], axis=0)
        total = _log_sum_exp(np.where(apart, -inf, np.broadcast_to(logs, apart.shape))[None])
        return _log_sum_exp(terms), nearest, total


def _log_sum_exp(terms: Array) -> Array:
    top = terms.max(axis=(0, 2))
    safe = np.where(np.isfinite(top), top, 0)
    return np.asarray(np.log(np.exp(terms - safe[:, None]).sum(axis=(0, 2))) + safe)


def _factors(case: Case, train: Array, weights: Array, h: float) -> Array:
    none = np.zeros((len(train), len(train)), bool)
    sums, _, _ = _log_sums(case, list(_distances(case, train, train)), weights, none, h, None)
    return np.exp(-Number(case.adaptive) * (sums - (sums * weights).sum() / weights.sum()))


def _log_gamma_of_half(n: int) -> Any:
    start = np.log(PI) / 2 if n % 2 else Number(0)
    return start + sum((np.log(Number(k) / 2) for k in range(2 - n % 2, n, 2)), Number(0))


def _log_norm(case: Case, h: Any) -> Any:
    """The log of the kernel's integral."""
    if case.is_sphere:
        norm = np.log(2 * PI * h * h) + np.log(-np.expm1(-2 / (h * h)))
        if case.kernel == PRODUCT:
            norm += np.log(2 * PI) / 2 + np.log(h * Number(case.depth))
        return norm
    d = case.n_features
    volume = Number(0)
    if case.covariance is not None and case.covariance.ndim == 1:
        volume = np.log(case.covariance.astype(Number)).sum()
    elif case.covariance is not None:
        volume = -np.log(np.diagonal(_whitened(case.covariance, np.eye(d, dtype=Number)))).sum()
    volume += case.power * np.log(h)
    if case.kernel in ("gaussian", "univariate_gaussian"):
        return volume + Number(case.power) / 2 * np.log(2 * PI)
    sphere = np.log(Number(2)) + Number(d) / 2 * np.log(PI) - _log_gamma_of_half(d)
    if case.kernel == "exponential":
        return volume + sphere + _log_gamma_of_half(2 * d)
    if case.kernel == "linear":
        radial = 1 / (Number(d) * (d + 1))
    elif case.kernel == "cosine":
        term, radial = Number(1), Number(0)
        for k in range(40):
            radial += term / (2 * k + d)
            term *= -((PI / 2) ** 2) / ((2 * k + 1) * (2 * k + 2))
    else:
        radial = Number(1) / 2
        for i in range(POWERS[case.kernel] + 1):
            radial *= Number(max(i, 1)) / (Number(d) / 2 + i)
    return volume + sphere + np.log(radial)


# --- What must hold -----------------------------------------------------------------------------


def judge(case: Case, values: Array, errors: Array, right: Exact) -> list[str]:
    """Return what is wrong, a line each."""
    none = np.isnan(right.values.astype(float))
    wrong = []
    if not (np.array_equal(np.isnan(values), none) and np.array_equal(np.isnan(errors), none)):
        return [f"NaN at {np.argwhere(np.isnan(values) != none)[:3].tolist()} and not elsewhere"]
    there = ~none
    if (errors[there] < 0).any():
        wrong.append("a bound is negative")
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.maximum(right.low - values, values - right.high)
        off[(values == right.values) | (np.isneginf(values) & np.isneginf(right.low))] = 0
        # A density whose bound is infinite may be anything.
        bad = there & ~(off <= errors + right.slack)
    if bad.any():
        wrong.append(_line("error above bound", bad, off, errors, right))
    size = np.maximum(1, np.abs(np.where(np.isfinite(right.values), right.values, 1)))
    limit = case.tol * size
    if case.precision == "float32" and case.method in ("near pairs", "all pairs"):
        bad = there & (off > case.tol * np.maximum(size, right.nearest) + right.slack)
        if bad.any():
            wrong.append(_line("float32: error above tolerance", bad, off, limit, right))
        return wrong
    if case.atol:
        with np.errstate(over="ignore", invalid="ignore"):
            p, found = np.exp(right.values), np.exp(values.astype(Number))
            outside = np.maximum(np.exp(right.low) - found, found - np.exp(right.high))
            off_by = limit + _documented(case, right) + right.slack
            most = np.maximum(case.atol, p * np.expm1(np.minimum(off_by, 9000)))
            bad = there & ~(outside <= most * (1 + 1e-15) + p * right.slack)
        if bad.any():
            wrong.append(_line("density above atol", bad, off, limit, right))
        with np.errstate(over="ignore", divide="ignore"):
            share = case.atol * (1 + 1e-8) / (16 * np.exp(values.astype(Number)))
            limit = limit + 1e-12 + np.log1p(share)
            limit[np.isneginf(values)] = inf
        # Terms so far below the nearest one, which is left out, are known to few digits.
        limit[right.values - values > 600] += 1
    bad = there & (errors > (limit + _documented(case, right)) * (1 + 1e-12))
    bad &= np.isfinite(values)
    if bad.any():
        wrong.append(_line("bound above contract", bad, errors, limit, right))
    if case.tol >= 1e-11 and not case.atol and case.kernel not in COMPACT:
        bad = there & ~(off <= limit + _documented(case, right) + right.slack)
        if bad.any():
            wrong.append(_line("error above tolerance", bad, off, limit, right))
    return wrong


def _documented(case: Case, right: Exact) -> Array:
    """What bounds may be above the tolerance by, as docs/accuracy.md says."""
    # Roundings of the largest term, as weights or normalisers far from one make it large.
    extra = (right.slack / OWN * UNIT).astype(float)
    if case.covariance is not None:
        extra += _map_of(case.covariance).rounding.of_volume
    if case.kernel in COMPACT:
        return extra
    widest = np.where(np.isfinite(right.widest), right.widest, 0).astype(float)
    moved = _of_images(case) / case.bandwidths[:, None]
    part = 64 * UNIT
    if case.covariance is not None:
        there = ~np.isnan(case.query).any(axis=1)
        origin = np.median(case.train[~np.isnan(case.train).any(axis=1)], axis=0)
        both = case.query - origin
        linear = _map_of(case.covariance)
        lengths = np.zeros(len(case.query))
        lengths[there] = np.sqrt((linear.apply(both[there]) ** 2).sum(axis=1))
        # The reference is a row in the middle of some of the training rows.
        rows = case.train[~np.isnan(case.train).any(axis=1)] - origin
        lengths += np.sqrt((linear.apply(rows) ** 2).sum(axis=1).max())
        known = linear.rounding
        moved = moved + 3 * known.of_length * lengths / case.bandwidths[:, None]
        part += 3 * known.of_length + 1.1 * known.of_squares
    if case.kernel == PRODUCT:
        moved = (
            moved
            + 30
            * UNIT
            * (2 + np.abs(case.query[:, 2] - np.median(case.train[:, 2])) / case.depth)
            / case.bandwidths[:, None]
        )
    if case.is_sphere:
        moved = moved + 26 * UNIT / case.bandwidths[:, None]
    if case.scales is not None:
        moved = moved / case.scales.min()
        widest = widest + case.power * np.log(case.scales.max() / case.scales.min())
    if case.kernel == "exponential":
        extra = extra + 1.01 * (moved + part * widest)
    else:
        extra = extra + 1.01 * (moved * np.sqrt(2 * widest) + moved**2 / 2 + part * widest)
    if case.adaptive is not None:  # factors are as far off as the pilot, at other rows
        extra = extra * (1 + 6 * case.adaptive * (case.n_features + 3 * widest))
    return extra


def _line(words: str, bad: Array, found: Array, limit: Array, right: Exact) -> str:
    k, i = np.argwhere(bad)[np.argmax(np.where(bad, found / np.maximum(limit, 1e-300), 0)[bad])]
    return (
        f"{words}: {int(bad.sum())}, at {(int(k), int(i))} {float(found[k, i]):.6g} > "
        f"{float(limit[k, i]):.6g}, log p {float(right.values[k, i]):.6g}, "
        f"log(W/Z) {float(right.widest[k, i]):.3g}"
    )


# --- Drawing ------------------------------------------------------------------------------------


def draw(seed: int, number: int) -> Case:
    """Return the case of that number."""
    rng = np.random.default_rng([seed, number])

    def one(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    if rng.random() < 0.12:
        return _on_sphere(rng, one, number)
    kernel = one(*KERNELS, "gaussian", "gaussian")
    method = one(*METHODS)
    d = int(one(1, 1, 2, 2, 3, 3, 4, 7, 12, 16, 17, 20))
    if method in ("expansions", "surveyed"):
        kernel, d = "gaussian", min(d, 3)
    n, m = int(one(1, 2, 5, 20, 40, 130, 130, 300)), int(one(1, 3, 6))
    if method == "expansions":
        n, m = int(one(150, 600)), 6
    metric = "euclidean"
    if kernel == "univariate_gaussian":
        metric = one("euclidean", "manhattan", "chebyshev")
    precision = "float32" if rng.random() < 0.12 else "float64"
    tol = 10.0 ** rng.uniform(-5 if precision == "float32" else -12, one(-3, -3, -0.001))
    tol = max(tol, 1e-5 if precision == "float32" else 1e-12)
    is_extreme = bool(rng.random() < 0.15) and precision == "float64"
    unit = 10.0 ** rng.uniform(-145, 145) if is_extreme else 10.0 ** one(0, 0, 0, -6, 6)
    clusters = one(0.0, 0.0, 1.0, 30.0, 1e3, 1e5) * rng.normal(size=(int(one(1, 2, 4)), d))
    train, query = (
        clusters[rng.integers(len(clusters), size=k)] + rng.normal(size=(k, d)) for k in (n, m)
    )
    query *= one(1.0, 1.0, 1.0, 4.0, 1e3)
    offset = one(0.0, 0.0, 1.0, -1e3, 1e6)
    train, query = (train + offset) * unit, (query + offset) * unit
    if not is_extreme and unit == 1 and rng.random() < 0.15:
        dtype = one(np.uint8, np.int16, np.float32)
        top = 200 if dtype == np.uint8 else 3e4
        train, query = (
            np.clip(np.rint(side * 20 + 100), 0, top).astype(dtype) for side in (train, query)
        )
        unit = 20.0
    if rng.random() < 0.3:
        train = train[rng.integers(n, size=n)]
    where = rng.integers(n, size=m)
    query = np.where(rng.random((m, 1)) < one(0, 0, 0.5, 1), train[where], query)
    typical = unit * one(1.0, np.sqrt(d))
    decades = rng.uniform(-one(0.5, 2), one(0.5, 2), int(one(1, 1, 2, 4)))
    h = np.unique(np.clip(typical * 10**decades, 1e-150, 1e150))
    more: dict[str, Any] = {}
    if rng.random() < 0.4:
        more["weights"] = _weights(rng, one, n)
    if rng.random() < 0.35:
        more["groups"] = one(
            (where, np.arange(n)), (rng.integers(-1, 3, m), rng.integers(0, 3, n)),
            (rng.integers(0, 40, m), rng.integers(0, 40, n)),
        )  # fmt: skip
    in_leaves, reaches = method not in ("all pairs", "near pairs"), kernel not in COMPACT
    if rng.random() < 0.15 and in_leaves:
        more["scales"] = np.exp(one(0.1, 1.0, 3.0) * rng.normal(size=n))
    elif rng.random() < 0.1 and n <= 40 and reaches and method == "leaves":
        more["adaptive"] = one(0.5, 1.0, 0.1)
    if rng.random() < 0.3 and metric == "euclidean" and train.dtype.kind == "f":
        more |= _covariance(rng, one, d)
    axes_stay = more.get("covariance", np.ones(1)).ndim == 1 and train.dtype == np.float64
    if rng.random() < 0.25 and kernel != "univariate_gaussian" and axes_stay:
        train, query, more["support"] = _bounded(rng, one, train, query, h, unit, more)
    if rng.random() < 0.08 and train.dtype == np.float64:
        train[rng.random(train.shape) < 0.05] = np.nan
        query[rng.random(query.shape) < 0.1] = np.nan
        if np.isnan(train).any(axis=1).all() or np.isnan(query).any(axis=1).all():
            train, query = np.nan_to_num(train), np.nan_to_num(query)
    if rng.random() < 0.3:
        more["cut"] = {"panel_rows": 1 + n // 3, "block_rows": 1 + m // 2}
    atol = 0.0
    if rng.random() < 0.2:
        atol = float(10.0 ** rng.uniform(-30, 3) * min(unit, 1e200) ** -float(min(d, 1)))
    return Case(
        number, query, train, h, kernel, float(tol), method, metric, precision, atol,
        is_extreme=is_extreme, **more,
    )  # fmt: skip


def _on_sphere(rng: Any, one: Any, number: int) -> Case:
    kernel = one(SPHERE, PRODUCT)
    n, m = int(one(2, 40, 300)), 7
    spread = one(180.0, 5.0, 0.1)
    train, query = (
        np.column_stack([
            np.clip(one(0, 60, 89.9) + spread / 2 * rng.normal(size=k), -90, 90),
            one(0, 179, 360) + spread * rng.normal(size=k),
            *([rng.normal(size=k) * 30] if kernel == PRODUCT else []),
        ]) for k in (n, m)
    )  # fmt: skip
    if rng.random() < 0.3:
        query[:2] = train[rng.integers(n, size=2)]
    h = np.unique(10.0 ** rng.uniform(-4, 0.3, int(one(1, 2))))
    tol = 10.0 ** rng.uniform(-10, -1)
    weights = _weights(rng, one, n) if rng.random() < 0.3 else None
    method = one("leaves", "surveyed", "expansions", "all pairs")
    depth = float(10.0 ** rng.uniform(-1, 2))
    return Case(number, query, train, h, kernel, tol, method, weights=weights, depth=depth)


def _weights(rng: Any, one: Any, n: int) -> Array:
    weights = one(
        rng.uniform(0.1, 3, n), 10.0 ** rng.uniform(-one(12, 40, 290), 0, n), np.full(n, 1e-300),
        rng.integers(0, 3, n).astype(float),
    )  # fmt: skip
    if not weights.any():
        weights[0] = 1.0
    return np.asarray(weights)


def _covariance(rng: Any, one: Any, d: int) -> dict[str, Any]:
    scales = 10.0 ** rng.uniform(-one(0.3, 3), one(0.3, 3), d)
    if rng.random() < 0.5 or d == 1:
        return {"covariance": scales}
    factor = rng.normal(size=(d, d)) + one(0.3, 3.0) * np.eye(d)
    covariance = factor @ factor.T * np.outer(scales, scales)
    return {"covariance": (covariance + covariance.T) / 2}


def _bounded(
    rng: Any, one: Any, train: Array, query: Array, h: Array, unit: float, more: dict[str, Any]
) -> tuple[Array, Array, list[Any]]:
    """Put rows into bounds along one or two features."""
    d = train.shape[1]
    support: list[Any] = [None] * d
    scales = more.get("covariance", np.ones(d))
    for j in rng.choice(d, min(d, int(one(1, 2))), replace=False):
        both = np.concatenate([train[:, j], query[:, j]])
        low, high = float(both.min()), float(both.max())
        wide = max(high - low, float(h.max()) * float(scales[j]) / one(1, 3), unit * 1e-3)
        kind = one("low", "high", "both", "period")
        if kind == "period":
            support[j] = dkde.Periodic(wide * one(1.0, 1.5))
            train[:, j], query[:, j] = (np.clip(s[:, j] - low, 0, wide) for s in (train, query))
        else:
            support[j] = {
                "low": (low, None), "high": (None, high), "both": (low, low + 1.2 * wide)
            }[kind]  # fmt: skip
    return train, query, support


# --- All of it ----------------------------------------------------------------------------------


@dataclass
class Found:
    """What a campaign found."""

    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def tried(seed: int, numbers: range) -> Found:
    """Try some cases."""
    found = Found()
    for number in numbers:
        case = draw(seed, number)
        try:
            values, errors = case.answer()
        except dkde.InputError as error:
            found.kinds["refused"] += 1
            if not case.is_extreme:
                found.kinds["refused, not extreme: " + str(error)[:70]] += 1
            continue
        with np.errstate(all="ignore"):
            wrong = judge(case, values, errors, exact(case))
        found.kinds[case.kernel] += 1
        found.kinds[case.method] += 1
        found.wrong += [f"{number}: {line}\n    {case!r}" for line in wrong]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    kinds: Counter[str] = Counter()
    n_wrong = 0
    for start in range(given.first, given.first + given.cases, 100):
        result = tried(given.seed, range(start, min(start + 100, given.first + given.cases)))
        kinds += result.kinds
        n_wrong += len(result.wrong)
        print(f"-- up to {start + 100}: {n_wrong} wrong", *result.wrong, sep="\n", flush=True)
    print(dict(kinds))
