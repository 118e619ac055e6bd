"""The rows of a side, as a description that a task receives and reads from.

A side of the work (query or train) is a sequence of parts. Each part is a range of rows of some
source: an opened Zarr array, a file, or an array in memory. A task receives the whole side, which
is small, and a range of rows. Nothing is read before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.exact import beyond, rounded
from dkde.numerics.linear import LinearMap, chain, mark_missing, missing_rows
from dkde.rows.row_source import Derived, RowSource, Step, innermost
from dkde.rows.tally import note
from dkde.stores.scratch import room_for_rows
from dkde.typing import Array, FloatArray

# The most bytes, as stored, between ranges of one chunk that are read at once.
_AT_ONCE = 64 * 2**20


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
        """Return the scale and the offset, as the key of this change."""
        return self.scale, self.offset

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the decoded values of a stored dtype."""
        return dtype if self.is_identity else np.dtype(np.float64)

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the values of stored rows."""
        return self.decode(rows)

    def decode(self, stored: Array) -> Array:
        """Return the values of stored numbers."""
        if self.is_identity:
            return stored
        # Scalars of NumPy, and not of Python, make float64 of stored float32 and small integers.
        return stored * np.float64(self.scale) + np.float64(self.offset)


@dataclass(frozen=True, eq=False)
class Part:
    """The rows from start up to stop of one source.

    Parameters
    ----------
    source : RowSource
        The source of the rows.
    start, stop : int
        The range of rows in the source.
    name : str
        The name for messages: ``mnist.zarr::train``.
    encoding : Encoding
        The decoding of the stored numbers.
    identity : str or None
        A key that is equal for parts that read the same rows at the same indices; None if unknown.
    checksum : str or None
        The checksum of the whole source's content.
    value_range : pair of floats, or None
        The least and the greatest decoded value, where the source notes them.
    image_shape, layout : tuple of int, and str; or None
        The shape of a picture, and CHW or HWC, where rows are pictures.
    coordinates : mapping of str to RowSource
        The source's other values for each row, by name: labels, row numbers.
    features : tuple of str, or None
        The names of the columns, if they have names.
    classes : mapping of str to tuple of str
        The meanings of the values 0, 1, ... of some coordinates.
    units : tuple of (str or None), or None
        The unit of each column, as in CF's attribute ``units``: "degrees_north".
    opened : tuple of str, or None
        The columns requested when the source was opened, where it has others too.
    left_out : mapping of str to str
        The columns that are no features although nobody left them out, and the reason of each:
        ``{"when": "timestamps"}``.
    converted : mapping of str to str
        The features that are no numbers in the source, and the units of the numbers that they
        became: ``{"when": "days since 1970-01-01"}``.
    row_dims : tuple of str, or None
        The dims of the rows, where the features are variables with several dims.
    dims : tuple of str
        All dims of the variables that are features, if the dims have names.
    notes : tuple of str
        The guesses and conversions that made rows of the data, a line for each.
    full_checksum : callable, optional
        Returns a checksum that older versions recorded, where ``checksum`` is None because reading
        all bytes may take long.
    crs : str or None
        The coordinate reference system of features that are coordinates of points.
    decimal : str or None
        The decimal mark of numbers in text with which the source was opened, if not a point.
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
    full_checksum: Callable[[], str] | None = None
    crs: str | None = None
    decimal: str | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def label(self) -> str:
        """Return the name for messages, with the range if the part is not all rows."""
        whole = (self.start, self.stop) == (0, self.source.shape[0])
        return self.name if whole else f"{self.name}[{self.start}:{self.stop}]"

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Return the names of the stored columns: of unit vectors, the latitude and longitude."""
        if self.features is not None or not isinstance(self.source, Derived):
            return self.features
        return self.source.step.features

    def owned(self) -> "Part":
        """Return the same rows, where values in a caller's memory are copies of them."""
        return replace(self, source=self.source.owned())

    def overlaps(self, other: "Part") -> bool:
        """Return whether two parts have rows in common."""
        if self.identity is None or self.identity != other.identity:
            return False
        if innermost(self.source).kept is None and innermost(other.source).kept is None:
            return max(self.start, other.start) < min(self.stop, other.stop)
        return bool(np.isin(self._numbers, other._numbers).any())

    @property
    def _numbers(self) -> Array:
        """The numbers of the rows in the source below a filter."""
        kept = innermost(self.source).kept
        rows = np.arange(self.start, self.stop)
        return rows if kept is None else kept.numbers(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one or more parts, in order.

    Parameters
    ----------
    parts : tuple of Part
        The parts: at least one, none empty, all with the same number of features.
    linear : LinearMap, optional
        The map applied to decoded rows as they are read.
    drops_missing : bool
        True if rows with NaN are left out; otherwise they are an error.
    """

    parts: tuple[Part, ...]
    linear: LinearMap | None = None
    drops_missing: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(part) for part in self.parts)]

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return self._starts[-1]

    @property
    def n_stored_features(self) -> int:
        """Return the number of features before the linear map."""
        return self.parts[0].source.shape[1]

    @property
    def n_features(self) -> int:
        """Return the number of features after the linear map."""
        return self.n_stored_features if self.linear is None else self.linear.n_features

    @property
    def unmapped(self) -> "Rows":
        """Return the same rows without the linear map."""
        return replace(self, linear=None)

    def mapped(self, linear: LinearMap | None) -> "Rows":
        """Return the same rows with one more linear map after their own; None adds nothing."""
        return self if linear is None else replace(self, linear=chain(self.linear, linear))

    @property
    def label(self) -> str:
        """Return the name for messages."""
        return " + ".join(part.label for part in self.parts)

    @property
    def encoding(self) -> Encoding | None:
        """Return the encoding that all parts share; None if they differ."""
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
        """Return the bytes of a stored value, the largest among the parts."""
        return max(part.source.dtype.itemsize for part in self.parts)

    @property
    def is_encoded(self) -> bool:
        """Return whether decoding or a linear map makes new arrays."""
        return self.linear is not None or not all(part.encoding.is_identity for part in self.parts)

    @property
    def read_rows(self) -> int:
        """Return the largest number of rows read at a time: whole chunks, at least one."""
        return max(part.source.read_rows for part in self.parts)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes of values in memory that the rows take along to a worker."""
        return sum(part.source.resident_bytes for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Return the uncompressed bytes that reading all rows once takes; 0 of rows in memory."""
        return self.bytes_read(0, self.n_rows)

    def bytes_read(self, start: int, stop: int) -> int:
        """Return the uncompressed bytes that reading a range takes; 0 of rows in memory."""
        return sum(part.source.bytes_read(a, b) for part, a, b in self._cover(start, stop))

    @property
    def is_held(self) -> bool:
        """Return whether all values are in memory, or follow from values that are."""
        return all(part.source.is_held for part in self.parts)

    @property
    def is_fixed(self) -> bool:
        """Return whether each read gives the same: values are held, and none is a graph's."""
        return self.is_held and not any(part.source.is_lazy for part in self.parts)

    def read(
        self, start: int, stop: int, *, decode: bool, origin: FloatArray | None = None
    ) -> Array:
        """Return the rows from start up to stop, stored or decoded, in one array.

        Parameters
        ----------
        decode : bool
            True to decode the rows and to apply the linear map, if there is one.
        origin : array (n_stored_features,), optional
            A point that is subtracted in float64 before the linear map.

        Raises
        ------
        InputError
            When there are integers that float64 cannot represent.
        DataSetError
            When a file or a store is damaged or missing; a user's lazy graph raises its own errors.
        """
        if self.linear is not None and decode:
            return self._read_mapped(self.linear, start, stop, origin)
        pieces = [
            _decoded(part, _stored(part, a, b), a, decode=decode)
            for part, a, b in self._cover(start, stop)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def read_each(
        self, ranges: Sequence[tuple[int, int]], *, decode: bool, origin: FloatArray | None = None
    ) -> Array:
        """Return the rows of some ranges, one after another in one array.

        Neighbouring ranges in one chunk of a file or a store are read at once, so that it is
        fetched and decompressed once.

        Parameters
        ----------
        ranges : sequence of (start, stop)
            At least one; in ascending order, where chunks are to be read once.
        decode, origin
            As for :meth:`read`.
        """
        pieces = [piece for start, stop in ranges for piece in self._cover(start, stop)]
        values = []
        for first, last in _in_one_chunk(pieces):
            part, begin, _ = pieces[first]
            stop = max(b for _, _, b in pieces[first:last])
            stored = _stored(part, begin, stop)
            for _, a, b in pieces[first:last]:
                # A copy, so that what lies between the ranges goes.
                rows = stored if last == first + 1 else stored[a - begin : b - begin].copy()
                found = _decoded(part, rows, a, decode=decode)
                if self.linear is not None and decode:
                    found = self._mapped(self.linear, found, origin)
                values.append(found)
        return np.concatenate(values)

    def _read_mapped(
        self, linear: LinearMap, start: int, stop: int, origin: FloatArray | None
    ) -> FloatArray:
        """Return decoded rows after the origin is subtracted and the linear map is applied."""
        mapped = np.empty((stop - start, linear.n_features))
        # Piece by piece: decoded rows may have many more features than mapped ones.
        for a, b in self.ranges(start, stop):
            values = self.unmapped.read(a, b, decode=True)
            mapped[a - start : b - start] = self._mapped(linear, values, origin)
        return mapped

    def _mapped(self, linear: LinearMap, values: Array, origin: FloatArray | None) -> FloatArray:
        """Return decoded rows, less the origin, after the linear map."""
        centred = np.subtract(values, 0.0 if origin is None else origin, dtype=np.float64)
        mapped = linear.apply(centred)
        # A map may leave out a feature that is NaN; its row is to be left out all the same.
        if self.drops_missing:
            mark_missing(mapped, values)
        return mapped

    def missing(self, values: Array) -> npt.NDArray[np.bool_] | None:
        """Return a mask of rows (rows, n_features) that are left out; None if none."""
        return missing_rows(values) if self.drops_missing else None

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> FloatArray:
        """Return the rows with these numbers, decoded in float64, without the linear map.

        Only the chunks that hold them are read, each once.

        Parameters
        ----------
        rows : array (n,) of int
            Row numbers in any order, repeated or not.
        """
        # Sorted and without repeats, rows of one chunk are neighbours; ``where`` leads back.
        wanted, where = np.unique(rows, return_inverse=True)
        taken = np.empty((len(wanted), self.n_stored_features))
        plain = self.unmapped
        for part, offset in zip(self.parts, self._starts, strict=False):
            first, last = np.searchsorted(wanted, (offset, offset + len(part)))
            chunks = part.source.chunk_of(wanted[first:last] - offset + part.start)
            # One reading per chunk, from its first wanted row to its last.
            cuts = np.flatnonzero(np.diff(chunks)) + 1
            for a, b in pairwise([first, *(first + cuts), last]):
                if a < b:
                    here = wanted[a:b]
                    values = plain.read(int(here[0]), int(here[-1]) + 1, decode=True)
                    taken[a:b] = values[here - here[0]]
        return taken[where]

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges that cover start up to stop, each of whole chunks where possible."""
        for part, a, b in self._cover(start, stop):
            shift = start - a  # from row numbers of the part's source to those of this side
            yield from ((x + shift, y + shift) for x, y in pairwise(part.source.cuts(a, b)))
            start += b - a

    def coordinates(self) -> dict[str, Array]:
        """Read and return the coordinates (n_rows,) that all parts have, by name."""
        names = set.intersection(*(set(part.coordinates) for part in self.parts))
        return {name: self._coordinate(name) for name in sorted(names)}

    def _coordinate(self, name: str) -> Array:
        firsts = (
            part.coordinates[name].read(part.start, min(part.start + 1, part.stop))
            for part in self.parts
        )
        dtype = np.result_type(*firsts)
        if dtype.kind not in "fiubmM":  # text, whose length shows as it is read
            return np.concatenate(
                [part.coordinates[name].read(part.start, part.stop) for part in self.parts]
            )
        found, at = room_for_rows(self.n_rows, dtype), 0
        for part in self.parts:
            source = part.coordinates[name]
            for start, stop in pairwise(source.cuts(part.start, part.stop)):
                found[at : at + stop - start] = source.read(start, stop)
                at += stop - start
        return found

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Return the meanings of coordinates' values, where all parts agree on them."""
        first, *others = (part.classes for part in self.parts)
        return {
            name: words
            for name, words in first.items()
            if all(other.get(name) == words for other in others)
        }

    def locate(self, row: int) -> tuple[Part, int]:
        """Return the part in which a row lies, and the row's number in the part's source."""
        part, a, _ = next(self._cover(row, row + 1))
        return part, a

    def __getitem__(self, rows: slice) -> "Rows":
        start, stop, _ = rows.indices(self.n_rows)
        parts = tuple(replace(part, start=a, stop=b) for part, a, b in self._cover(start, stop))
        return replace(self, parts=parts)

    def _cover(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        """Yield the parts that hold rows start up to stop, with ranges in their sources."""
        for part, offset in zip(self.parts, self._starts, strict=False):
            a, b = max(start - offset, 0), min(stop - offset, len(part))
            if a < b:
                yield part, part.start + a, part.start + b


def _in_one_chunk(pieces: Sequence[tuple[Part, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of neighbouring pieces that lie in one chunk."""
    first = 0
    for number, (part, a, b) in enumerate(pieces[1:], 1):
        before, begin, _ = pieces[first]
        if (
            part is not before
            or part.source.resident_bytes  # in memory no reading is saved
            or not begin <= a
            or (b - begin) * part.source.row_bytes > _AT_ONCE
            or len(set(part.source.chunk_of(np.array([begin, b - 1])).tolist())) > 1
        ):
            yield first, number
            first = number
    yield first, len(pieces)


def _stored(part: Part, start: int, stop: int) -> Array:
    """Return rows of a part's source as they are stored, and note the bytes that were read."""
    stored = part.source.read(start, stop)
    if stored.ndim == 2:  # of rows, and not of their weights
        note(part.source.bytes_read(start, stop))
    return stored


def _decoded(part: Part, stored: Array, start: int, *, decode: bool) -> Array:
    """Return stored rows from a row number of the part's source on, decoded if asked."""
    if stored.ndim == 2 and part.encoding.is_identity:
        _check_exact(part, stored, start)
    return part.encoding.decode(stored) if decode else stored


def _check_exact(part: Part, stored: Array, start: int) -> None:
    """Refuse integers beyond 2**53: float64 would make some unequal ones equal."""
    found = beyond(stored)
    if found is None:
        return
    row, column = found
    name = column_name(part.features, column)
    raise rounded(f"{part.name}: {part.source.row_name(start + row)}, {name}", stored[found])


def column_name(features: tuple[str, ...] | None, column: int) -> str:
    """Return the name of a column for messages, or its number if columns have no names."""
    return f"column {column}" if features is None else features[column]


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the work: rows, with their weights and groups.

    Parameters
    ----------
    rows : Rows
        The rows.
    weights : RowSource, optional
        One non-negative number for each row; only for the train side.
    groups : RowSource, optional
        One integer for each row; pairs with equal groups are left out of the sums.
    scales : RowSource, optional
        One positive number for each row, which multiplies its bandwidth; only for the train side.
    """

    rows: Rows
    weights: RowSource | None = None
    groups: RowSource | None = None
    scales: RowSource | None = None

    def __sizeof__(self) -> int:
        # Dask counts a worker's managed memory by this. The default would miss the arrays.
        others = (self.weights, self.groups, self.scales)
        vectors = [s.resident_bytes for s in others if s is not None]
        linear = 0 if self.rows.linear is None else self.rows.linear.nbytes
        return object.__sizeof__(self) + self.rows.resident_bytes + sum(vectors) + linear
