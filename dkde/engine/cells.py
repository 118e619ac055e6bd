"""Moments of a panel's rows in cells, and the sums of query rows by them."""

from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.leaf_plan import BESIDE_BYTES, MOMENT_BYTES, TIMES
from dkde.engine.reading import Reading, check_finite
from dkde.engine.stopwatch import PREPARE, spent
from dkde.engine.task import Task
from dkde.numerics.cell_coefficients import Coefficients
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.cell_sums import Marks, Own, cells_of, log_sums
from dkde.numerics.frame import Frame, Points
from dkde.numerics.images import Images, Near
from dkde.numerics.moment_set import MomentSet, reach_for
from dkde.rows.side import Rows
from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class PanelMoments:
    """The moments of a panel's rows.

    Parameters
    ----------
    kept : list of int
        The bandwidths of the task that have moments.
    coefficients : list of Coefficients
        At these bandwidths.
    n_read, n_missing : int
        How many rows were read, and how many of these left out.
    """

    kept: list[int]
    coefficients: list[Coefficients]
    n_read: int
    n_missing: int
    _expected: set[Hashable] = field(default_factory=set)
    _lock: Any = field(default_factory=Lock)

    def expect(self, name: Hashable, values: Any, frame: Frame) -> None:
        """Expect query rows, of which the sums will be asked for a few at a time.

        Parameters
        ----------
        name : hashable
            Of these rows, which are looked at once.
        values : array (rows, n_features)
            As they were read.
        frame : Frame
        """
        with self._lock:
            if name in self._expected:
                return
            coordinates = Points.of(values, frame).coordinates
            for each in self.coefficients:
                each.expect(cells_of(coordinates, each))
            self._expected.add(name)

    def log_sums(
        self, values: Any, task: Task, frame: Frame, *, whole: bool,
        origin: FloatArray | None = None,
    ) -> tuple[FloatArray, Marks]:  # fmt: skip
        """Return the partial result of query rows, and which of their sums have to be of pairs.

        Parameters
        ----------
        values : array (rows, n_features)
            The query rows as they were read.
        task : Task
            The computation of every pair.
        frame : Frame
            The frame of both sides.
        whole : bool
            True if the panel is all training rows. A bound relative to |log p| needs log p, which
            the sums of a single panel do not give.
        origin : array (n_stored_features,), optional
            What was subtracted from rows before they were mapped.

        Returns
        -------
        array (2 n_kept + 4, rows), array (n_kept, rows) of bool
        """
        return sums_at(
            values, self.coefficients, self.kept, task, frame, whole=whole, origin=origin
        )


def sums_at(
    values: Any,
    coefficients: list[Coefficients],
    kept: list[int],
    task: Task,
    frame: Frame,
    *,
    whole: bool,
    origin: FloatArray | None = None,
    own: Own | None = None,
) -> tuple[FloatArray, Marks]:
    """Return the partial result of query rows, and which of their sums have to be of pairs.

    Parameters
    ----------
    values : array (rows, n_features)
        The query rows as they were read.
    coefficients : list of Coefficients
    kept : list of int
        The bandwidths of the task that these are at.
    task, frame, whole, origin
        As for :meth:`PanelMoments.log_sums`.
    own : Own, optional
        Training rows that do not count.
    """
    norms = np.array(task.log_norms(frame.n_features))[kept] if whole else None
    log_cut = task.log_cut(frame.n_features)
    return log_sums(
        Points.of(values, frame).coordinates,
        coefficients,
        tol=task.tol,
        log_cut=None if log_cut is None else log_cut[kept],
        log_norms=norms,
        # Differences of integers are exact, and so are rows minus a reference row of zeros.
        rounded=not task.integer and bool(frame.reference.any()),
        own=own,
        images=None if task.images is None else partial(_near, task.images, values, frame, origin),
        n_copies=task.n_copies,
    )


def _near(
    images: Images, values: Any, frame: Frame, origin: FloatArray | None, reach: float
) -> Iterator[Near]:
    """Yield the images of query rows in the frame that are within reach of the support."""
    for near in images.near(values, origin, reach):
        yield replace(near, rows=Points.of(near.rows, frame).coordinates)


class Beyond:
    """The training rows that are not read, as they lie beyond reach of every query row.

    Parameters
    ----------
    task : Task
    n_axes : int
    """

    def __init__(self, task: Task, n_axes: int) -> None:
        widest = MomentSet(n_axes, float(task.bandwidths.max()) / task.unit, task.tol)
        reach = widest.side * reach_for(widest.ratio, widest.tol, task.n_train)
        self._squared = reach * reach
        self.n_rows = 0

    def leaves_out(self, n_rows: int, squared: npt.NDArray[Any]) -> bool:
        """Leave out rows of weight one that cannot matter; return whether that was so."""
        if not float(squared.min()) > self._squared:
            return False
        self.n_rows += n_rows
        return True


@spent(PREPARE)
def panel_moments(
    readings: Iterable[Reading],
    rows: Rows,
    task: Task,
    frame: Frame,
    chosen: list[int],
    beyond: Beyond | None = None,
) -> PanelMoments:
    """Add up the moments of training rows as they are read.

    Parameters
    ----------
    readings : iterable of Reading
    rows : Rows
        The training rows, for messages.
    task : Task
        The computation of every pair.
    frame : Frame
        The frame of both sides, in float64.
    chosen : list of int
        The bandwidths of the task at which moments are wanted. Of the narrowest there are none
        where they take more memory than the plan gives: where the survey's sample missed rows far
        out, each of which needs a cell of its own.
    beyond : Beyond, optional
        The rows that are not read.

    Raises
    ------
    InputError
        When a value is infinite, or NaN and to be refused.
    """
    most_bytes = int((MOMENT_BYTES[rows.n_features] - BESIDE_BYTES) / TIMES)
    moments, n_read, n_missing = gathered(
        readings, rows, task, frame, chosen, beyond, most_bytes=most_bytes
    )
    kept = [chosen[k] for k in moments.kept]
    coefficients = [Coefficients(each, share=1 / len(kept)) for each in moments.others()]
    return PanelMoments(kept, coefficients, n_read, n_missing)


def gathered(
    readings: Iterable[Reading],
    rows: Rows,
    task: Task,
    frame: Frame,
    chosen: list[int],
    beyond: Beyond | None,
    *,
    most_bytes: int,
    pool: Executor | None = None,
) -> tuple[CellMoments, int, int]:
    """Return moments of training rows, and how many rows were read and how many left out.

    Parameters
    ----------
    readings, rows, task, frame, chosen, beyond
        As for :func:`panel_moments`.
    most_bytes : int
        That the moments may take.
    pool : Executor, optional
        Threads that share the work.
    """
    bandwidths = task.bandwidths[chosen] / task.unit
    moments = CellMoments(rows.n_features, bandwidths, task.tol, most_bytes=most_bytes)
    n_read = n_missing = 0
    for read in readings:
        points = Points.of(read.values, frame)
        check_finite(read.values, points.norms, rows, read.numbers)
        moments.add(points.coordinates, read.weights, pool=pool)
        n_read += len(read.values) + read.n_missing
        n_missing += read.n_missing
        del read  # frees memory before the next but one is read
    if beyond is not None:
        moments.count(beyond.n_rows)
    return moments, n_read, n_missing
