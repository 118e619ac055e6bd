"""Moments of all training rows: made panel by panel on the workers, once for all query blocks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from dkde.engine.cells import PanelMoments, gathered
from dkde.engine.kept_moments import (
    Arrays,
    Beside,
    agreed,
    give_up,
    is_agreed,
    kept_panel,
    name_of,
    packed,
)
from dkde.engine.leaf_plan import MOMENT_BYTES, most_moment_bytes
from dkde.engine.pool import Pool, worker_here
from dkde.engine.reading import Reading
from dkde.engine.reads import Reads
from dkde.engine.stopwatch import PREPARE, spent, timed
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.engine.window import Trials, completed
from dkde.engine.work import Work
from dkde.errors import DataSetError
from dkde.numerics.cell_coefficients import Coefficients
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.frame import Frame, Points
from dkde.numerics.sparse_rows import MOST_IN_CELL, SparseRows
from dkde.rows.side import Side
from dkde.rows.tally import BytesRead, counting

Range = tuple[int, int]
# Of rows in sparse cells: their side in the narrowest bandwidths, and the rows of a panel in one.
_SIDE, _LEAST_MOST = 2.0, 32
_OF_ROWS = "sparse_"


class PanelArrays(NamedTuple):
    """The moments of a panel, and its rows in sparse cells, as arrays.

    Parameters
    ----------
    arrays : dict of arrays
    spent, read, worker
        As of a :class:`~dkde.engine.blocks.ShareOfBlock`.
    """

    arrays: Arrays
    spent: Mapping[str, float]
    read: BytesRead
    worker: str | None


# A function that is called with a panel's number, what was made of it, and the seconds in which it
# was kept.
Made = Callable[[int, PanelArrays, float], None]


@dataclass(frozen=True, eq=False)
class WholeMoments:
    """The moments of all training rows, and the rows that sums of lone query rows need.

    Parameters
    ----------
    moments : CellMoments
    sparse : SparseRows
    n_read, n_missing : int
        The training rows that were read, and those of them that were left out.
    chosen : list of int
        The bandwidths of the task that moments were wanted at.
    panels : tuple of (int, int)
        The panels of training rows, to read them again where all else fails.
    """

    moments: CellMoments
    sparse: SparseRows
    n_read: int
    n_missing: int
    chosen: tuple[int, ...]
    panels: tuple[Range, ...]

    @property
    def kept(self) -> list[int]:
        """Return the bandwidths of the task that have moments."""
        return [self.chosen[k] for k in self.moments.kept]

    @property
    def nbytes(self) -> int:
        """Return the bytes of the moments, and of the rows."""
        rows = self.sparse.rows
        return self.moments.nbytes + (0 if rows is None else rows.nbytes)

    def of_panel(self) -> PanelMoments:
        """Return the moments as those of a panel that is all training rows."""
        kept = self.kept
        sets = self.moments.others() if self.n_read > self.n_missing else []
        made = [Coefficients(each, share=1 / len(kept)) for each in sets]
        return PanelMoments(kept, made, self.n_read, self.n_missing)


def has_whole(work: Work, survey: Survey) -> bool:
    """Return whether moments of all training rows are to be made once for all query blocks.

    Those of a single panel in memory are made when they are first needed, and then shared. Where
    they take too many bytes together they are made panel by panel, and so are they where query
    blocks together read less than all rows, as the other chunks are too far away.
    """
    if survey.summaries is not None and work.plan.n_query_blocks * survey.share_read <= 1:
        return False
    stays = work.train.rows.is_held and work.plan.n_panels == 1
    plain = work.query.groups is None and survey.grid is None
    return bool(survey.by_cells) and survey.is_whole_small and plain and not stays


def is_read_once(work: Work, survey: Survey) -> bool:
    """Return whether these moments are all that blocks need of training rows, but for a few."""
    return has_whole(work, survey) and len(survey.by_cells) == survey.n_bandwidths


def as_agreed(work: Work, survey: Survey, keep: Beside | None) -> tuple[Survey, bool]:
    """Return the survey as the first session of a run had it, and whether it gets whole moments.

    Parameters
    ----------
    work : Work
    survey : Survey
    keep : Beside, optional
        The place that keeps the moments of panels, which then are made once a run. Its first
        session decides what moments there are; a run that has partial results of panels already,
        as an earlier version left them, goes on panel by panel. So does one whose moments took too
        many bytes together.
    """
    is_wanted = has_whole(work, survey)
    if keep is not None and (is_wanted or is_agreed(keep)):
        return agreed(survey, keep, is_wanted and not keep.has_panels())
    return survey, is_wanted


def with_made(
    work: Work,
    survey: Survey,
    pool: Pool,
    keep: Beside | None = None,
    made: Made | None = None,
    first: int = 0,
) -> Survey:
    """Make the moments of all training rows, and return the survey that has them.

    Parameters
    ----------
    work, survey, keep
        As for :func:`as_agreed`, which says that the survey gets whole moments.
    pool : Pool
    made : callable, optional
        Called with each panel that is made, and not kept already.
    first : int
        The panel whose moments are made first, where they are kept: sessions that begin together
        so share the work.
    """
    panels = tuple(map(work.plan.panel, range(work.plan.n_panels)))
    merging = _Merging(_empty(work.train, work.task, survey, panels), keep)

    def fail(p: int, _: int, error: BaseException) -> None:
        raise error  # twice, at two workers: no block could be computed without the panel

    trials = Trials(pool, None if keep is None else fail)
    calls = _Calls(work, survey, pool, merging, 0 if keep is None else first)
    with closing(completed(pool, panel_arrays, calls.next, trials)) as panels_made:
        for (p, _), found in panels_made:
            trials.succeeded = True
            start = perf_counter()
            if keep is not None:
                keep.put_beside(name_of(p), packed(found.arrays))
            if made is not None:
                made(p, found, perf_counter() - start)
            merging.put(p, found.arrays)
            del found
            if merging.is_given_up:
                break
    if merging.is_given_up:
        if keep is not None:
            give_up(keep)
        return survey
    return replace(survey, whole=merging.found())


class _Merging:
    """Moments of panels that are merged in the order of the panels: the last bits depend on it.

    Parameters
    ----------
    whole : WholeMoments
        Of no rows.
    keep : Beside, optional
        The place that keeps the moments of panels.
    """

    def __init__(self, whole: WholeMoments, keep: Beside | None) -> None:
        self._whole, self.keep = whole, keep
        # None stands for arrays that are kept, and read again when it is their turn.
        self._waiting: dict[int, Arrays | None] = {}
        self._n_read = self._n_missing = self._largest = 0
        self.following = 0

    def put(self, p: int, arrays: Arrays) -> None:
        """Merge the arrays of a panel, and those that waited for it; else let them wait."""
        self._largest = max(self._largest, sum(each.nbytes for each in arrays.values()))
        is_held = self.keep is None or p == self.following
        self._waiting[p] = arrays if is_held else None
        del arrays
        while self.following in self._waiting:
            self._merge(self._waiting.pop(self.following))
            self.following += 1

    @property
    def is_given_up(self) -> bool:
        """Return whether panels have moments at no bandwidth together, and may have so alone."""
        return len(self._whole.panels) > 1 and not self._whole.moments.kept

    def most_ahead(self, n_threads: int) -> int:
        """Return how many panels there may be from the one that is merged next on.

        Those that wait take about as much as the plan gives them, beside one for each thread.
        """
        n_axes = self._whole.sparse.n_axes
        fit = MOMENT_BYTES[n_axes] // self._largest if self._largest else 1
        return n_threads + max(1, min(n_threads, fit))

    def found(self) -> WholeMoments:
        """Return the moments of all panels."""
        return replace(self._whole, n_read=self._n_read, n_missing=self._n_missing)

    def _merge(self, arrays: Arrays | None) -> None:
        if arrays is None:
            assert self.keep is not None
            if (arrays := kept_panel(self.keep, self.following)) is None:
                raise DataSetError(
                    f"the moments of panel {self.following} of the training rows were damaged "
                    "meanwhile; make the same call again"
                )
        moments, sparse, (n_read, n_missing) = _unpacked(self._whole, arrays)
        self._whole.moments.merge(moments)
        self._whole.sparse.merge(sparse)
        self._n_read, self._n_missing = self._n_read + n_read, self._n_missing + n_missing


class _Calls:
    """The calls for panels that are not kept by anyone as their turn comes."""

    def __init__(
        self, work: Work, survey: Survey, pool: Pool, merging: _Merging, first: int
    ) -> None:
        self._work, self._survey, self._pool, self._merging = work, survey, pool, merging
        self._next, self._first = 0, first

    def next(self) -> tuple[tuple[int, int], tuple[Any, ...]] | None:
        """Return the next call.

        None where there are no more, and also, where nothing keeps what is made, while the next
        panel is too far ahead of the one that is merged next.
        """
        work, keep = self._work, self._merging.keep
        while self._next < work.plan.n_panels and self._goes_on:
            p = (self._first + self._next) % work.plan.n_panels
            self._next += 1
            if keep is None or (found := kept_panel(keep, p)) is None:
                panel = work.plan.panel(p)
                return (p, 0), (work.train, work.task, self._survey, panel, work.plan.n_panels)
            self._merging.put(p, found)
            del found
        return None

    @property
    def _goes_on(self) -> bool:
        ahead = self._next - self._merging.following
        if self._merging.is_given_up:
            return False
        return self._merging.keep is not None or ahead < self._merging.most_ahead(self._pool.room())


def panel_arrays(
    train: Side, task: Task, survey: Survey, panel: Range, n_panels: int
) -> PanelArrays:
    """Return the moments of a panel's rows, and those of its rows that are in sparse cells."""
    with one_blas_thread(), timed() as watch, spent(PREPARE), counting() as tally:
        rows, frame, origin = train.rows, *_frame(train, task, survey)
        empty = _empty(train, task, survey, (panel,), max(_LEAST_MOST, MOST_IN_CELL // n_panels))
        reads = Reads(list(rows.ranges(*panel)))
        with closing(reads.readings(train, task, origin, None)) as readings:
            gathering = _watched(readings, empty.sparse, frame, task)
            moments, n_read, n_missing = gathered(
                gathering, rows, survey.for_moments(task), frame, list(survey.by_cells), None,
                most_bytes=most_moment_bytes(rows.n_features),
            )  # fmt: skip
        of_rows = {_OF_ROWS + name: each for name, each in empty.sparse.arrays().items()}
        counts = {"counts": np.array([n_read, n_missing])}
        arrays = {**moments.arrays(), **of_rows, **counts}
    return PanelArrays(arrays, watch.spent, tally.found, worker_here())


def _watched(
    readings: Iterator[Reading], sparse: SparseRows, frame: Frame, task: Task
) -> Iterator[Reading]:
    """Yield what is read, and gather rows in sparse cells; none where images are near as well."""
    if task.images is not None:
        sparse.lost = True
    for read in readings:
        yield read
        if not sparse.lost:
            sparse.add(Points.of(read.values, frame).coordinates, read.values, read.weights)
        del read


def _frame(train: Side, task: Task, survey: Survey) -> tuple[Frame, Any]:
    """Return the frame of cells, which is in float64, and what is subtracted before a map."""
    mapped = train.rows.linear is not None
    frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
    return replace(frame, precision="float64"), survey.reference if mapped else None


def _empty(
    train: Side, task: Task, survey: Survey, panels: tuple[Range, ...], most: int = MOST_IN_CELL
) -> WholeMoments:
    n_axes, chosen = train.rows.n_features, survey.by_cells
    bandwidths = task.bandwidths[list(chosen)] / task.unit
    tol = survey.for_moments(task).tol
    moments = CellMoments(n_axes, bandwidths, tol, most_bytes=most_moment_bytes(n_axes))
    sparse = SparseRows(n_axes, _SIDE * float(bandwidths.min()), most)
    return WholeMoments(moments, sparse, 0, 0, chosen, panels)


def _unpacked(whole: WholeMoments, arrays: Arrays) -> tuple[CellMoments, SparseRows, list[int]]:
    moments = whole.moments.empty().filled(arrays)
    of_rows = {
        name.removeprefix(_OF_ROWS): each
        for name, each in arrays.items()
        if name.startswith(_OF_ROWS)
    }
    sparse = whole.sparse.empty().filled(of_rows)
    return moments, sparse, arrays["counts"].tolist()
