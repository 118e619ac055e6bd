"""Rows: what a task is handed, and reads by itself.

A side of the work (query or train) is a sequence of parts, each a range of rows of some
source: an opened Zarr array, a file, an array in memory. A task is handed the whole side,
which is small, and a range of rows; nothing is read before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.exact import beyond, rounded
from dkde.numerics.linear import LinearMap, chain, mark_missing, missing_rows
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.typing import Array, FloatArray


@dataclass(frozen=True)
class Encoding(Step):
    """The decoding of stored numbers: ``stored * scale + offset`` (CF conventions)."""

    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Return whether stored numbers are the values."""
        return self.scale == 1.0 and self.offset == 0.0

    @property
    def changes(self) -> tuple[Any, ...]:
        """The scale and the offset."""
        return self.scale, self.offset

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of values that are stored in another."""
        return dtype if self.is_identity else np.dtype(np.float64)

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the values of stored rows."""
        return self.decode(rows)

    def decode(self, stored: Array) -> Array:
        """Return the values of stored numbers."""
        if self.is_identity:
            return stored
        return stored * np.float64(self.scale) + np.float64(self.offset)


@dataclass(frozen=True, eq=False)
class Part:
    """Rows start up to stop of one source.

    Parameters
    ----------
    name : str
        For messages: ``mnist.zarr::train``.
    identity : str or None
        Equal for parts that read the same rows at the same indices; None if unknown.
    checksum : str or None
        Of the whole source's content.
    value_range : pair of floats, or None
        Least and greatest decoded value, where the source says.
    image_shape, layout : the shape of a picture, and CHW or HWC, where rows are pictures.
    coordinates : mapping
        What else the source says of each row, by name: labels, row numbers.
    features : tuple of str, or None
        The names of the columns, where they have some.
    classes : mapping of str to tuple of str
        What the values 0, 1, ... of some of the coordinates stand for.
    units : tuple of (str or None), or None
        What each column is measured in, as CF's attribute ``units`` has it: "degrees_north".
    opened : tuple of str, or None
        The columns that the source was asked for when it was opened, where it has others too.
    left_out : mapping of str to str
        The columns or variables that nobody asked to leave out and that are no features, and why
        not: ``{"when": "timestamps"}``.
    converted : mapping of str to str
        The features whose values are no numbers where they come from, and what they became:
        ``{"when": "days since 1970-01-01"}``.
    row_dims : tuple of str, or None
        The dims of the rows, where the variables that are features have several.
    dims : tuple of str
        All dims of the variables that are features, of rows and of features, where they have names.
    notes : tuple of str
        What was guessed or converted so that there are rows, each in a line.
    """

    source: RowSource
    start: int
    stop: int
    name: str
    encoding: Encoding = Encoding()
    identity: str | None = None
    checksum: str | None = None
    value_range: tuple[float, float] | None = None
    image_shape: tuple[int, ...] | None = None
    layout: str | None = None
    coordinates: Mapping[str, RowSource] = field(default_factory=dict)
    features: tuple[str, ...] | None = None
    units: tuple[str | None, ...] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    opened: tuple[str, ...] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, str] = field(default_factory=dict)
    row_dims: tuple[str, ...] | None = None
    dims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def label(self) -> str:
        """Name for messages."""
        whole = (self.start, self.stop) == (0, self.source.shape[0])
        return self.name if whole else f"{self.name}[{self.start}:{self.stop}]"

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Names of the columns that are stored: for unit vectors, those of their degrees."""
        if self.features is not None or not isinstance(self.source, Derived):
            return self.features
        return self.source.step.features

    def overlaps(self, other: "Part") -> bool:
        """Return whether two parts have rows in common."""
        return (
            self.identity is not None
            and self.identity == other.identity
            and max(self.start, other.start) < min(self.stop, other.stop)
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one or more parts, in order.

    Parameters
    ----------
    parts : tuple of Part
        At least one, none empty, all with as many features.
    linear : LinearMap, optional
        What is made of decoded rows as they are read.
    drops_missing : bool
        Whether rows with values that are NaN are left out, where there would be an error.
    """

    parts: tuple[Part, ...]
    linear: LinearMap | None = None
    drops_missing: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(part) for part in self.parts)]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    @property
    def n_stored_features(self) -> int:
        """Number of features as stored."""
        return self.parts[0].source.shape[1]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.n_stored_features if self.linear is None else self.linear.n_features

    @property
    def unmapped(self) -> "Rows":
        """The same rows as they are before any linear map."""
        return replace(self, linear=None)

    def mapped(self, linear: LinearMap | None) -> "Rows":
        """The same rows with one more linear map made of them, if there is one."""
        return self if linear is None else replace(self, linear=chain(self.linear, linear))

    @property
    def label(self) -> str:
        """Name for messages."""
        return " + ".join(part.label for part in self.parts)

    @property
    def encoding(self) -> Encoding | None:
        """The encoding that all parts share, if they do."""
        encodings = {part.encoding for part in self.parts}
        return encodings.pop() if len(encodings) == 1 else None

    @property
    def is_integer(self) -> bool:
        """Return whether stored rows are integers of at most 16 bits, in one encoding.

        The squares of wider ones would not add up exactly in float64.
        """
        if self.linear is not None:
            return False
        dtypes = [part.source.dtype for part in self.parts]
        small = all(dtype.kind in "iub" and dtype.itemsize <= 2 for dtype in dtypes)
        return small and self.encoding is not None

    @property
    def itemsize(self) -> int:
        """Bytes of a stored value; the largest among the parts."""
        return max(part.source.dtype.itemsize for part in self.parts)

    @property
    def is_encoded(self) -> bool:
        """Return whether decoding makes new arrays."""
        return self.linear is not None or not all(part.encoding.is_identity for part in self.parts)

    @property
    def read_rows(self) -> int:
        """Rows that are read at a time: whole chunks, at least one."""
        return max(part.source.read_rows for part in self.parts)

    @property
    def resident_bytes(self) -> int:
        """Bytes that the side itself holds in memory."""
        return sum(part.source.resident_bytes for part in self.parts)

    def read(
        self, start: int, stop: int, *, decode: bool, origin: FloatArray | None = None
    ) -> Array:
        """Rows start up to stop, stored or decoded, in one array.

        Parameters
        ----------
        decode : bool
            Also makes the linear map of them, if there is one.
        origin : array (n_stored_features,), optional
            Is taken away before the linear map, in float64.

        Raises
        ------
        InputError
            When there are integers that float64 does not hold.
        DataSetError
            When a file or a store is damaged or gone; a user's lazy graph raises its own errors.
        """
        if self.linear is not None and decode:
            return self._read_mapped(self.linear, start, stop, origin)
        pieces = []
        for part, a, b in self._cover(start, stop):
            stored = part.source.read(a, b)
            if stored.ndim == 2 and part.encoding.is_identity:
                _check_exact(part, stored, a)
            pieces.append(part.encoding.decode(stored) if decode else stored)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _read_mapped(
        self, linear: LinearMap, start: int, stop: int, origin: FloatArray | None
    ) -> FloatArray:
        mapped = np.empty((stop - start, linear.n_features))
        # Piece by piece: decoded rows may be far wider than what becomes of them.
        for a, b in self.ranges(start, stop):
            values = self.unmapped.read(a, b, decode=True)
            centred = np.subtract(values, 0.0 if origin is None else origin, dtype=np.float64)
            mapped[a - start : b - start] = linear.apply(centred)
            if self.drops_missing:
                mark_missing(mapped[a - start : b - start], values)
        return mapped

    def missing(self, values: Array) -> npt.NDArray[np.bool_] | None:
        """Return a mask of rows (rows, n_features) that are left out; None if none."""
        return missing_rows(values) if self.drops_missing else None

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> FloatArray:
        """Rows of these numbers, decoded and not mapped, in float64; only their chunks are read.

        Parameters
        ----------
        rows : array (n,) of int
            In any order, repeated or not.
        """
        wanted, where = np.unique(rows, return_inverse=True)
        taken = np.empty((len(wanted), self.n_stored_features))
        plain = self.unmapped
        for part, offset in zip(self.parts, self._starts, strict=False):
            first, last = np.searchsorted(wanted, (offset, offset + len(part)))
            chunks = part.source.chunk_of(wanted[first:last] - offset + part.start)
            cuts = np.flatnonzero(np.diff(chunks)) + 1
            for a, b in pairwise([first, *(first + cuts), last]):
                if a < b:
                    here = wanted[a:b]
                    values = plain.read(int(here[0]), int(here[-1]) + 1, decode=True)
                    taken[a:b] = values[here - here[0]]
        return taken[where]

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Ranges that cover start up to stop, each read well at a time: whole chunks."""
        for part, a, b in self._cover(start, stop):
            shift = start - a
            yield from ((x + shift, y + shift) for x, y in pairwise(part.source.cuts(a, b)))
            start += b - a

    def coordinates(self) -> dict[str, Array]:
        """Return the coordinates (n_rows,) of all parts, by name; read now."""
        names = set.intersection(*(set(part.coordinates) for part in self.parts))
        return {
            name: np.concatenate(
                [part.coordinates[name].read(part.start, part.stop) for part in self.parts]
            )
            for name in sorted(names)
        }

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Return the meanings of coordinates' values, where all parts agree."""
        first, *others = (part.classes for part in self.parts)
        return {
            name: words
            for name, words in first.items()
            if all(other.get(name) == words for other in others)
        }

    def locate(self, row: int) -> tuple[Part, int]:
        """The part that row lies in, and its row number in the source."""
        part, a, _ = next(self._cover(row, row + 1))
        return part, a

    def __getitem__(self, rows: slice) -> "Rows":
        start, stop, _ = rows.indices(self.n_rows)
        parts = tuple(replace(part, start=a, stop=b) for part, a, b in self._cover(start, stop))
        return replace(self, parts=parts)

    def _cover(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        for part, offset in zip(self.parts, self._starts, strict=False):
            a, b = max(start - offset, 0), min(stop - offset, len(part))
            if a < b:
                yield part, part.start + a, part.start + b


def _check_exact(part: Part, stored: Array, start: int) -> None:
    """Refuse rows with integers beyond 2**53: some are equal in float64 that are not."""
    found = beyond(stored)
    if found is None:
        return
    row, column = found
    name = column_name(part.features, column)
    raise rounded(f"{part.name}: row {start + row}, {name}", stored[found])


def column_name(features: tuple[str, ...] | None, column: int) -> str:
    """Return the name of a column, or its number where columns have no names."""
    return f"column {column}" if features is None else features[column]


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the work: rows, and what belongs to each.

    Parameters
    ----------
    rows : Rows
    weights : RowSource, optional
        One non-negative number a row; only for the train side.
    groups : RowSource, optional
        One integer a row; pairs whose groups are equal do not count.
    """

    rows: Rows
    weights: RowSource | None = None
    groups: RowSource | None = None

    def __sizeof__(self) -> int:
        # What Dask counts as a worker's managed memory.
        vectors = [s.resident_bytes for s in (self.weights, self.groups) if s is not None]
        linear = 0 if self.rows.linear is None else self.rows.linear.nbytes
        return object.__sizeof__(self) + self.rows.resident_bytes + sum(vectors) + linear
