"""Pieces of work whose query blocks are computed again, and held against what a result keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from dkde.engine import eager_run
from dkde.engine.work import Work
from dkde.estimation.class_rows import ClassPosteriors
from dkde.estimation.judging import Judge
from dkde.estimation.row_weights import RowWeights
from dkde.numerics.logsum import Densities, Effort
from dkde.runs.store import MAIN
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for

# Takes the number of a query block, and its log-densities.
Receive = Callable[[int, Densities], None]
# Takes the number of a block that is right, whether it is so to the last bit, and its values
# where a result does not keep them.
Done = Callable[[int, bool, "FloatArray | None"], None]


class Piece(Protocol):
    """A piece of work of a result, by its name in the run."""

    @property
    def name(self) -> str:
        """Return the name of the piece of work."""

    @property
    def n_blocks(self) -> int:
        """Return the number of query blocks."""

    def check(self, numbers: Sequence[int], judge: Judge, done: Done) -> None:
        """Compute some query blocks again, and compare them.

        Raises
        ------
        DataSetError
            When one comes out different.
        """


def recomputed(work: Work, numbers: Iterable[int], receive: Receive) -> None:
    """Compute some query blocks again, and hand over the log-densities of each."""
    chosen, n_panels = set(numbers), work.plan.n_panels
    panels: dict[int, dict[int, FloatArray]] = {}

    def merge(block: tuple[int, int], part: FloatArray, is_whole: bool) -> None:
        # Panels finish in any order, and are merged in the plan's, for the same last bits.
        q, p = block
        panels.setdefault(q, {})[p] = part
        if is_whole or len(panels[q]) == n_panels:
            receive(q, work.densities((each for _, each in sorted(panels.pop(q).items())), q))

    with pool_for(work) as pool:
        eager_run.compute(work, pool, merge, only=lambda number: number // n_panels in chosen)


def of_block(name: str, work: Work, *, number: int) -> Densities:
    """Return the log-densities of one query block, computed again."""
    found: list[Densities] = []
    recomputed(work, [number], lambda _, each: found.append(each))
    return found[0]


@dataclass(frozen=True, eq=False)
class Kept:
    """A piece of work whose log-densities the result keeps.

    Parameters
    ----------
    name : str
    work : Work
    stored : Densities
        Of all rows.
    words : str
        The rows, for messages.
    prefix : str
        That of the names of the variables.
    left_out : tuple of str and int, optional
        The variable that says how many training rows were left out, and its value.
    weights : RowWeights, optional
        Of the rows: those without a weight may be left out.
    scored : callable, optional
        Returns the log-densities of the block of a number, where several works make them.
    wider : bool
        Whether the bounds of the result may be wider: they have what factors may be off by.
    in_bounds : bool
        Whether the result only has to agree within bounds: it was computed together with other
        bandwidths.
    """

    name: str
    work: Work
    stored: Densities
    words: str = "query rows"
    prefix: str = ""
    left_out: tuple[str, int] | None = None
    weights: RowWeights | None = None
    scored: Callable[[int], Densities] | None = None
    wider: bool = False
    in_bounds: bool = False

    @property
    def n_blocks(self) -> int:
        """Return the number of query blocks."""
        return self.work.plan.n_query_blocks

    def check(self, numbers: Sequence[int], judge: Judge, done: Done) -> None:
        """Compute some query blocks again, and compare them."""

        def compare(q: int, found: Densities) -> None:
            done(q, self._is_exact(q, found, judge), None)

        if self.scored is None:
            recomputed(self.work, numbers, compare)
            return
        for q in numbers:
            compare(q, self.scored(q))

    def _is_exact(self, q: int, found: Densities, judge: Judge) -> bool:
        start, stop = self.work.plan.query_block(q)
        rows, which = slice(start, stop), f"{self.words} {start} to {stop}"
        found = self._without_weightless(found, rows)
        values, errors, effort = found
        stored, bounds = self.stored.values[:, rows], self.stored.errors[:, rows]
        if self.wider:
            errors = np.where(errors <= bounds, bounds, errors)
        exact = (judge.leniently if self.in_bounds else judge).is_exact(
            which, f"{self.prefix}{MAIN}", (values, errors), (stored, bounds)
        )
        if not self.in_bounds:
            judge.counts(which, *_counts(effort, self.stored.effort, rows, self.prefix))
        if self.left_out is not None and (there := effort.missing[~found.missing]).size:
            name, number = self.left_out
            judge.counts(which, {name: there.max()}, {name: number})
        return exact or self.in_bounds

    def _without_weightless(self, found: Densities, rows: slice) -> Densities:
        if self.weights is None or self.weights.read is None:
            return found
        if not self.weights.side.rows.drops_missing:
            return found
        stacked = found.stacked()
        stacked[:, np.isnan(self.weights.read[rows])] = np.nan
        return Densities.of(stacked)


@dataclass(frozen=True, eq=False)
class Unkept:
    """A piece of work of whose log-densities the result keeps figures alone.

    Its blocks are only computed. Once all are there, the figures follow from them.
    """

    name: str
    work: Work
    scored: Callable[[int], Densities] | None = None

    @property
    def n_blocks(self) -> int:
        """Return the number of query blocks."""
        return self.work.plan.n_query_blocks

    def check(self, numbers: Sequence[int], judge: Judge, done: Done) -> None:
        """Compute some query blocks."""

        def keep(q: int, found: Densities) -> None:
            done(q, True, found.stacked())

        if self.scored is None:
            recomputed(self.work, numbers, keep)
            return
        for q in numbers:
            keep(q, self.scored(q))


@dataclass(frozen=True, eq=False)
class OfClasses:
    """The query under each class, of which a result keeps posteriors.

    Parameters
    ----------
    name : str
    works : tuple of Work
        Of each class. The query blocks are those of the first.
    stored : ClassPosteriors
    log_priors : array (n_classes,)
    """

    name: str
    works: tuple[Work, ...]
    stored: ClassPosteriors
    log_priors: FloatArray

    @property
    def n_blocks(self) -> int:
        """Return the number of query blocks."""
        return self.works[0].plan.n_query_blocks

    def check(self, numbers: Sequence[int], judge: Judge, done: Done) -> None:
        """Compute some query blocks again under each class, and compare the posteriors."""
        for q in numbers:
            rows = slice(*self.works[0].plan.query_block(q))
            which = f"query rows {rows.start} to {rows.stop}"
            again = ClassPosteriors.of(
                [_rows_again(work, rows) for work in self.works], self.log_priors
            )
            stored, total = self.stored, self.stored.total
            pairs = {
                "log_posterior": (
                    (again.log_posteriors, again.errors),
                    (stored.log_posteriors, stored.errors),
                ),
                MAIN: (again.total[:2], total[:2]),
            }
            exact = [
                judge.is_exact(which, name, found, (kept[0][..., rows], kept[1][..., rows]))
                for name, (found, kept) in pairs.items()
            ]
            judge.counts(which, *_counts(again.total.effort, total.effort, rows))
            done(q, all(exact), None)


def _counts(
    found: Effort, stored: Effort, rows: slice, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the counts of rows as they were found, and as they are stored, where they are."""
    if not stored.pairs.any():  # a store of an older version
        return {}, {}
    names = f"{prefix}pairs_evaluated", f"{prefix}rows_read"
    kept = stored.pairs[rows], stored.read[rows]
    return dict(zip(names, found[:2], strict=True)), dict(zip(names, kept, strict=True))


def _rows_again(work: Work, rows: slice) -> Densities:
    """Return the log-densities of a range of query rows, recomputed, block by block."""
    size = work.plan.query_rows
    first, last = rows.start // size, (rows.stop - 1) // size
    found: dict[int, FloatArray] = {}
    recomputed(work, range(first, last + 1), lambda q, each: found.__setitem__(q, each.stacked()))
    before = first * size
    whole = np.concatenate([each for _, each in sorted(found.items())], axis=1)
    return Densities.of(whole[:, rows.start - before : rows.stop - before])


def scoring(density: Any, name: str, work: Work) -> Callable[[int], Densities]:
    """Return a function that computes a block again under a density whose rows have factors.

    Parameters
    ----------
    density : RowBandwidths
    """
    return lambda q: density.score(name, work, partial(of_block, number=q))
