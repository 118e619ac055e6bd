"""A finished call made again from the log-densities of its result, without computing any.

The job that made a result derives all figures from log-densities. Here it gets those that the
result holds, so that the same functions make the same figures. Log-densities that a result does
not keep, as those of the training rows of a threshold, come from blocks that were computed again
before. Until all of these are there, the figure that the result keeps of them stands for them, and
is named as not verified; what follows from it is derived.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import DataSetError, InputError, one_line
from dkde.estimation.adaptive import PILOT, RowBandwidths
from dkde.estimation.bandwidth_matrix import in_unit_of_call
from dkde.estimation.classifying import ClassifyJob
from dkde.estimation.cross_validation import CrossValidationJob
from dkde.estimation.grouped_job import GroupedJob
from dkde.estimation.map_job import MapJob
from dkde.estimation.map_levels import Levels
from dkde.estimation.recomputing import Kept, OfClasses, Piece, scoring
from dkde.estimation.replay import Covered, Derived, OpenError, Source, no_methods
from dkde.estimation.replaying_cv import of_cross_validation
from dkde.estimation.row_weights import RowWeights
from dkde.estimation.scoring import ScoreJob
from dkde.estimation.statistics import best_index
from dkde.estimation.stored_densities import (
    alike,
    left_out,
    stored_densities,
    stored_posteriors,
)
from dkde.estimation.sweeping import SweepJob
from dkde.numerics.logsum import Densities
from dkde.runs.grouped import results_of_groups
from dkde.runs.job import Job
from dkde.typing import FloatArray


@contextmanager
def quietly(name: str) -> Iterator[None]:
    """Say nothing of what the call has warned of; raise what it refuses as damage.

    Raises
    ------
    DataSetError
        When the log-densities cannot be those of a result.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError as error:
            raise DataSetError(
                f"{name}: its log-densities allow no such result ({one_line(error)}); the result "
                "is damaged, or the inputs have changed"
            ) from error


def derived(job: Job, result: xr.Dataset, name: str, covered: Covered) -> Derived:
    """Return what a result should hold, from its log-densities.

    Parameters
    ----------
    job : Job
        The call that made it, in the blocks of its run.
    result : xarray.Dataset
    name : str
        Its path, for messages.
    covered : callable
        Returns log-densities that were computed again, by the name of a piece of work and the work.

    Raises
    ------
    DataSetError
        When no such result follows from them.
    """
    with quietly(name):
        return _derived(job, result, covered)


def nothing_covered(name: str, work: Work) -> Densities | None:
    """Return that no log-densities were computed again."""
    return None


def in_unit_of(job: Any, result: xr.Dataset, name: str) -> xr.Dataset:
    """Return a result with its bandwidths in the unit of the call; older ones had another.

    Raises
    ------
    DataSetError
        When an older version made it, which derived other figures.
    """
    if isinstance(job, GroupedJob | MapJob):
        return result
    if isinstance(job, ClassifyJob):
        return in_unit_of_call(result, job.densities.fitted[0].matrix)
    if isinstance(job, CrossValidationJob):
        return job.reread(result, name)
    return in_unit_of_call(result, job.fitted.matrix)


def _derived(job: Any, result: xr.Dataset, covered: Covered) -> Derived:
    if isinstance(job, GroupedJob):
        return _of_groups(job, result, covered)
    if isinstance(job, ScoreJob):
        return _of_score(job, result, covered)
    if isinstance(job, SweepJob):
        return _of_sweep(job, result, covered)
    if isinstance(job, MapJob):
        return _of_map(job, result, covered)
    if isinstance(job, ClassifyJob):
        return _of_classes(job, result, covered)
    assert isinstance(job, CrossValidationJob)
    return of_cross_validation(job, result, covered)


def _of_groups(job: GroupedJob[Any], result: xr.Dataset, covered: Covered) -> Derived:
    """Return what the results of all groups should hold."""
    found: list[Derived] = []
    groups = results_of_groups(result)
    for i, (own, (words, alone)) in enumerate(zip(job.jobs, groups.items(), strict=True)):
        works = {name: job.works[f"{name}_{i}"] for name in own.works}

        def covered_of_group(name: str, work: Work, i: int = i) -> Densities | None:
            return covered(f"{name}_{i}", work)

        each = _derived(replace(own, works=works), alone, covered_of_group)
        named = tuple(_of_group(piece, i, words) for piece in each.pieces)
        found.append(replace(each, pieces=named))
    figures = job.together([each.figures for each in found])
    pieces = tuple(piece for each in found for piece in each.pieces)
    unverified = dict.fromkeys(name for each in found for name in each.unverified)
    return Derived(figures, pieces, tuple(unverified))


def _of_group(piece: Any, i: int, words: str) -> Piece:
    name = f"{piece.name}_{i}"
    if isinstance(piece, Kept):
        return replace(piece, name=name, words=f"{words}: {piece.words}")
    renamed: Piece = replace(piece, name=name)
    return renamed


def _of_score(job: ScoreJob, result: xr.Dataset, covered: Covered) -> Derived:
    source = Source({"score": stored_densities(result)}, covered)
    density, plain, unverified = _with_factors(job, result, covered)
    if "training" in job.works:
        work = job.works["training"]
        if covered("training", work) is None:
            limits = np.asarray(result["unusual_below"].values, np.float64)
            source.others["training"] = alike(limits, work.plan.query.rows)
            unverified.append("unusual_below")
    figures = plain.answer(source, no_methods())
    figures = figures.assign({} if density is None else density.variables())
    kept = _kept(source, "score", job.works["score"], density, result, weights=job.weights)
    return Derived(figures, (kept, *source.unkept(job.works)), tuple(unverified))


def _of_sweep(job: SweepJob, result: xr.Dataset, covered: Covered) -> Derived:
    source = Source({"valid": stored_densities(result)}, covered)
    if "test" in job.works:
        source.kept["test"] = stored_densities(result, "test_")
    density, plain, unverified = _with_factors(job, result, covered)
    figures = plain.answer(source, no_methods())
    figures = figures.assign({} if density is None else density.variables())
    pieces: list[Piece] = []
    for role, words in (("valid", "query rows"), ("test", "test rows")):
        if role not in source.kept:
            continue
        own, work = density, source.asked[role]
        if role == "test" and density is not None:
            (number,) = np.flatnonzero(job.fitted.bandwidths == work.task.bandwidths[0])
            own = density.at(int(number))
        pieces.append(
            _kept(
                source, role, work, own, result,
                weights=job.weights[role], words=words, prefix="test_" * (role == "test"),
            )
        )  # fmt: skip
    return Derived(figures, (*pieces, *source.unkept(job.works)), tuple(unverified))


def _of_map(job: MapJob, result: xr.Dataset, covered: Covered) -> Derived:
    source = Source({"score": stored_densities(result)}, covered)
    density, plain, unverified = _with_factors(job, result, covered)
    if job.levels.from_sample:
        work = job.works["sample"]
        if covered("sample", work) is None:
            known = np.asarray(result["level_density"].values, np.float64)
            plain = replace(plain, levels=_KnownLevels(job.levels.percents, job.levels.by, known))
            source.others["sample"] = alike(np.zeros(1), work.plan.query.rows)
            unverified.append("level_density")
    figures = plain.answer(source, no_methods())
    figures = figures.assign({} if density is None else density.variables())
    pieces: list[Piece] = [_kept(source, "score", job.works["score"], density, result)]
    for piece in source.unkept(job.works):
        if piece.name == "sample" and density is not None:
            if "bandwidth_scale" in unverified:
                continue  # with other factors, its blocks would be others
            piece = replace(piece, scored=scoring(density, "sample", piece.work))
        pieces.append(piece)
    return Derived(figures, tuple(pieces), tuple(unverified))


@dataclass(frozen=True)
class _KnownLevels(Levels):
    """Levels whose thresholds are those that a result holds."""

    known: Any = None

    def of_sample(self, densities: FloatArray, weights: FloatArray | None) -> FloatArray:
        """Return the thresholds of the result."""
        return np.array(self.known)


def _of_classes(job: ClassifyJob, result: xr.Dataset, covered: Covered) -> Derived:
    stored, log_priors = stored_posteriors(result), job.densities.log_priors
    classes = [name for name in job.works if name.startswith("score_")]
    source = Source(dict.fromkeys(classes, stored.total), covered)
    unverified: list[str] = []
    choosing = None
    if job.chooser is not None:
        try:
            choosing = job.posteriors("choice", source)
        except OpenError:
            unverified.append("choice_log_loss")
    figures = job.result(stored, choosing, no_methods())
    if job.chooser is not None and choosing is None:
        loss = np.asarray(result["choice_log_loss"].values, np.float64)
        best = best_index(job.densities.fitted[0].matrix.bandwidths, -loss)
        figures["best_bandwidth"] = float(np.asarray(job.coords["bandwidth"][1])[best])
    of_query = OfClasses("score", tuple(job.works[name] for name in classes), stored, log_priors)
    return Derived(figures, (of_query, *source.unkept(job.works)), tuple(unverified))


def _with_factors(
    job: Any, result: xr.Dataset, covered: Covered
) -> tuple[RowBandwidths | None, Any, list[str]]:
    """Return the density with factors from a pilot, if any, and the job without them.

    Figures follow from log-densities whatever the factors are.

    Returns
    -------
    density : RowBandwidths or None
        With the factors of the result, as long as not all of the pilot was computed again.
    job : Job
    unverified : list of str
    """
    fitted = job.fitted
    if fitted.options.adaptive is None:
        return None, job, []
    plain = replace(job, fitted=replace(fitted, options=replace(fitted.options, adaptive=None)))
    pilot = job.works[PILOT]
    found = covered(PILOT, pilot)
    if found is not None:
        return RowBandwidths.of(fitted, lambda *_: found, pilot), plain, []
    factors = np.atleast_2d(np.asarray(result["bandwidth_scale"].values, np.float64))
    return RowBandwidths(fitted, factors, np.zeros(len(factors))), plain, ["bandwidth_scale"]


def _kept(
    source: Source,
    name: str,
    work: Work,
    density: RowBandwidths | None,
    result: xr.Dataset,
    *,
    weights: RowWeights | None = None,
    words: str = "query rows",
    prefix: str = "",
) -> Kept:
    """Return the piece of work of rows that the result keeps."""
    scored = None if density is None else scoring(density, name, work)
    # With the factors of the result it is not known what these may be off by.
    wider = density is not None and density.off is not None and not density.off.any()
    return Kept(
        name if not wider else f"{name}, within bounds", work, source.kept[name], words, prefix,
        left_out(result, prefix), weights, scored, wider,
    )  # fmt: skip
