"""The search for a bandwidth of each feature, along one feature after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dkde.errors import Argument, InputError, warn
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import find_covariance
from dkde.estimation.density_units import NATS
from dkde.estimation.fitted import Fitted
from dkde.estimation.options import Options
from dkde.estimation.validation import Scored, Validation, passed_at, warn_of_scored
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES, RADIANS, check_bandwidths
from dkde.numerics.linear import Scaling
from dkde.rows.side import Side, column_name
from dkde.rows.sources import ArraySource
from dkde.runs.job import Compute
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for

# Steps of a refined search, in log h, are halved until they are no larger than this.
_FINEST = 0.01
# A refined search looks so far beyond the grid, in log h.
_REACH = np.log(16.0)
# Rounds over all features at most, of each length of a step.
_MOST_ROUNDS = 30
# The dims and variables that a result has of a search.
NAMES = frozenset(
    {
        "feature",
        "evaluation",
        "feature_bandwidth",
        "feature_mean_log_likelihood",
        "feature_standard_error",
        "tried_bandwidth",
        "tried_mean_log_likelihood",
    }
)
# Returns the next point along a feature, by its number, the present point and +1 or -1.
_Step = Callable[[int, float, int], float | None]


def options_for_search(options: Options, *, pca: int | None, n_bandwidths: int | None) -> Options:
    """Return the options of the pass with which a search begins; refuse what has no features.

    Parameters
    ----------
    options : Options
    pca : int or None
    n_bandwidths : int or None
        The length of the grid, if it is given.

    Raises
    ------
    InputError
    """
    if pca is not None:
        raise InputError(
            Argument("per_feature"), " is for features, and principal components mix these; leave "
            "out ", Argument("pca"),
        )  # fmt: skip
    if n_bandwidths == 1:
        raise InputError(
            Argument("per_feature"), " searches a grid of factors; give at least two bandwidths"
        )
    if options.factors is not None:
        return options
    kernel = options.radial
    if kernel.sphere:
        raise InputError(
            f"kernel {kernel.name!r} has one bandwidth for a latitude and a longitude; leave out ",
            Argument("per_feature"),
        )
    if kernel.radii is None:
        raise InputError(
            f"kernel {kernel.name!r} is no density of several features, so that its likelihoods "
            "at other bandwidths of these cannot be compared; use another kernel"
        )
    if not isinstance(options.covariance, str):
        return options
    if options.covariance == "full":
        raise InputError(
            Argument("per_feature"), " is for a bandwidth along each feature, and a full "
            "covariance has none; leave out ", Argument("covariance"),
        )  # fmt: skip
    return replace(options, covariance="diag")


@dataclass(frozen=True, eq=False)
class FeatureSearch:
    """A search that begins at the best common factor of the features' scales.

    Parameters
    ----------
    validation : Validation
        The cross-validation at common factors of these scales.
    train : Side
        The prepared training rows, as they are before they are scaled.
    names : tuple of str
        The features, or the factors of a product of kernels, that have a bandwidth each.
    scales : array (n,)
        The bandwidths at a common factor of 1; on the sphere in radians.
    units : dict of str to str
        The unit in which a bandwidth on the sphere is shown, by its name.
    """

    validation: Validation
    train: Side
    names: tuple[str, ...]
    scales: FloatArray
    units: dict[str, str]

    @classmethod
    def of(cls, validation: Validation, train: Side) -> FeatureSearch:
        """Prepare a search; arguments as for the class.

        Raises
        ------
        InputError
            When C is a matrix, or a feature does not vary.
        """
        options = validation.fitted.options
        grouped = replace(train, groups=ArraySource(validation.numbers))
        if (factors := options.factors) is not None:
            found = factors.scales(options.covariance)
            names = tuple(map(",".join, found))
            pair = factors.pair
            units = {}
            if pair is not None:
                is_length = any(isinstance(value, str) for value in options.covariance.values())
                units = {",".join(pair): KILOMETRES if is_length else RADIANS}
            return cls(validation, grouped, names, np.array(list(found.values())), units)
        linear = validation.fitted.matrix.covariance.linear
        if not isinstance(linear, Scaling):
            raise InputError(
                Argument("per_feature"), " begins with scales of the features, and ",
                Argument("covariance"), " is a matrix; give its scales, or leave it out",
            )  # fmt: skip
        known = train.rows.parts[0].column_names
        if linear.n_features < linear.n_inputs:
            lost = next(i for i in range(linear.n_inputs) if i not in linear.columns)
            raise InputError(
                f"{column_name(known, lost)} does not vary, and has no bandwidth; leave it out"
            )
        names = known or tuple(str(i) for i in range(linear.n_inputs))
        return cls(validation, grouped, names, 1 / linear.factors, {})

    def at(self, bandwidths: FloatArray) -> Validation:
        """Return the cross-validation with these bandwidths of the features, as C at h = 1."""
        options = self.validation.fitted.options
        if (factors := options.factors) is not None:
            given = dict(zip(self.names, bandwidths.tolist(), strict=True))
            matrix = factors.matrix_of(given, 1.0, self.train)
        else:
            covariance = find_covariance(self.train, bandwidths, "raise", pool_for)
            matrix = BandwidthMatrix(check_bandwidths(1.0), covariance)
        fitted = Fitted(options, matrix, matrix.whiten(self.train))
        return replace(self.validation, fitted=fitted)

    def run(self, compute: Compute, grid: Scored, *, refine: bool) -> FeatureBandwidths:
        """Search, from the best of the common factors on.

        Each feature in turn goes along the grid, as long as the criterion gains, until none does.
        With ``refine`` steps are then halved until they are about 1 %, and may leave the grid.

        Parameters
        ----------
        compute : callable
            Returns the log-densities of a pass, from its name and its work.
        grid : Scored
            What the pass at the common factors gave.
        """
        factors = np.sort(grid.bandwidths)
        lines = np.log(self.scales)[:, None] + np.log(factors)  # (n_features, n_factors)
        walk = _Walk(self, compute, grid)
        point = np.log(self.scales) + np.log(grid.best_bandwidth)

        def along_the_grid(i: int, x: float, direction: int) -> float | None:
            at = int(np.abs(lines[i] - x).argmin()) + direction
            return float(lines[i, at]) if 0 <= at < len(factors) else None

        point = walk.climb(point, along_the_grid)
        step = float(np.median(np.diff(np.log(factors)))) / 2
        while refine and step > _FINEST / 2:
            point = walk.climb(point, _steps(step, lines[:, 0] - _REACH, lines[:, -1] + _REACH))
            step /= 2
        bandwidths = np.exp(point)
        ends = (lines[:, 0], lines[:, -1]) if not refine else (
            lines[:, 0] - _REACH + 2 * step, lines[:, -1] + _REACH - 2 * step
        )  # fmt: skip
        self._warn_of_ends(point, *ends)
        scored = Scored(self.at(bandwidths), np.ones(1), walk.best_pass, 1.0)
        warn_of_scored(scored)
        return FeatureBandwidths(self, bandwidths, scored, walk)

    def shown(self, bandwidths: FloatArray) -> FloatArray:
        """Return bandwidths (..., n) in the units in which they are shown."""
        lengths = [self.units.get(name) == KILOMETRES for name in self.names]
        return np.asarray(bandwidths * np.where(lengths, EARTH_RADIUS_KM, 1.0))

    def _warn_of_ends(self, point: FloatArray, low: FloatArray, high: FloatArray) -> None:
        """Warn of bandwidths at the ends of the search."""
        shown = self.shown(np.exp(point))
        at_ends = [
            f"along {name} {h:.6g}{' km' * (self.units.get(name) == KILOMETRES)}"
            for name, h, x, a, b in zip(self.names, shown, point, low, high, strict=True)
            if x <= a + 1e-9 or x >= b - 1e-9
        ]
        if at_ends:
            warn(
                f"the best bandwidth is the last that was tried ({', '.join(at_ends)}); a better "
                "one may lie beyond it"
            )


def _steps(step: float, low: FloatArray, high: FloatArray) -> _Step:
    """Return steps of one length, between bounds of each feature."""

    def along(i: int, x: float, direction: int) -> float | None:
        found = x + direction * step
        return found if low[i] <= found <= high[i] else None

    return along


class _Walk:
    """The points that a search has evaluated, each once, and the best of them."""

    def __init__(self, search: FeatureSearch, compute: Compute, grid: Scored) -> None:
        self._search, self._compute = search, compute
        squares = grid.passed.squares
        self._scale = 0.0 if squares is None else squares.log_scale
        self.points: list[FloatArray] = []
        self.means: list[float] = []
        self._seen: set[tuple[float, ...]] = set()
        gains = grid.passed.gains(self._scale)
        for h, mean in zip(grid.bandwidths, grid.passed.means, strict=True):
            self._note(np.log(search.scales) + np.log(h), float(mean))
        # The criterion's own choice: of means some may be infinite.
        best = int(np.flatnonzero(grid.bandwidths == grid.best_bandwidth)[0])
        self.best_pass, self._best_gain = grid.passed.at(best), float(gains[best])

    def climb(self, point: FloatArray, step: _Step) -> FloatArray:
        """Return the point from which no step along a single feature gains any more."""
        for _ in range(_MOST_ROUNDS):
            before = self._best_gain
            for i in range(len(point)):
                for direction in (1, -1):
                    moved = self._along(point, i, direction, step)
                    if moved is not point:
                        point = moved
                        break
            if self._best_gain == before:
                return point
        warn(f"the search along features still gains after {_MOST_ROUNDS} rounds, and ends there")
        return point

    def _along(self, point: FloatArray, i: int, direction: int, step: _Step) -> FloatArray:
        """Return the point after the steps along one feature that gain; itself if none does."""
        while (x := step(i, float(point[i]), direction)) is not None:
            trial = point.copy()
            trial[i] = x
            if not self._evaluated(trial):
                break
            point = trial
        return point

    def _evaluated(self, point: FloatArray) -> bool:
        """Evaluate a point, if it is a new one; return whether it is better than all before."""
        if _key(point) in self._seen:
            return False
        # Each pass is a stage of the run. A resumed run repeats the same passes, and reads them.
        name = f"feature-{len(self._seen)}"
        validation = self._search.at(np.exp(point))
        passed = passed_at(validation, self._compute, name, np.ones(1))
        gain = float(passed.gains(self._scale)[0])
        self._note(point, float(passed.means[0]))
        if not gain > self._best_gain:
            return False
        self.best_pass, self._best_gain = passed, gain
        return True

    def _note(self, point: FloatArray, mean: float) -> None:
        self._seen.add(_key(point))
        self.points.append(point)
        self.means.append(mean)


def _key(point: FloatArray) -> tuple[float, ...]:
    """Return a point without the rounding by which the same one may differ."""
    return tuple(np.round(point, 9).tolist())


@dataclass(frozen=True, eq=False)
class FeatureBandwidths:
    """The outcome of a search.

    Parameters
    ----------
    search : FeatureSearch
    bandwidths : array (n,)
        The best bandwidths; on the sphere in radians.
    scored : Scored
        The cross-validation at these.
    walk : _Walk
        What was evaluated.
    """

    search: FeatureSearch
    bandwidths: FloatArray
    scored: Scored
    walk: _Walk

    @property
    def by_name(self) -> dict[str, Any]:
        """Return the bandwidths by name, as other functions take them; lengths are text."""
        shown = zip(self.search.names, self.search.shown(self.bandwidths).tolist(), strict=True)
        units = self.search.units
        return {name: f"{h!r}km" if units.get(name) == KILOMETRES else h for name, h in shown}

    @property
    def evaluated(self) -> dict[str, FloatArray]:
        """Return the bandwidths (n_evaluations, n) that were tried, and what each gave."""
        return {
            "bandwidths": self.search.shown(np.exp(np.array(self.walk.points))),
            "mean_log_likelihood": np.array(self.walk.means),
        }

    def variables(self) -> dict[str, Any]:
        """Return the variables of a result."""
        search, figures = self.search, self.scored.variables()
        sphere = ", ".join(f"{name} in {unit}" for name, unit in search.units.items())
        notes = {"comment": sphere} if sphere else {}
        texts = (f"{name}={h:.6g}" if isinstance(h, float) else f"{name}={float(h[:-2]):.6g}km"
                 for name, h in self.by_name.items())  # fmt: skip
        in_words = {"in_words": ", ".join(texts)}
        best = {"long_name": "best bandwidth of each feature", **in_words, **notes}
        tried = {"long_name": "bandwidths that were tried", **notes}
        evaluated = self.evaluated
        return {
            "feature_bandwidth": ("feature", search.shown(self.bandwidths), best),
            "feature_mean_log_likelihood": ((), figures["mean_log_likelihood"][1][0], NATS),
            "feature_standard_error": ((), figures["standard_error"][1][0], NATS),
            "tried_bandwidth": (("evaluation", "feature"), evaluated["bandwidths"], tried),
            "tried_mean_log_likelihood": ("evaluation", evaluated["mean_log_likelihood"], NATS),
        }
