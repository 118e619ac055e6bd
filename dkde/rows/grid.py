"""Rows that are the points of a tensor grid: each feature lies along a dim of its own."""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.numerics.exact import beyond
from dkde.numerics.linear import Scaling
from dkde.rows.boxes import Box
from dkde.rows.row_source import Derived, RowSource
from dkde.rows.side import Part, Rows
from dkde.rows.variables import VariablesSource
from dkde.rows.within_support import Checked
from dkde.typing import Array, FloatArray


@dataclass(frozen=True, eq=False)
class GridAxes:
    """The axes of a grid, one for each feature, each sorted; and how rows lie on it.

    Parameters
    ----------
    lines : tuple of arrays (n_j,)
        The sorted values of each feature, as the rows have them.
    orders : tuple of arrays (n_j,) of int
        The index along the grid's dim of each sorted value.
    dims : tuple of int
        The number of each feature's dim: rows are the points of the dims in C order.
    """

    lines: tuple[FloatArray, ...]
    orders: tuple[npt.NDArray[np.intp], ...]
    dims: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths of the dims, in the order of the rows."""
        return tuple(len(self.lines[self.dims.index(dim)]) for dim in range(len(self.dims)))

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return prod(self.sizes)

    @property
    def inner(self) -> int:
        """Return the number of rows of one index of the first dim."""
        return prod(self.sizes[1:])

    def part(self, start: int, stop: int) -> "GridAxes":
        """Return the axes of a range of rows, which has whole indices of the first dim.

        Raises
        ------
        ValueError
            When the range begins or ends amid the rows of one index.
        """
        if start % self.inner or stop % self.inner:
            raise ValueError(f"rows {start} to {stop} are not whole ones of {self.inner} rows")
        rest = (slice(0, size) for size in self.sizes[1:])
        return self.box((slice(start // self.inner, stop // self.inner), *rest))

    def box(self, box: Box) -> "GridAxes":
        """Return the axes of the points within a range of indices of each dim."""
        lines, orders = list(self.lines), list(self.orders)
        for number, dim in enumerate(self.dims):
            order, (first, last) = orders[number], (box[dim].start, box[dim].stop)
            if last - first < len(order):
                chosen = (order >= first) & (order < last)
                lines[number], orders[number] = lines[number][chosen], order[chosen] - first
        return GridAxes(tuple(lines), tuple(orders), self.dims)

    def points(self, rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the values (rows, n_features) of some rows, given by their numbers."""
        indices = np.unravel_index(rows, self.sizes)
        values = np.empty((len(rows), len(self.lines)))
        for number, (along, order) in enumerate(zip(self.lines, self.orders, strict=True)):
            stored = np.empty(len(along))
            stored[order] = along
            values[:, number] = stored[indices[self.dims[number]]]
        return values

    def lattice(self, n_each: int) -> FloatArray:
        """Return points (n, n_features) at evenly spaced indices, at most so many of each axis."""
        some = [
            along[np.linspace(0, len(along) - 1, min(n_each, len(along))).astype(np.intp)]
            for along in self.lines
        ]
        return np.stack(np.meshgrid(*some, indexing="ij"), axis=-1).reshape(-1, len(some))

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        return sum(each.nbytes for each in (*self.lines, *self.orders))

    def as_rows(self, values: Array) -> Array:
        """Return values at the points of the sorted axes, in the features' order, as rows.

        Parameters
        ----------
        values : array (n_0, n_1, ...)

        Returns
        -------
        array (rows,)
        """
        for number, order in enumerate(self.orders):
            if (order[1:] < order[:-1]).any():
                values = np.take(values, np.argsort(order), axis=number)
        return values.transpose([self.dims.index(dim) for dim in range(len(self.dims))]).reshape(-1)


def axes_of(
    rows: Rows, origin: FloatArray | None = None, *, decode: bool = True
) -> GridAxes | None:
    """Return the axes of rows that are a tensor grid of two or three features; None if not.

    Each feature has to be a variable that is not lazy, of finite numbers, along one dim of its
    own, or of one value for all rows. Of linear maps, only one that scales each feature keeps the
    axes.

    Parameters
    ----------
    origin : array (n_features,), optional
        The point that is subtracted before a linear map, as :meth:`Rows.read` does.
    decode : bool
        As for :meth:`Rows.read`.
    """
    known = _layout(rows)
    if known is None:
        return None
    dims, inner = known
    (part,) = rows.parts
    source, _ = _variables(part)
    assert source is not None
    lines, orders = [], []
    for number in range(len(dims)):
        values = _axis(rows, part, source, number, origin, decode)
        if values is None:
            return None
        order = np.argsort(values, kind="stable")
        lines.append(values[order])
        orders.append(order)
    whole = GridAxes(tuple(lines), tuple(orders), dims)
    if (part.start, part.stop) == (0, source.shape[0]):
        return whole
    if part.start % inner or part.stop % inner:
        return None
    return whole.part(part.start, part.stop)


def rows_of_a_line(rows: Rows) -> int | None:
    """Return the rows of one index of the first dim, where rows may be a tensor grid; else None.

    No values are looked at: :func:`axes_of` may find that they are none all the same.
    """
    known = _layout(rows)
    return None if known is None else known[1]


def _layout(rows: Rows) -> tuple[tuple[int, ...], int] | None:
    """Return each feature's dim, and the rows of an index of the first dim; None for no grid."""
    if len(rows.parts) != 1 or not _keeps_axes(rows):
        return None
    (part,) = rows.parts
    source, _ = _variables(part)
    if source is None or source.dtype.kind not in "iuf":
        return None
    variables = source.variables
    if not 2 <= len(variables) <= 3 or any(v.ndim > 1 for v in variables):
        return None
    if any(v.chunks is not None for v in variables):  # lazy: to compute them may take long
        return None
    # A dim of length 1 that no feature lies along has no part in the order of rows; nor has the
    # dim that a feature of one value for all rows is given, after the others.
    own = [str(v.dims[0]) if v.ndim else f"feature {i}" for i, v in enumerate(variables)]
    sized = zip(source.dims, source.sizes, strict=True)
    dims = [dim for dim, n in sized if n != 1 or dim in own]
    dims += [dim for dim, v in zip(own, variables, strict=True) if not v.ndim]
    if sorted(own) != sorted(dims):
        return None
    first = variables[own.index(dims[0])].size
    return tuple(map(dims.index, own)), source.shape[0] // max(first, 1)


def _variables(part: Part) -> tuple[VariablesSource | None, Checked | None]:
    """Return the variables of rows, and the check of their support; None for other rows."""
    source: RowSource = part.source
    check: Checked | None = None
    if isinstance(part.source, Derived) and isinstance(part.source.step, Checked):
        source, check = part.source.wrapped, part.source.step
    return (source, check) if isinstance(source, VariablesSource) else (None, None)


def _keeps_axes(rows: Rows) -> bool:
    """Return whether each feature of mapped rows depends on one stored feature alone."""
    linear = rows.linear
    return linear is None or (isinstance(linear, Scaling) and linear.n_features == linear.n_inputs)


def _axis(
    rows: Rows, part: Part, source: VariablesSource, number: int, origin: FloatArray | None,
    decode: bool,
) -> FloatArray | None:  # fmt: skip
    """Return one feature's values along its dim as rows have them, to the bit; None if missing."""
    variable = source.variables[number]
    if not variable.ndim:
        variable = xr.Variable(("row",), variable.values.reshape(1))
    dims = (str(variable.dims[0]),)
    alone = VariablesSource([variable], dims, variable.shape, [source.names[number]], source.place)
    stored = alone.read(0, variable.size)[:, 0]
    if beyond(stored) is not None:  # reading the rows refuses it, and says where
        return None
    values = stored.astype(source.dtype)
    check = _variables(part)[1]
    if check is not None:
        found = check.along(values, number)
        if found is None:
            return None
        values = found
    else:
        values = (part.encoding.decode(values) if decode else values).astype(np.float64)
    if isinstance(rows.linear, Scaling):
        centred = values - (0.0 if origin is None else origin[number])
        values = centred * rows.linear.factors[number]
    return values if np.isfinite(values).all() else None
