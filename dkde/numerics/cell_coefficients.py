"""Coefficients of cells of query rows, from moments of the training rows, with proven bounds.

Axis after axis, the moments of near cells are translated (:mod:`dkde.numerics.translation`) into
coefficients of the query cells, which are evaluated at each query row. The work grows with the
rows and with the cells that are near one another, not with the pairs of rows. It is the fast
Gauss transform of [1] with Chebyshev's polynomials for Hermite's, and with its error bounded
afterwards, per query row.

A cell's coefficients do not depend on the other query cells, to the bit. So they are kept for
the next query rows in it, whichever thread has made them.

**The bound.** Beside its moments a cell carries three numbers through the same sums. With k no
less than the kernel on one axis, e no less than its error there, and m no less than the
absolute sum of its coefficients, on each axis

    error     <- sum k error + e size      (K1 K2 - L1 L2 = (K1 - L1) K2 + L1 (K2 - L2))
    size      <- sum (k + e) size          no less than the approximation L1 L2 ...
    magnitude <- sum m magnitude           no less than the sum of all absolute terms

from the cell's weight (error: 0). Floating-point adds at most n roundings of each term, so n
units times the magnitude [2, section 3.1], n counted in ``_roundings``. Cells further than the
reach on some axis are left out: they add no more than exp(-z^2/2) of the weight of all rows,
with z the distance that the reach stands for. With E the sum of the three and Z the computed
sum, the true log-sum is within ``-log1p(-E / Z)`` of log Z. That is for coordinates as they are
given; what a rounding of these is good for is ``shift``.

References
----------
[1] L. Greengard and J. Strain, The fast Gauss transform, SIAM J. Sci. Stat. Comput. 12 (1991).
[2] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from threading import Condition

import numpy as np

from dkde.numerics import cells as grid
from dkde.numerics.cells import Keys
from dkde.numerics.moment_set import MomentSet, reach_for
from dkde.numerics.translation import BATCH, UNIT, Translation, translate, translation
from dkde.typing import FloatArray

BATCH_BYTES = 2**21  # of coefficients of the query cells that are worked on together
_KEPT_BYTES = 2**25  # and half as much again as the moments: most cells hold rows of both sides
_AMID = 2  # so many times the cells that are asked for are made beside them, at most


@dataclass(frozen=True, eq=False)
class _Known:
    """Coefficients that are there: keys in order, where they are, and the values and bounds."""

    keys: Keys
    places: Keys
    values: FloatArray
    wrong: FloatArray

    def find(self, keys: Keys) -> Keys:
        """Return the places (keys,); -1 for a cell that is not there."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        places: Keys = np.where(self.keys[at] == keys, self.places[at], -1)
        return places


class Coefficients:
    """The coefficients of query cells at one bandwidth, made when they are first asked for.

    Parameters
    ----------
    moments : MomentSet
        Of all training rows; it does not change any more.
    share : float
        Of the bytes that all coefficients may take beside their moments.
    """

    def __init__(self, moments: MomentSet, *, share: float = 1.0) -> None:
        self._share = share
        self.moments = moments
        self.reach = reach_for(moments.ratio, moments.tol, moments.n_rows)
        self._table = translation(moments.order, moments.ratio, self.reach)
        self._weight = np.zeros((len(moments.mass), 3))
        self._weight[:, 1:] = moments.mass[:, None]
        none = np.empty(0, np.int64)
        self._known = _Known(none, none, np.zeros((0, *moments.shape)), np.zeros(0))
        self._lock = Condition()
        self._asked = 0
        self._expected = none
        # The first and last of planes of which a thread makes coefficients now, for each thread.
        self._claims: list[tuple[int, int]] = []

    @property
    def left_out(self) -> float:
        """Return what rows beyond reach add at most, in the unit of weight."""
        z = self.reach * self.moments.ratio
        return float(self.moments.total * np.exp(-z * z / 2) * (1 + 1e-12))

    @property
    def nbytes(self) -> int:
        """Return the bytes that are kept, beside those of the moments."""
        return self._known.values.nbytes + self._weight.nbytes

    def at(self, keys: Keys) -> Iterator[tuple[Keys, Keys, FloatArray, FloatArray]]:
        """Yield the coefficients of cells, some cells at a time.

        Parameters
        ----------
        keys : array of int64
            Sorted.

        Yields
        ------
        chosen : array
            Which of the keys these are.
        places : array
            Where theirs are in ``values`` and ``wrong``.
        values : array (cells, *moments.shape)
        wrong : array (cells,)
            What sums by them err by, at most, beside ``left_out``.
        """
        known = self._known
        places = known.find(keys)
        there = np.flatnonzero(places >= 0)
        if len(there):
            yield there, places[there], known.values, known.wrong
        missing = keys[places < 0]
        # What other threads make now is taken from them, after all that is left to make.
        later = []
        for batch in self._batches(self._with_expected(missing, known)):
            if not self._claimed(batch, wait=False):
                later.append(batch)
                continue
            yield from self._made(keys, batch, missing)
        for batch in later:
            self._claimed(batch, wait=True)
            yield from self._made(keys, batch, missing)

    def expect(self, keys: Keys) -> None:
        """Expect that coefficients of cells will be asked for, a few at a time.

        All of a plane of cells are made at the first time, where there is room to keep them: but
        for the last sweep, that is as much work as some of them.
        """
        with self._lock:
            new = keys[self._known.find(keys) < 0]
            self._expected = np.union1d(self._expected, new)

    def _with_expected(self, missing: Keys, known: _Known) -> Keys:
        """Return cells, and those that are expected in the same planes, if they can be kept."""
        if not len(missing) or not len(self._expected):
            return missing
        expected = self._expected
        if len(known.keys) + len(expected) > self._most_kept:
            return missing
        top = self.moments.cells.bits * (self.moments.n_axes - 1)
        planes = np.unique(missing >> top)
        return np.union1d(missing, expected[np.isin(expected >> top, planes)])

    def _planes_of(self, batch: Keys) -> tuple[int, int]:
        """Return the first and the last plane of a batch: cells between are made with it, too."""
        top = self.moments.cells.bits * (self.moments.n_axes - 1)
        return int(batch[0] >> top), int(batch[-1] >> top)

    def _claimed(self, batch: Keys, *, wait: bool) -> bool:
        """Claim the planes of a batch, unless another thread has one of them."""
        first, last = self._planes_of(batch)
        with self._lock:
            while any(first <= end and start <= last for start, end in self._claims):
                if not wait:
                    return False
                self._lock.wait()
            self._claims.append((first, last))
        return True

    def _made(
        self, keys: Keys, batch: Keys, missing: Keys
    ) -> Iterator[tuple[Keys, Keys, FloatArray, FloatArray]]:
        """Yield the coefficients of the wanted cells of a batch, whose planes are claimed."""
        found = []
        try:
            asked = np.intersect1d(batch, missing, assume_unique=True)
            known = self._known  # other threads have gone on meanwhile
            places = known.find(asked)
            there = places >= 0
            if there.any():
                found.append((asked[there], places[there], known.values, known.wrong))
            if not there.all():
                wanted = self._extended(batch, known)
                wanted = wanted[known.find(wanted) < 0]
                values, wrong = self._translated(wanted)
                self._keep(wanted, values, wrong)
                rest = asked[~there]
                found.append((rest, np.searchsorted(wanted, rest), values, wrong))
        finally:
            with self._lock:
                self._claims.remove(self._planes_of(batch))
                self._lock.notify_all()
        for cells, places, values, wrong in found:
            yield np.searchsorted(keys, cells), places, values, wrong

    def _extended(self, batch: Keys, known: _Known) -> Keys:
        """Return a batch with the cells of training rows amid it, where these are not too many.

        The next query rows are in them as well, and all but the last sweep's work is for whole
        planes of cells, however few cells of a plane are asked for.
        """
        _, amid = self._near(batch, 0)
        amid = amid[known.find(amid) < 0]
        return batch if len(amid) > _AMID * len(batch) else np.union1d(batch, amid)

    def _batches(self, wanted: Keys) -> list[Keys]:
        """Cut cells into whole planes of one first index; every other time from the end.

        So two threads that start together on the same cells meet in the middle.
        """
        per_batch = max(1, BATCH_BYTES // (8 * prod(self.moments.shape)))
        cuts = [0]
        top = self.moments.cells.bits * (self.moments.n_axes - 1)
        while cuts[-1] < len(wanted):
            cuts.append(_end_of_plane(wanted, cuts[-1], per_batch, top))
        batches = np.split(wanted, cuts[1:-1]) if len(wanted) else []
        with self._lock:
            self._asked += 1
            return batches if self._asked % 2 else batches[::-1]

    @property
    def _most_kept(self) -> int:
        """Return of how many cells coefficients are kept."""
        cell = 8 * prod(self.moments.shape)
        return int((self._share * _KEPT_BYTES + 1.5 * self.moments.nbytes) // cell)

    def _keep(self, keys: Keys, values: FloatArray, wrong: FloatArray) -> None:
        with self._lock:
            known = self._known
            new = np.flatnonzero(known.find(keys) < 0)
            count = len(known.keys)
            if count + len(new) > self._most_kept:
                return
            held, held_wrong = known.values, known.wrong
            if count + len(new) > len(held):
                size = count + max(len(new), count // 2, len(self._expected))
                held, held_wrong = np.zeros((size, *self.moments.shape)), np.zeros(size)
                held[:count], held_wrong[:count] = known.values[:count], known.wrong[:count]
            # Readers of what was known do not look beyond it.
            held[count : count + len(new)] = values[new]
            held_wrong[count : count + len(new)] = wrong[new]
            both = np.concatenate([known.keys, keys[new]])
            places = np.concatenate([known.places, np.arange(count, count + len(new))])
            order = np.argsort(both)
            # One assignment: a reader has all of the old or all of the new.
            self._known = _Known(both[order], places[order], held, held_wrong)
            self._expected = np.setdiff1d(self._expected, keys, assume_unique=True)

    def _translated(self, batch: Keys) -> tuple[FloatArray, FloatArray]:
        """Return the coefficients of sorted cells, and what they err by."""
        moments, n_axes = self.moments, self.moments.n_axes
        places, source = self._near(batch, self.reach)
        sets = grid.between(source, batch, moments.cells.bits, n_axes, self.reach)
        values, fields = moments.moments, self._weight
        for axis in range(n_axes):
            values, fields = self._swept(
                axis, sets[axis], sets[axis + 1], places, values, fields, self._table
            )
            places = np.arange(len(values))
        return values, fields[:, 0] + self._roundings() * UNIT * fields[:, 2]

    def _near(self, batch: Keys, reach: int) -> tuple[Keys, Keys]:
        """Return the cells within ``reach`` of the box of query cells: their numbers and keys."""
        bits, n_axes = self.moments.cells.bits, self.moments.n_axes
        order, keys = self.moments.in_order
        top = bits * (n_axes - 1)
        low = ((batch[0] >> top) - reach) << top
        high = ((batch[-1] >> top) + reach + 1) << top
        part = slice(*np.searchsorted(keys, (low, high)))
        order, keys = order[part], keys[part]
        if n_axes > 1:
            targets = grid.indices(batch, bits, n_axes)[:, 1:]
            places = grid.indices(keys, bits, n_axes)[:, 1:]
            lowest, highest = targets.min(axis=0) - reach, targets.max(axis=0) + reach
            near = ((places >= lowest) & (places <= highest)).all(axis=1)
            order, keys = order[near], keys[near]
        return order, keys

    def _swept(
        self,
        axis: int,
        source: Keys,
        target: Keys,
        places: Keys,
        values: FloatArray,
        fields: FloatArray,
        table: Translation,
    ) -> tuple[FloatArray, FloatArray]:
        bits, n_axes, order = self.moments.cells.bits, self.moments.n_axes, self.moments.order
        for _ in range((axis + 1) % n_axes):
            source = grid.rotated(source, bits, n_axes)
            target = grid.rotated(target, bits, n_axes)
        from_order, to_order = np.argsort(source), np.argsort(target)
        result = np.zeros((len(target), *self.moments.shape))
        new_fields = np.zeros((len(target), 3))
        others = order ** (n_axes - 1)
        translate(
            source[from_order], places[from_order], values.reshape(-1, order, others), fields,
            target[to_order], to_order, result.reshape(-1, others, order), new_fields,
            table.coefficients, table.kernel, table.error, table.magnitude,
        )  # fmt: skip
        return result, new_fields

    def _roundings(self) -> float:
        """No less than the number of roundings in any term of any sum."""
        n_axes, order = self.moments.n_axes, self.moments.order
        additions = self.moments.additions.max(initial=0.0) + BATCH
        translations = n_axes * (len(self._table.kernel) * order + 1)
        evaluation = order ** (n_axes - 1) + 2 * order
        return float(1.01 * (additions + translations + evaluation + 8))


def _end_of_plane(keys: Keys, start: int, at_least: int, first_index: int) -> int:
    """Return the end of a batch of sorted keys: a batch holds whole planes of one first index."""
    if start + at_least >= len(keys):
        return len(keys)
    plane = int(keys[start + at_least - 1]) >> first_index
    return int(np.searchsorted(keys, (plane + 1) << first_index))
