"""The larger and the lesser of two numbers, and numbers as bits, written out for LLVM.

numba compiles ``max``, ``min`` and ``view`` as functions of their own, anew for each caller's
options: a first call would take a second longer.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.misc import unliteral
from numba.extending import intrinsic

_WORDS = types.Array(types.int64, 1, "C")


@intrinsic
def larger(typing_context, a, b):  # type: ignore[no-untyped-def]
    """Return the larger one of two numbers, as ``max`` does: ``a`` where one of them is NaN."""
    return _chosen(typing_context, a, b, ">")


@intrinsic
def lesser(typing_context, a, b):  # type: ignore[no-untyped-def]
    """Return the lesser one of two numbers, as ``min`` does: ``a`` where one of them is NaN."""
    return _chosen(typing_context, a, b, "<")


def _chosen(typing_context: Any, a: Any, b: Any, comparison: str) -> Any:
    """Return the signature and the code of ``b if b (comparison) a else a``."""
    kind = typing_context.unify_types(unliteral(a), unliteral(b))
    if kind not in (types.int64, types.float64):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        a, b = arguments
        compare = builder.fcmp_ordered if kind is types.float64 else builder.icmp_signed
        return builder.select(compare(comparison, b, a), b, a)

    return kind(kind, kind), generate


@intrinsic
def words_of(typing_context, numbers):  # type: ignore[no-untyped-def]
    """Return a contiguous array of numbers as one of their bits; it owns nothing."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        found = context.make_array(_WORDS)(context, builder)
        for name in ("nitems", "itemsize", "shape", "strides"):
            setattr(found, name, getattr(given, name))
        found.data = builder.bitcast(given.data, ir.IntType(64).as_pointer())
        found.meminfo, found.parent = (
            cgutils.get_null_value(getattr(found, name).type) for name in ("meminfo", "parent")
        )
        return found._getvalue()

    return _WORDS(numbers), generate
