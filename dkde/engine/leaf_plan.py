"""Rows in leaves: how they are cut into blocks, and the bytes that these take. Integers only."""

from dataclasses import dataclass
from math import ceil

from dkde.engine.side_size import SideSize

# Rows of more features are summed by matrix products, all pairs of them or those that bounds in
# few dimensions leave. Up to here a pair in leaves takes no longer than one of a product even
# where none can be left out (benchmarks/pair_loop.py).
MOST_IN_LEAVES = 96
# A panel in memory and one that is read, in rows and in bytes of its tree. The larger it is, the
# smaller its leaves' boxes. These matter less where there are many features.
RESIDENT_PANEL, READ_PANEL, WIDE_PANEL = (2**24, 2**29), (2**21, 2**28), (2**21, 2**25)
_MANY_FEATURES = 16
# A block of fewer pairs is done by one thread. A share is whole leaves of query rows, and has at
# least so many pairs, unless it has as many rows as a block for one thread.
_SHARED_PAIRS, _SHARE_PAIRS, _SHARE_ROWS, _MOST_SHARES = 2**26, 2**25, 64, 32
# What moments of cells of the training rows may take, with what is made of them, by features.
MOMENT_BYTES = {1: 128 * 2**20, 2: 256 * 2**20, 3: 768 * 2**20}
# Beside the moments there are their coefficients at the query rows' cells: half as much again as
# the moments, a few megabytes, and copies while they are made.
BESIDE_BYTES, TIMES = 2**25, 2.5
# The most of a panel's rows in sparse cells, in bytes, and of such cells: those of
# dkde.numerics.sparse_rows, which a test compares; and the bytes of a cell in its table.
SPARSE_BYTES, SPARSE_CELLS, _SPARSE_CELL = 2**26, 2**20, 80
# Bytes of a training row while it is sorted, beside its tree: two keys, less the weight that takes
# their place; of its weight: as read, joined and in its unit; of its group: as read, joined and
# sorted; and of the table of groups, which stays, where each row has one of its own. Of its scale:
# as read, joined, and what weights are made with; and its factor, which stays.
_SORTING, _WEIGHING, _GROUPING, _TABLE = 8, 32, 32, 28
_SCALING, _FACTOR = 128, 9
# Threads that put parts of a tree in order at a time where it has so many rows, and the rows of a
# part.
_SORTERS, _MANY_ROWS, _PART_ROWS = 8, 2**17, 2**14
# Numbers of a query row in its sums: by bandwidth, with what log-sums are made from, and with what
# moments of nodes add; and others.
_SUMS, _NODE_SUMS, _OTHERS = 12, 3, 20


@dataclass(frozen=True)
class LeafBytes:
    """The memory of blocks whose rows are in leaves.

    Parameters
    ----------
    query, train : SideSize
    n_features, n_bandwidths : int
    query_rows, panel_rows : int
        Of a block.
    n_shares : int
        Of a block's query rows.
    has_cells : bool
        Whether sums may be by moments of cells.
    node_moments : int
        The moments of each node of a tree; 0 where there are none.
    """

    query: SideSize
    train: SideSize
    n_features: int
    n_bandwidths: int
    query_rows: int
    panel_rows: int
    n_shares: int
    has_cells: bool
    node_moments: int = 0

    @property
    def of_block(self) -> int:
        """Return the peak bytes of one thread: of its share, and of what it has for itself."""
        rows = ceil(self.query_rows / self.n_shares)
        sums = _SUMS + _NODE_SUMS * (self.node_moments > 0)
        share = rows * 8 * (_OTHERS + sums * self.n_bandwidths)
        if not self._has_shares:
            # Each thread has a block of its own.
            share += self._query + self._moments * (self.train.index_bytes > 0 or not self._is_one)
            return share + (0 if self._is_one else self._making) + self._own_tree
        share += rows * self._query_row
        # More threads than a block has shares work on several blocks.
        others = 0 if self.stays else self._tree
        return share + ceil((self._query + others) / self.n_shares)

    @property
    def shared(self) -> int:
        """Return the peak bytes that all blocks of a worker share."""
        stays = self.train.rows * self._tree_row if self.stays else 0
        if not self._has_shares:
            if self.train.index_bytes or not self._is_one:
                return stays
            return stays + self._making + self._moments
        # Of blocks one after the other, the last shares of one are done beside the first of the
        # next.
        n_query_blocks = min(2, ceil(self.query.rows / self.query_rows))
        n_panels = 1 if self._is_one else 2
        # And half of one more that the allocator has not given back.
        others = 0 if self.stays else n_panels * self._tree + self._tree // 2
        query = n_query_blocks * self._query
        return stays + others + query + self._making + n_panels * self._moments

    def while_moments_are_made(self, n_threads: int) -> int:
        """Return the peak bytes while moments of all training rows are made, before any block.

        Each thread makes those of a panel. Others wait until it is their turn to be merged: see
        :mod:`dkde.engine.whole_moments`. 0 where none are made.
        """
        if not self.has_cells or (self._is_one and self.train.is_held):
            return 0
        n_making = min(n_threads, ceil(self.train.rows / self.panel_rows))
        found = most_moment_bytes(self.n_features) + self._sparse_bytes
        reading = self.train.reading_bytes(self.panel_rows, self.n_features)
        return n_making * (found + reading) + MOMENT_BYTES[self.n_features] + found

    @property
    def _sparse_bytes(self) -> int:
        """Return the bytes of a panel's rows in sparse cells, and of their cells."""
        values = 8 * self.n_features
        rows = min(self.panel_rows, SPARSE_BYTES // values)
        return rows * (values + 8) + min(self.panel_rows, SPARSE_CELLS) * _SPARSE_CELL

    @property
    def stays(self) -> bool:
        """Return whether training rows, once they are in leaves, stay there for all blocks."""
        if self.train.index_bytes:
            return False  # what is read depends on the query rows
        return self._is_one or self.train.is_held

    @property
    def _has_shares(self) -> bool:
        return self.n_shares > 1 and not self.train.index_bytes

    @property
    def _is_one(self) -> bool:
        return self.panel_rows >= self.train.rows

    @property
    def _query_row(self) -> int:
        """Return the bytes of a query row, its numbers and its values as read included."""
        values = self.n_features * self.query.decoded_itemsize
        return values + query_row_bytes(self.n_features) + 16 + 32 * self.query.is_grouped

    @property
    def _query(self) -> int:
        values = self.n_features * self.query.decoded_itemsize if self.query.is_view else 0
        return self.query_rows * (self._query_row - values)

    @property
    def _tree_row(self) -> int:
        d = self.n_features
        moments = 0
        if self.node_moments:
            moments = ceil(8 * (d + 2 + self.node_moments) / 64)
            # In two and three dimensions those of pieces of 16 rows, and their boxes.
            moments += (2 * d + self.node_moments) // 2 + 1 if d in (2, 3) else 0
        own = _TABLE * self.train.is_grouped + _FACTOR * self.train.is_scaled
        return tree_row_bytes(d) + moments + own

    @property
    def _tree(self) -> int:
        return self.panel_rows * self._tree_row

    @property
    def _own_tree(self) -> int:
        """Return the bytes of a tree that a thread has for itself: of a read, or of its panel."""
        if self.train.index_bytes:
            return min(self.panel_rows, 2 * self.train.read_rows) * self._tree_row
        return 0 if self.stays else self._tree

    @property
    def _making(self) -> int:
        """Return the bytes beside a tree while it is made."""
        row = _SORTING + _WEIGHING * self.train.is_weighted + _GROUPING * self.train.is_grouped
        row += _SCALING * self.train.is_scaled
        sorters = _SORTERS if self.panel_rows >= _MANY_ROWS else 1
        parts = min(self.panel_rows, sorters * _PART_ROWS) * 16 * (self.n_features + 1)
        reading = self.train.reading_bytes(self.panel_rows, self.n_features)
        return self.panel_rows * row + max(parts, reading)  # first it is read, then sorted

    @property
    def _moments(self) -> int:
        return MOMENT_BYTES[self.n_features] if self.has_cells else 0


def most_moment_bytes(n_features: int) -> int:
    """Return the bytes that moments of cells may take, without what is made of them."""
    return int((MOMENT_BYTES[n_features] - BESIDE_BYTES) / TIMES)


def tree_row_bytes(n_features: int) -> int:
    """Return the bytes of a training row in leaves, with its share of their boxes.

    See :mod:`dkde.numerics.tree`, whose trees a test holds to it.
    """
    return 8 * n_features + 8 + 8 + 4 + _box_bytes(n_features) // 64


def query_row_bytes(n_features: int) -> int:
    """Return the bytes of a query row in leaves, with its share of the boxes of leaf and group."""
    return 8 * n_features + 8 + _box_bytes(n_features) // 64 + _box_bytes(n_features) // 4


def leaves_panel(train: SideSize, n_features: int) -> int:
    """Return the training rows of a panel whose rows are put in leaves."""
    rows, nbytes = READ_PANEL if n_features <= _MANY_FEATURES else WIDE_PANEL
    if train.is_held:
        rows, nbytes = RESIDENT_PANEL
    largest = max(1, min(rows, nbytes // tree_row_bytes(n_features)))
    n_panels = ceil(train.rows / largest)
    # As many as a few workers can share evenly: in rows of any order a panel's leaves are as
    # wide as if the others were not there, so fewer would be less work.
    n_panels = 1 << (n_panels - 1).bit_length()
    return ceil(ceil(train.rows / n_panels) / train.read_rows) * train.read_rows


def leaves_shares(query_rows: int, panel_rows: int, block_rows: int) -> int:
    """Return the number of shares of a block whose rows are in leaves.

    Parameters
    ----------
    query_rows, panel_rows : int
        Of the block.
    block_rows : int
        The query rows of a block for one thread.
    """
    if query_rows * panel_rows < _SHARED_PAIRS:
        return 1
    rows = min(block_rows, max(_SHARE_ROWS, ceil(_SHARE_PAIRS / panel_rows)))
    return min(_MOST_SHARES, ceil(query_rows / rows))


def _box_bytes(n_features: int) -> int:
    return 2 * 8 * min(n_features, 16)
