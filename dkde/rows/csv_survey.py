"""One pass over large CSV files: their blocks, and the checksum of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

from dkde.errors import DataSetError
from dkde.rows.arrow_values import Column
from dkde.rows.csv_blocks import Blocks, block_bytes, survey
from dkde.rows.csv_files import content_of
from dkde.rows.csv_layout import Layout
from dkde.rows.csv_reading import TextPlace, arrow_type
from dkde.rows.csv_source import CsvSource
from dkde.rows.row_filter import no_such
from dkde.stores.listed_files import Listed, Url

# The tables whose blocks are kept after they were read.
_KEPT = 4


class TextTable:
    """The CSV files of a table, whose blocks become known as they are read once.

    Parameters
    ----------
    files : Listed
        The files.
    layouts : sequence of Layout
        The layout of each.
    columns : sequence of mapping of str to Column
        The columns of each.
    is_named : bool
        Whether the names of the files are a part of the checksum.
    """

    def __init__(
        self,
        files: Listed,
        layouts: Sequence[Layout],
        columns: Sequence[Mapping[str, Column]],
        *,
        is_named: bool,
    ) -> None:
        self.files, self._columns, self._is_named = files, columns, is_named
        # Most files are alike: what is equal is held, and sent to workers, once.
        known: dict[Any, Any] = {}
        self._layouts = tuple(known.setdefault(each, each) for each in layouts)
        self._shared = known
        self._blocks: dict[int, list[tuple[int, int]]] = {}
        self._digest, self._n_digested = hashlib.sha256(), 0
        self._lock = Lock()
        self._checked: list[set[str]] = [set() for _ in layouts]

    def stream(self, i: int, wanted: Sequence[str], label: str | None = None) -> Iterator[Any]:
        """Read a file to its end, and yield the wanted columns of every row.

        Parameters
        ----------
        i : int
            The number of the file.
        wanted : sequence of str
            The columns.
        label : str, optional
            The one of these that is read as text.

        Raises
        ------
        DataSetError
            When the text is not as its first lines say.
        InputError
            When an integer would be rounded.
        """
        import pyarrow as pa

        types = {
            name: pa.string() if name == label else arrow_type(self._columns[i][name])
            for name in wanted
        }
        layout, blocks = self._layouts[i], list[tuple[int, int]]()
        seen = None
        with self._lock:
            if i == self._n_digested:  # files are digested in order, in the first pass
                digest = self._digest.copy()
                digest.update(self._heading(i))
                seen = digest.update
        size = block_bytes(self.files.n_bytes)
        place = TextPlace(Url(self.files.path(i)), layout)
        with content_of(self.files, i, layout.is_gzipped, seen) as file:
            yield from survey(file, place, types, size, lambda *found: blocks.append(found))
        self.files.check(i)  # it may have been written over since it was opened
        self._blocks[i] = blocks
        if seen is not None:
            self._digested(i, digest)
        self._checked[i] |= set(wanted) - {label}

    def count(self, i: int, wanted: Sequence[str]) -> int:
        """Return the number of rows of a file, whose wanted columns are all of their kinds."""
        if i not in self._blocks or not self._checked[i].issuperset(wanted):
            for _ in self.stream(i, wanted):
                pass
        return sum(rows for _, rows in self._blocks[i])

    def _heading(self, i: int) -> bytes:
        """Return what the checksum of several files covers of one, beside its bytes."""
        if not self._is_named:
            return b""
        return f"{self.files.names[i]}\n{self.files.sizes[i]}\n".encode(errors="surrogateescape")

    def checksum(self) -> str:
        """Return the checksum of all bytes, as `dkde.datasets.formats.files` makes it."""
        while (i := self._n_digested) < len(self.files):
            with self._lock:
                digest = self._digest.copy()
            digest.update(self._heading(i))
            with self.files.open(i) as file:
                while piece := file.read(2**20):
                    digest.update(piece)
            self.files.check(i)
            self._digested(i, digest)
        return f"sha256:{self._digest.hexdigest()}"

    def _digested(self, i: int, digest: Any) -> None:
        """Note the digest of all files up to one; the table may be read by several threads."""
        with self._lock:
            if i == self._n_digested:
                self._digest, self._n_digested = digest, i + 1

    def rows(self, names: Sequence[str], dtype: Any = None) -> CsvSource:
        """Return columns of numbers as a source that a task reads, after all files were read."""
        blocks = Blocks.of([self._blocks[i] for i in range(len(self.files))])
        return CsvSource(
            self.files, blocks, self._layouts, names, self._kinds(names), others=self.as_they_are
        )

    def as_they_are(self, names: Sequence[str]) -> CsvSource:
        """Return any columns, of text and times too, as a source of record batches.

        Raises
        ------
        NoVariableError
            When there is no such column.
        """
        for name in names:
            if name not in self._columns[0]:
                raise no_such(self.files.path(0), name, list(self._columns[0]))
        for i, columns in enumerate(self._columns):
            if missing := [name for name in names if name not in columns]:
                raise DataSetError(
                    f"{self.files.path(i)}: has no column {missing[0]!r}, unlike the first file; "
                    "files that are read together must have the same columns"
                )
        return self.rows(names)

    def _kinds(self, names: Sequence[str]) -> tuple[tuple[Column, ...], ...]:
        found = (tuple(columns[name] for name in names) for columns in self._columns)
        return tuple(self._shared.setdefault(each, each) for each in found)


# Tables that were read, the oldest first: one that is opened again is not read again.
_kept: dict[Any, TextTable] = {}
_lock = Lock()


def kept_table(table: TextTable) -> TextTable:
    """Return the table of the same files that was read before; else this one, which is kept."""
    key = (table.files, table._layouts)
    with _lock:
        found = _kept.pop(key, table)
        _kept[key] = found
        while len(_kept) > _KEPT:
            del _kept[next(iter(_kept))]
    return found
