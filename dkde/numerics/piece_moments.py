"""Moments of nodes, and of pieces of leaves, added to the sums of eight query rows at a time.

Moments of pieces are about the middle of their leaf's box, in its unit, so that those of any
pieces add up: see :mod:`dkde.numerics.node_moments`.
"""

from itertools import combinations_with_replacement
from math import comb
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from dkde.numerics.distances import PIECES
from dkde.numerics.leaf_pieces import cases, number_at
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.vectors import (
    FUSED,
    constant,
    data_of,
    filled,
    load,
    maximum,
    store,
    sum_of,
    word,
)


@intrinsic
def add_up_pieces(  # type: ignore[no-untyped-def]
    typing_context, moments, start, count, pieces, out
):
    """Fill ``out`` with the sums of the moments of some pieces, which begin at ``start``."""
    signature = types.void(moments, types.int64, types.int64, types.int64, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        moments, out = (data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 4))
        _, start, count, pieces, _ = arguments
        bits = builder.trunc(pieces, ir.IntType(PIECES))
        wanted = builder.bitcast(bits, ir.VectorType(ir.IntType(1), PIECES))
        with cgutils.for_range(builder, count) as m:
            all_ = load(builder, moments, builder.add(start, builder.mul(m.index, word(PIECES))))
            found = sum_of(builder, builder.select(wanted, all_, constant(0.0)))
            builder.store(found, builder.gep(out, [m.index]))
        return context.get_dummy_value()

    return signature, generate


class _Vector:
    """A vector in an expression."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder, self.value = builder, value

    def _of(self, other: "_Vector | float") -> Any:
        return other.value if isinstance(other, _Vector) else constant(other)

    def __add__(self, other: "_Vector | float") -> "_Vector":
        found = self._builder.fadd(self.value, self._of(other), flags=FUSED)
        return _Vector(self._builder, found)

    def __sub__(self, other: "_Vector | float") -> "_Vector":
        found = self._builder.fsub(self.value, self._of(other), flags=FUSED)
        return _Vector(self._builder, found)

    def __mul__(self, other: "_Vector | float") -> "_Vector":
        found = self._builder.fmul(self.value, self._of(other), flags=FUSED)
        return _Vector(self._builder, found)

    def __rsub__(self, other: float) -> "_Vector":
        return _Vector(self._builder, constant(other)) - self

    __rmul__ = __mul__


@intrinsic
def add_moments(  # type: ignore[no-untyped-def]
    typing_context, power, higher, query, at, width, centres, middle, moments, start, unit,
    inverse, sums, place,
):  # fmt: skip
    """Add moments to the sums of eight query rows: see :func:`dkde.numerics.node_sums.add_node`.

    Parameters
    ----------
    power, higher, query, at, width, inverse, sums, place
        As for :func:`add_pieces`.
    centres, moments : array
        Of which those wanted begin at ``middle`` and at ``start``.
    unit : float
    """
    signature = types.void(
        types.int64, higher, query, types.int64, types.int64, centres, types.int64, moments,
        types.int64, types.float64, types.float64, sums, types.int64,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        query, centres, moments, sums = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (2, 5, 7, 11)
        )
        power, _, _, at, width, _, middle, _, start, unit, inverse, _, place = arguments
        unit, inverse = (_Vector(builder, filled(builder, each)) for each in (unit, inverse))
        for n_axes, each in cases(builder, power, higher, width):
            found = _Moments(builder, moments, start)
            away = [
                _Vector(builder, load(builder, query, builder.add(at, word(QUERY_LEAF * j))))
                - _Vector(builder, number_at(builder, centres, builder.add(middle, word(j))))
                for j in range(n_axes)
            ]
            value = _sum_of_moments(each, away, unit, inverse, found)
            # What is below 0 is so by rounding.
            value = maximum(builder, value.value, constant(0.0))
            store(builder, builder.fadd(load(builder, sums, place), value), sums, place)
        return context.get_dummy_value()

    return signature, generate


class _Moments:
    """Moments, one after the other."""

    def __init__(self, builder: Any, base: Any, start: Any) -> None:
        self._builder, self._base, self._start, self._at = builder, base, start, 0

    def next(self) -> _Vector:
        at = self._builder.add(self._start, word(self._at))
        self._at += 1
        return _Vector(self._builder, number_at(self._builder, self._base, at))


def _sum_of_moments(
    power: int, away: list[_Vector], unit: _Vector, inverse: _Vector, found: _Moments
) -> _Vector:
    """Return the sum of ``w (alpha + q)**power``."""
    mass = found.next()
    if power == 0:
        return mass
    scale, g = unit * inverse * 2.0, unit * (unit * inverse)
    squared = away[0] * away[0]
    for each in away[1:]:
        squared = squared + each * each
    alpha = 1.0 - squared * inverse
    b = [each * scale for each in away]
    # The sums of w q**k: of products of j of the b, times (-g)**(k - j) and a binomial number.
    sums = [mass]
    for k in range(1, power + 1):
        total: _Vector | None = None
        for j in range(k, -1, -1):
            term: _Vector | None = None
            for product in combinations_with_replacement(b, j):
                factor = found.next()
                for each in product:
                    factor = factor * each
                term = factor if term is None else term + factor
            assert term is not None
            for _ in range(k - j):
                term = term * g
            term = term * float(comb(k, j) * (-1) ** (k - j))
            total = term if total is None else total + term
        assert total is not None
        sums.append(total)
    if power == 1:
        return alpha * sums[0] + sums[1]
    if power == 2:
        return alpha * (alpha * sums[0] + sums[1] * 2.0) + sums[2]
    return alpha * (alpha * (alpha * sums[0] + sums[1] * 3.0) + sums[2] * 3.0) + sums[3]
