"""Moments of all training rows: made panel by panel on the workers, once for all query blocks."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dkde.engine.cells import BESIDE_BYTES, TIMES, PanelMoments, gathered
from dkde.engine.leaf_plan import MOMENT_BYTES
from dkde.engine.pool import Pool
from dkde.engine.reading import Reading
from dkde.engine.reads import Reads
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
Arrays = dict[str, npt.NDArray[Any]]
# Of rows in sparse cells: their side in the narrowest bandwidths, and the rows of a panel in one.
_SIDE, _LEAST_MOST = 2.0, 32
_OF_ROWS = "sparse_"


class Beside(Protocol):
    """A place for what is kept beside blocks."""

    def beside(self, name: str) -> bytes | None:
        """Return what is kept under a name."""

    def put_beside(self, name: str, content: bytes) -> None:
        """Keep something under a name."""

    def agreed(self, name: str, content: bytes) -> bytes:
        """Return what the first of all who asked gave under a name."""

    def has_panels(self) -> bool:
        """Return whether there are partial results of single panels."""


class PanelArrays(NamedTuple):
    """The moments of a panel, and its rows in sparse cells, as arrays."""

    arrays: Arrays
    read: BytesRead


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

    Those of a single panel in memory are made when they are first needed, and then shared.
    """
    stays = work.train.rows.is_held and work.plan.n_panels == 1
    plain = work.query.groups is None and survey.grid is None
    return bool(survey.by_cells) and plain and not stays


def is_read_once(work: Work, survey: Survey) -> bool:
    """Return whether these moments are all that blocks need of training rows, but for a few."""
    return has_whole(work, survey) and len(survey.by_cells) == survey.n_bandwidths


def with_whole(
    work: Work,
    survey: Survey,
    pool: Pool,
    keep: Beside | None = None,
    count_read: Callable[[BytesRead], None] | None = None,
) -> Survey:
    """Return a survey with the moments of all training rows, where these are to be made.

    Parameters
    ----------
    work : Work
    survey : Survey
    pool : Pool
    keep : Beside, optional
        The place that keeps the moments of panels, which then are made once a run. Its first
        session decides what moments there are; a run that has partial results of panels already,
        as an earlier version left them, goes on panel by panel.
    count_read : callable, optional
        Called with the bytes that were read for each panel.
    """
    is_wanted = has_whole(work, survey)
    if keep is not None and (is_wanted or keep.beside(_CHOICE) is not None):
        survey, is_wanted = _agreed(survey, keep, is_wanted and not keep.has_panels())
    if not is_wanted:
        return survey
    plan = work.plan
    panels = tuple(plan.panel(p) for p in range(plan.n_panels))

    def missing() -> Iterator[tuple[tuple[int, int], tuple[Any, ...]]]:
        for p, panel in enumerate(panels):
            if keep is None or (found := _kept(keep, p)) is None:
                yield (p, 0), (work.train, work.task, survey, panel, len(panels))
            else:
                waiting[p] = found if p == following else None
                del found
                merge()

    whole = _empty(work.train, work.task, survey, panels)
    # None stands for arrays that are kept, and read again when it is their turn.
    waiting: dict[int, Arrays | None] = {}
    n_read = n_missing = following = 0

    def merge() -> None:
        """Merge what is there, in the order of the panels: the last bits depend on it."""
        nonlocal n_read, n_missing, following
        while following in waiting:
            arrays = waiting.pop(following)
            if arrays is None:
                assert keep is not None
                if (arrays := _kept(keep, following)) is None:
                    raise DataSetError(
                        f"the moments of panel {following} of the training rows were damaged "
                        "meanwhile; make the same call again"
                    )
            moments, sparse, counts = _unpacked(whole, arrays)
            whole.moments.merge(moments)
            whole.sparse.merge(sparse)
            n_read, n_missing = n_read + counts[0], n_missing + counts[1]
            following += 1

    def fail(p: int, _: int, error: BaseException) -> None:
        raise error  # twice, at two workers: no block could be computed without the panel

    trials = Trials(pool, None if keep is None else fail)
    with closing(completed(pool, panel_arrays, missing(), trials)) as made:
        for (p, _), found in made:
            trials.succeeded = True
            if keep is not None:
                keep.put_beside(_name(p), _packed(found.arrays))
            if count_read is not None:
                count_read(found.read)
            waiting[p] = found.arrays if keep is None or p == following else None
            del found
            merge()
    merge()
    return replace(survey, whole=replace(whole, n_read=n_read, n_missing=n_missing))


def panel_arrays(
    train: Side, task: Task, survey: Survey, panel: Range, n_panels: int
) -> PanelArrays:
    """Return the moments of a panel's rows, and those of its rows that are in sparse cells."""
    with one_blas_thread(), counting() as tally:
        rows, frame, origin = train.rows, *_frame(train, task, survey)
        empty = _empty(train, task, survey, (panel,), max(_LEAST_MOST, MOST_IN_CELL // n_panels))
        reads = Reads(list(rows.ranges(*panel)))
        with closing(reads.readings(train, task, origin, None)) as readings:
            gathering = _watched(readings, empty.sparse, frame, train, task)
            moments, n_read, n_missing = gathered(
                gathering, rows, survey.for_moments(task), frame, list(survey.by_cells), None,
                most_bytes=_most_bytes(rows.n_features),
            )  # fmt: skip
        of_rows = {_OF_ROWS + name: each for name, each in empty.sparse.arrays().items()}
        counts = {"counts": np.array([n_read, n_missing])}
        return PanelArrays({**moments.arrays(), **of_rows, **counts}, tally.found)


def _watched(
    readings: Iterator[Reading], sparse: SparseRows, frame: Frame, train: Side, task: Task
) -> Iterator[Reading]:
    """Yield what is read, and gather rows in sparse cells; none where a pair may weigh more."""
    is_plain = train.weights is None and task.images is None
    for read in readings:
        with np.errstate(over="ignore", invalid="ignore"):  # reported by whoever takes the rows
            coordinates = Points.of(read.values, frame).coordinates
        yield read
        if is_plain:
            sparse.add(coordinates, read.values)
        del read, coordinates
    if not is_plain:
        sparse.lost = True


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
    moments = CellMoments(n_axes, bandwidths, tol, most_bytes=_most_bytes(n_axes))
    sparse = SparseRows(n_axes, _SIDE * float(bandwidths.min()), most)
    return WholeMoments(moments, sparse, 0, 0, chosen, panels)


def _most_bytes(n_axes: int) -> int:
    return int((MOMENT_BYTES[n_axes] - BESIDE_BYTES) / TIMES)


def _unpacked(whole: WholeMoments, arrays: Arrays) -> tuple[CellMoments, SparseRows, list[int]]:
    moments = whole.moments.empty().filled(arrays)
    of_rows = {
        name.removeprefix(_OF_ROWS): each
        for name, each in arrays.items()
        if name.startswith(_OF_ROWS)
    }
    sparse = whole.sparse.empty().filled(of_rows)
    return moments, sparse, arrays["counts"].tolist()


# What is kept in a run: what the moments are of, which its first session decides, and those of each
# panel.
_CHOICE = "moments.json"


def _name(p: int) -> str:
    return f"moments-{p}.npz"


def _agreed(survey: Survey, keep: Beside, is_whole: bool) -> tuple[Survey, bool]:
    """Return the survey with the moments that a run is to have, and whether it has any."""
    mine = {
        "whole": is_whole,
        "bandwidths": list(survey.by_cells),
        "tol": survey.cell_tol,
        "reference": survey.reference.tolist(),
    }
    said = json.loads(keep.agreed(_CHOICE, json.dumps(mine).encode()))
    if said == mine or not said["whole"]:
        return survey, bool(said["whole"])
    at = np.array(said["reference"], survey.reference.dtype)
    chosen = tuple(map(int, said["bandwidths"]))
    return replace(survey, reference=at, by_cells=chosen, cell_tol=said["tol"]), True


def _packed(arrays: Arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _kept(keep: Beside, p: int) -> Arrays | None:
    """Return what is kept of a panel; None where it is missing or damaged."""
    content = keep.beside(_name(p))
    if content is None:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # damaged files raise many kinds
        return None
