"""The sizes of one side, which the plan is made from. Integers only."""

from dataclasses import dataclass

# Bytes of a stored value while it is mapped. It exists three times in float64: decoded, with the
# origin subtracted, and chosen among the columns.
_MAPPING_BYTES = 24


@dataclass(frozen=True)
class SideSize:
    """The sizes of one side that the plan needs.

    Parameters
    ----------
    rows : int
        The number of rows.
    itemsize : int
        Bytes of a value as stored.
    read_rows : int
        The largest number of rows that are read at a time.
    decoded_itemsize : int
        Bytes of a value as it is computed with; ``itemsize`` if nothing is decoded.
    resident_bytes : int
        Bytes that the side holds in memory as long as the work lasts.
    copies : int
        The number of extra copies of a batch that exist while it is read: the storage's buffers.
    is_view : bool
        True if reading takes no memory, as it returns views of an array in memory.
    is_recast : bool
        True if rows are copied to float64 where their distances are recomputed.
    mapped_from : int, optional
        The number of stored features, if a linear map is applied to them.
    index_bytes : int
        Bytes of an index of the rows in each worker; 0 if there is none.
    is_weighted, is_grouped : bool
        Whether rows have weights, and groups.
    is_scaled : bool
        Whether rows have scales of their own.
    chunk_rows : int
        The rows of a chunk, where chunks are decoded whole; else 1.
    is_held : bool
        Whether all values are in memory, or follow from values that are.
    """

    rows: int
    itemsize: int
    read_rows: int
    decoded_itemsize: int
    resident_bytes: int = 0
    copies: int = 1
    is_view: bool = False
    is_recast: bool = True
    mapped_from: int | None = None
    index_bytes: int = 0
    is_weighted: bool = False
    is_grouped: bool = False
    is_scaled: bool = False
    chunk_rows: int = 1
    is_held: bool = False

    def stored_row_bytes(self, n_features: int) -> int:
        """Return the bytes of a row as stored; ``n_features`` is their number after a map."""
        return self.itemsize * (self.mapped_from or n_features)

    def reading_row_bytes(self, n_features: int, copies: int) -> int:
        """Return the bytes of a row that exist only while it is read: copies, and values to map."""
        mapping = 0 if self.mapped_from is None else _MAPPING_BYTES * self.mapped_from
        return copies * self.stored_row_bytes(n_features) + mapping

    def reading_bytes(self, rows: int, n_features: int) -> int:
        """Return the bytes of rows in work, rows read ahead, and the store's buffers.

        Parameters
        ----------
        rows : int
            The rows of a panel.
        """
        if self.is_view:
            return 0
        # Where a panel takes several reads, the next one is read while one is in work.
        held = 1 if rows <= self.read_rows else 2
        rows = min(rows, self.read_rows, self.rows)
        worked_on = held * self.decoded_itemsize * n_features
        return rows * (worked_on + self.reading_row_bytes(n_features, self.copies))
