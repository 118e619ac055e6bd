"""Moments of training rows of Gaussian kernels, at several bandwidths and group by group.

They are made once a process for all query rows.

**Groups.** The moments of all rows but one group's are the sum of the other groups' moments.
Nothing is subtracted, so nothing cancels.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from math import frexp, ldexp
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.moment_set import MomentSet
from dkde.typing import FloatArray

_PART = 2**18  # rows that are put in order together: their places stay in the caches
_RESCALED_AT = 256  # weights that are so many powers of two above the unit raise it

Codes = npt.NDArray[np.int32]


class CellMoments:
    """The moments of training rows at some bandwidths, group by group where groups are few.

    Parameters
    ----------
    n_axes : int
        From 1 to 3.
    bandwidths : sequence of float
    tol : float
        The tolerance of log-densities.
    order
        As for :class:`MomentSet`.
    most_bytes : int, optional
        The narrowest bandwidths are given up where the moments would take more.

    Attributes
    ----------
    kept : list of int
        Which bandwidths have moments still, the widest first.
    """

    def __init__(
        self,
        n_axes: int,
        bandwidths: Sequence[float] | FloatArray,
        tol: float,
        *,
        order: int | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self._empty = [MomentSet(n_axes, float(h), tol, order) for h in bandwidths]
        self._most_bytes = most_bytes
        self.kept = sorted(range(len(self._empty)), key=lambda k: (-self._empty[k].h, k))
        self._sets: dict[int, dict[int, MomentSet]] = {}  # by code, by bandwidth
        self._shift: int | None = None

    @property
    def nbytes(self) -> int:
        """Return the bytes of all moments."""
        return sum(each.nbytes for sets in self._sets.values() for each in sets.values())

    @property
    def codes(self) -> list[int]:
        """Return the codes of the groups that have rows."""
        return sorted(self._sets)

    def add(
        self,
        values: FloatArray,
        weights: FloatArray | None = None,
        codes: Codes | None = None,
        *,
        pool: Executor | None = None,
    ) -> None:
        """Add training rows.

        Parameters
        ----------
        values : array (rows, n_axes)
            float64, less a row amid the data.
        weights : array (rows,), optional
            Non-negative; ones by default. Rows of weight zero do not count.
        codes : array (rows,), optional
            Groups by code, from 0; for few groups, whose moments are kept apart.
        pool : Executor, optional
            Threads that share the work; no bit depends on their number.
        """
        values = np.ascontiguousarray(values, np.float64)
        for code in [0] if codes is None else np.unique(codes).tolist():
            chosen = _chosen(weights, codes, code)
            rows = values if chosen is None else values[chosen]
            if not len(rows):
                continue
            if weights is not None and chosen is not None:
                scaled = weights[chosen]
            else:
                scaled = np.ones(len(rows)) if weights is None else weights
            self._settle(int(np.frexp(scaled.max())[1]))
            scaled = np.ldexp(scaled, -(self._shift or 0))
            for start in range(0, len(rows), _PART):
                part = slice(start, start + _PART)
                self._add(rows[part], scaled[part], code, pool)

    def _add(
        self, values: FloatArray, weights: FloatArray, code: int, pool: Executor | None
    ) -> None:
        sets = self._of(code)
        held = self.nbytes
        for k in list(self.kept):
            before = sets[k].nbytes
            numbers = sets[k].located(values)
            # Before the room is taken: rows all over the place may need gigabytes.
            more = sets[k].needed() - before
            if self._most_bytes is not None and held + more > self._most_bytes:
                self._give_up(k)
                return
            held += more
            sets[k].add(values, weights, numbers, pool)

    def count(self, n_rows: int, weight: float | None = None, code: int = 0) -> None:
        """Count rows that were not read, as they are beyond reach of every query row.

        Parameters
        ----------
        n_rows : int
        weight : float, optional
            Of all of them together; one each by default.
        code : int
            The group that they are of.
        """
        weight = float(n_rows) if weight is None else weight
        if n_rows and weight > 0:
            self._settle(frexp(weight)[1])
            for each in self._of(code).values():
                each.count(n_rows, ldexp(weight, -each.shift))

    def empty(self) -> "CellMoments":
        """Return moments of no rows, at the same bandwidths."""
        found = CellMoments.__new__(CellMoments)
        found._empty, found._most_bytes = self._empty, self._most_bytes
        found.kept = sorted(range(len(self._empty)), key=lambda k: (-self._empty[k].h, k))
        found._sets, found._shift = {}, None
        return found

    def merge(self, other: "CellMoments") -> None:
        """Add the moments of other rows of no groups, at the same bandwidths.

        Those that the others have given up are given up here, and so are the narrowest where all
        would take too many bytes.
        """
        # Others that keep nothing have given all up, and not seen no rows.
        if missing := [k for k in self.kept if k not in other.kept]:
            self._give_up(missing[0])
        if other._shift is None:
            return
        self._settle(other._shift)
        mine = self._of(0)
        for k in self.kept:
            theirs = other._sets[0][k]
            theirs.rescale(self._shift or 0)
            mine[k].merge(theirs)
        while self._most_bytes is not None and self.kept and self.nbytes > self._most_bytes:
            self._give_up(self.kept[-1])

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the moments of rows of no groups as arrays, by names."""
        found: dict[str, npt.NDArray[np.generic]] = {"kept": np.array(self.kept, np.int64)}
        for k, each in self._sets.get(0, {}).items():
            found |= {f"{k}_{name}": array for name, array in each.arrays().items()}
        return found

    def filled(self, arrays: Mapping[str, npt.NDArray[Any]]) -> "CellMoments":
        """Fill a set without rows from such arrays, and return it."""
        self.kept = [int(k) for k in arrays["kept"]]
        names = ("keys", "moments", "fields", "numbers")
        sets = {
            k: self._empty[k].filled({name: arrays[f"{k}_{name}"] for name in names})
            for k in self.kept
            if f"{k}_keys" in arrays
        }
        if sets:
            self._sets[0], self._shift = sets, next(iter(sets.values())).shift
        return self

    def keep_within(self, nbytes: float, times: float) -> None:
        """Give up the narrowest bandwidths whose moments would take more than so many bytes.

        Parameters
        ----------
        nbytes : float
        times : float
            What the moments of all groups but one take with what is made of them, relative to
            themselves. There are as many such sets as groups, and one more of all rows.
        """
        total = 0.0
        for k in list(self.kept) if self._sets else []:
            sets = [of_code[k] for of_code in self._sets.values()]
            total += sum(each.nbytes for each in sets)
            cells = np.unique(np.concatenate([each.cells.keys for each in sets]))
            total += times * (len(sets) + 1) * len(cells) * self._empty[k].cell_bytes
            if total > nbytes:
                self._give_up(k)
                return

    def others(self, code: int | None = None) -> list[MomentSet]:
        """Return the moments of all rows but one group's, bandwidth by bandwidth as ``kept``.

        Parameters
        ----------
        code : int, optional
            The group to leave out. Without, none is left out.
        """
        return [self._united(k, code) for k in self.kept]

    def _united(self, k: int, code: int | None) -> MomentSet:
        sets = [self._sets[other][k] for other in self.codes if other != code]
        if len(sets) == 1:  # as without groups: no copy of what may be large
            return sets[0]
        united = self._empty[k].like()
        united.shift = self._shift or 0
        for each in sets:
            united.merge(each)
        return united

    def _of(self, code: int) -> dict[int, MomentSet]:
        if code not in self._sets:
            self._sets[code] = {k: self._empty[k].like() for k in self.kept}
            for each in self._sets[code].values():
                each.shift = self._shift or 0
        return self._sets[code]

    def _give_up(self, k: int) -> None:
        """Drop a bandwidth and all narrower ones."""
        dropped = self.kept[self.kept.index(k) :]
        self.kept = self.kept[: self.kept.index(k)]
        for sets in self._sets.values():
            for each in dropped:
                sets.pop(each, None)

    def _settle(self, exponent: int) -> None:
        """Settle the unit for weights below 2**exponent: near the first ones, until it is far."""
        if self._shift is None or exponent > self._shift + _RESCALED_AT:
            self._shift = exponent
            for each in self._all():
                each.rescale(exponent)

    def _all(self) -> Iterator[MomentSet]:
        return (each for sets in self._sets.values() for each in sets.values())


def _chosen(
    weights: FloatArray | None, codes: Codes | None, code: int
) -> npt.NDArray[np.bool_] | None:
    """Return which rows of a group count, or None for all."""
    chosen = None if codes is None else codes == code
    if weights is not None and not (weights > 0).all():
        chosen = weights > 0 if chosen is None else chosen & (weights > 0)
    return chosen
