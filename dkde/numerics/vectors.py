"""Vectors of numbers in compiled code, written out for LLVM.

The compiler makes vectors of simple loops. It does not of loops over pairs and features that keep
many sums in registers: it unrolls the wrong one of them, or runs out of registers. What is written
here is in vectors to begin with, whose length LLVM fits to the processor. The order in which
numbers are added is written down too, so that it is the same on every machine.
"""

from math import log
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from dkde.numerics.exponential import COEFFICIENTS

LANES = 8
DOUBLE, WORD = ir.DoubleType(), ir.IntType(64)
VECTOR, CODES = ir.VectorType(DOUBLE, LANES), ir.VectorType(ir.IntType(32), LANES)
# A product may be added without being rounded first.
FUSED = ("contract", "nsz")
# Of numbers that are compared none is NaN.
_COMPARED = ("nnan", "nsz")
_INDEX = ir.IntType(32)
_INDICES = ir.VectorType(_INDEX, LANES)


def word(value: int) -> Any:
    """Return a constant of 64 bits."""
    return ir.Constant(WORD, value)


def constant(value: float) -> Any:
    """Return a vector of equal constants."""
    return ir.Constant(VECTOR, [value] * LANES)


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Return the address of an array's data."""
    return context.make_array(array_type)(context, builder, array).data


def n_columns_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Return the number of columns of a contiguous array of rows."""
    shape = context.make_array(array_type)(context, builder, array).shape
    return cgutils.unpack_tuple(builder, shape)[1]


def load(builder: Any, base: Any, offset: Any, kind: Any = VECTOR) -> Any:
    """Return the vector at an offset of numbers from an address."""
    at = builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())
    found = builder.load(at)
    found.align = 8 if kind is VECTOR else 4
    return found


def store(builder: Any, vector: Any, base: Any, offset: Any) -> None:
    """Write a vector at an offset of numbers from an address."""
    at = builder.bitcast(builder.gep(base, [offset]), VECTOR.as_pointer())
    builder.store(vector, at).align = 8


def filled(builder: Any, number: Any, kind: Any = VECTOR) -> Any:
    """Return a vector that holds one number in all places."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_INDICES, [0] * LANES))


def minimum(builder: Any, a: Any, b: Any) -> Any:
    """Return the lesser one of two vectors, place by place."""
    return builder.select(builder.fcmp_ordered("<", a, b, flags=_COMPARED), a, b)


def maximum(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger one of two vectors, place by place."""
    return builder.select(builder.fcmp_ordered(">", a, b, flags=_COMPARED), a, b)


def absolute(builder: Any, vector: Any) -> Any:
    """Return a vector's numbers without their signs."""
    return _called(builder, "fabs", vector)


def least_of(builder: Any, vector: Any) -> Any:
    """Return the least number of a vector."""
    return _folded(builder, vector, lambda a, b: minimum(builder, a, b))


def sum_of(builder: Any, vector: Any) -> Any:
    """Return the sum of a vector's numbers."""
    return _folded(builder, vector, builder.fadd)


def _folded(builder: Any, vector: Any, combine: Any) -> Any:
    distance = LANES // 2
    while distance:
        places = [(place + distance) % LANES for place in range(LANES)]
        other = builder.shuffle_vector(vector, vector, ir.Constant(_INDICES, places))
        vector, distance = combine(vector, other), distance // 2
    return builder.extract_element(vector, ir.Constant(_INDEX, 0))


def square_root(builder: Any, vector: Any) -> Any:
    """Return the square roots of a vector's numbers."""
    return _called(builder, "sqrt", vector)


def _called(builder: Any, name: str, vector: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
    return builder.call(function, [vector])


# Adding it to a number leaves the nearest integer in the lowest bits.
_ROUND = 1.5 * 2.0**52
# Below, powers of two are not normal numbers.
_LOWEST = -1022.0
# Of exp(f ln 2), from the constant on.
_OF_TWO = tuple(c * log(2) ** k for k, c in enumerate((1.0, 1.0, *COEFFICIENTS)))


def powers_of_two(builder: Any, exponents: list[Any]) -> list[Any]:
    """Return 2**x for numbers x of vectors of which none is above 0; 0 below -1022.

    As :func:`dkde.numerics.exponential.exp64`, with ln 2 within the coefficients: an exponent is
    split into a whole number and the rest without any rounding. Step by step for all vectors: the
    processor has other work while one of them waits for its last product.
    """
    to_whole = constant(_ROUND)
    wholes = [builder.fadd(x, to_whole) for x in exponents]
    rests = [
        builder.fsub(x, builder.fsub(whole, to_whole))
        for x, whole in zip(exponents, wholes, strict=True)
    ]
    mantissas = [constant(_OF_TWO[-1])] * len(rests)
    for coefficient in _OF_TWO[-2::-1]:
        mantissas = [
            builder.fadd(builder.fmul(p, f, flags=FUSED), constant(coefficient), flags=FUSED)
            for p, f in zip(mantissas, rests, strict=True)
        ]
    return [_scaled(builder, *each) for each in zip(exponents, wholes, mantissas, strict=True)]


def _scaled(builder: Any, exponents: Any, whole: Any, mantissa: Any) -> Any:
    """Return mantissas times powers of two, which are added to the bits of their exponents."""
    words = ir.VectorType(WORD, LANES)
    shift = ir.Constant(words, [52] * LANES)
    scale = builder.shl(builder.bitcast(whole, words), shift)
    power = builder.bitcast(builder.add(builder.bitcast(mantissa, words), scale), VECTOR)
    # Not so of NaN, and of numbers that have no whole part.
    is_normal = builder.fcmp_ordered(">=", exponents, constant(_LOWEST))
    return builder.select(is_normal, power, constant(0.0))
