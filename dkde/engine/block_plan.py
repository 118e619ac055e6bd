"""The plan: the cut of the pairs into blocks, and its cost. Integers only.

The cut depends on the sizes of the data and on constants, never on the cluster or its memory: the
same call must give the same numbers everywhere, to the last bit.
"""

from dataclasses import dataclass, replace
from math import ceil

# A block of query rows is held in memory while the training rows are read piece by piece. Large
# blocks mean that training rows are read fewer times; small blocks, that more workers get one.
MAX_QUERY_BYTES = 64 * 2**20
MAX_QUERY_ROWS = 16384
MIN_QUERY_ROWS = 2560
# Enough blocks for dozens of workers, unless panels would get shorter than the second number.
MIN_BLOCKS = 32
MIN_PANEL_ROWS = 32768
# No block takes longer than about half a minute of one core, so that a lost block costs little.
MAX_BLOCK_FLOPS = 2**40
# The cost of one bandwidth for one pair, in flops. The product of d features costs 2 d flops.
_FLOPS_PER_EXPONENTIAL = 30
# Bytes of a stored value while it is mapped. It exists three times in float64: decoded, with the
# origin subtracted, and chosen among the columns.
_MAPPING_BYTES = 24
# Training rows are mapped anew for each query block. Query blocks are so large that this costs at
# most this share of what the pairs cost.
_MAPPING_SHARE = 0.25
# With fewer rows on either side all pairs are computed: looking at a sample first does not pay.
FEW_QUERY_ROWS, FEW_TRAIN_ROWS = 256, 8192
# Rows of more features are summed by matrix products, all pairs of them or those that bounds in
# few dimensions leave: boxes around the rows of a leaf then say too little. Measured up to here.
MOST_IN_LEAVES = 20
# Work on rows in leaves grows with the rows and not with their pairs. The more query rows there
# are in a block, the smaller their leaves' boxes; the larger a panel, the smaller its own.
LEAVES_QUERY_ROWS = 2**16
# A panel in memory and one that is read, in rows and in bytes of its tree.
_RESIDENT_PANEL, _READ_PANEL = (2**24, 2**29), (2**21, 2**28)
# A block of fewer pairs than this is done by one thread.
_SHARED_PAIRS, _MOST_SHARES = 2**28, 32
# The blocks of a grid, unless they get shorter than so many rows: products along its axes have
# less to share then.
_GRID_BLOCKS, _GRID_ROWS = 16, 2**13
# What moments of cells of the training rows may take, with what is made of them, by features.
MOMENT_BYTES = {1: 128 * 2**20, 2: 256 * 2**20, 3: 768 * 2**20}
# Beside a row and its tree, what is sorted: a key and two numbers.
_SORTING_BYTES = 24
# Tiles: see dkde.numerics.tiles, whose constants a test compares with these.
QUERY_TILE_ROWS, TRAIN_TILE_ROWS = 1280, 512


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

    def stored_row_bytes(self, n_features: int) -> int:
        """Return the bytes of a row as stored; ``n_features`` is their number after a map."""
        return self.itemsize * (self.mapped_from or n_features)

    def reading_row_bytes(self, n_features: int, copies: int) -> int:
        """Return the bytes of a row that exist only while it is read: copies, and values to map."""
        mapping = 0 if self.mapped_from is None else _MAPPING_BYTES * self.mapped_from
        return copies * self.stored_row_bytes(n_features) + mapping


@dataclass(frozen=True)
class Plan:
    """Blocks of query rows x panels of training rows, and their cost.

    Parameters
    ----------
    query, train : SideSize
        The sizes of both sides.
    n_features, n_bandwidths : int
        The number of features after any linear map, and of bandwidths.
    precision_bytes : int
        Bytes of a value in the precision of the distances: 4 or 8.
    query_rows, panel_rows : int
        The number of query rows and of training rows of a block; the last ones may be shorter.
    has_cells : bool
        Whether sums may be by moments of cells.

    Examples
    --------
    >>> side = SideSize(rows=10_000, itemsize=1, read_rows=10_000, decoded_itemsize=1)
    >>> plan = make_plan(side, side, n_features=784, n_bandwidths=8)
    >>> plan.n_query_blocks, plan.n_panels, plan.n_blocks
    (4, 1, 4)
    >>> plan.query_block(3)
    (7500, 10000)
    >>> plan.pairs, plan.flops
    (100000000, 180800000000)
    """

    query: SideSize
    train: SideSize
    n_features: int
    n_bandwidths: int
    precision_bytes: int
    query_rows: int
    panel_rows: int
    in_leaves: bool = False
    has_cells: bool = False
    n_shares: int = 1

    @property
    def cut(self) -> tuple[int, int]:
        """Return the numbers of query and of training rows of a block."""
        return self.query_rows, self.panel_rows

    def cut_into(self, query_rows: int, panel_rows: int) -> "Plan":
        """Return the plan of the same work in blocks of other numbers of rows."""
        return replace(
            self,
            query_rows=min(query_rows, self.query.rows),
            panel_rows=min(panel_rows, self.train.rows),
            n_shares=_shares(query_rows, panel_rows) if self.n_shares > 1 else 1,
        )

    @property
    def n_query_blocks(self) -> int:
        """Return the number of blocks of query rows."""
        return ceil(self.query.rows / self.query_rows)

    @property
    def n_panels(self) -> int:
        """Return the number of panels of training rows."""
        return ceil(self.train.rows / self.panel_rows)

    @property
    def n_blocks(self) -> int:
        """Return the number of blocks."""
        return self.n_query_blocks * self.n_panels

    def query_block(self, index: int) -> tuple[int, int]:
        """Return start and stop of a block's query rows."""
        return _piece(index, self.query_rows, self.query.rows)

    def panel(self, index: int) -> tuple[int, int]:
        """Return start and stop of a panel's training rows."""
        return _piece(index, self.panel_rows, self.train.rows)

    def block_pairs(self, block: tuple[int, int]) -> int:
        """Return the number of pairs of a query block and a panel."""
        (a, b), (c, d) = self.query_block(block[0]), self.panel(block[1])
        return (b - a) * (d - c)

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        return self.query.rows * self.train.rows

    @property
    def flops(self) -> int:
        """Return the floating-point operations of all pairs."""
        return self.pairs * _pair_flops(self.n_features, self.n_bandwidths)

    @property
    def bytes_read(self) -> int:
        """Return the uncompressed bytes that tasks read, each re-read counted."""
        d = self.n_features
        query = self.query.rows * self.query.stored_row_bytes(d) * self.n_panels
        train = self.train.rows * self.train.stored_row_bytes(d) * self.n_query_blocks
        return query + train

    @property
    def block_bytes(self) -> int:
        """Return the peak bytes that one block adds to a worker."""
        if self.in_leaves:
            return self._leaves_bytes
        d, size = self.n_features, self.precision_bytes
        # What is held as long as the block lasts: the query rows as they were read and in the
        # frame, and for each row the sums and the partial results.
        rows = min(self.query_rows, self.query.rows)
        stored = 0 if self.query.is_view else rows * d * self.query.decoded_itemsize
        held = stored + rows * d * size + rows * 8 * (6 + 7 * (self.n_bandwidths + 1))
        # A tile: its distances, the training rows in the frame, and both sides in float64.
        tile_rows = min(QUERY_TILE_ROWS, rows)
        recast = tile_rows * self.query.is_recast + TRAIN_TILE_ROWS * self.train.is_recast
        tile = TRAIN_TILE_ROWS * (tile_rows + d) * size + recast * d * 8
        # The query rows are read first, all their chunks at once. They exist twice at that time:
        # compressed and decoded, or as chunks and joined. Only mapped rows are read in pieces.
        piece = rows if self.query.mapped_from is None else min(rows, self.query.read_rows)
        reading = stored + piece * self.query.reading_row_bytes(d, min(self.query.copies, 2))
        work = held + tile + _read_bytes(self.train, self.panel_rows, d) + self._bounds_bytes
        return max(reading, work)

    @property
    def _leaves_bytes(self) -> int:
        """Return the peak bytes that one block adds to a worker where rows are in leaves."""
        d = self.n_features
        rows = min(self.query_rows, self.query.rows)
        query = rows * (query_row_bytes(d) + 8 * (8 + 5 * self.n_bandwidths))
        if not self.query.is_view:
            query += rows * d * self.query.decoded_itemsize
        moments = MOMENT_BYTES[d] if self.has_cells else 0
        panel = min(self.panel_rows, self.train.rows)
        # The rows as they are read, until they are in leaves; and what sorting them takes.
        making = panel * (0 if self.train.is_view else 8 * d) + panel * _SORTING_BYTES
        tree = 0 if self.is_tree_resident else panel * tree_row_bytes(d)
        reading = _read_bytes(self.train, self.panel_rows, d)
        return query + max(making + reading, moments) + tree + self._bounds_bytes

    @property
    def _bounds_bytes(self) -> int:
        """Return the bytes of lower bounds of distances to the reads of a panel, in float32."""
        rows = min(self.query_rows, self.query.rows)
        reads = ceil(min(self.panel_rows, self.train.rows) / self.train.read_rows)
        return rows * reads * 4 if self.train.index_bytes else 0

    @property
    def is_tree_resident(self) -> bool:
        """Return whether training rows, once they are in leaves, stay there for all blocks."""
        return self.in_leaves and (self.n_panels == 1 or self.train.resident_bytes > 0)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that both sides hold in memory, and their leaves."""
        held = self.query.resident_bytes + self.train.resident_bytes + self.train.index_bytes
        leaves = self.train.rows * tree_row_bytes(self.n_features) if self.is_tree_resident else 0
        return held + leaves

    @property
    def worker_bytes(self) -> int:
        """Return the peak bytes that the work adds to a worker of one thread."""
        return self.block_bytes + self.resident_bytes


def make_plan(
    query: SideSize,
    train: SideSize,
    *,
    n_features: int,
    n_bandwidths: int,
    precision_bytes: int = 8,
    mapping_flops: int = 0,
    in_leaves: bool = False,
    has_cells: bool = False,
    in_shares: bool = True,
    line_rows: int | None = None,
    cut: tuple[int | None, int | None] = (None, None),
) -> Plan:
    """Cut the pairs into blocks.

    Parameters
    ----------
    query, train : SideSize
        The sizes of both sides.
    n_features, n_bandwidths : int
        The number of features after any linear map, and of bandwidths.
    precision_bytes : int
        Bytes of a value in the precision of the distances: 4 or 8.
    mapping_flops : int
        What the linear map of one training row costs.
    in_leaves : bool
        Whether rows are put in leaves, whose pairs are summed where they are near.
    has_cells : bool
        Whether sums may be by moments of cells.
    in_shares : bool
        Whether a block's query rows may be shared out among threads; else blocks are as small.
    line_rows : int, optional
        The query rows of an index of the first dim, where they are a tensor grid.
    cut : tuple of int, or None
        Query and training rows of a block; None for those that are to be chosen. A chosen panel
        is whole reads of the train side, so that no chunk is read by two of them.
    """
    query_rows, panel_rows = cut
    n_shares = 1
    if in_leaves:
        if query_rows is None:
            by_bytes = max(1, MAX_QUERY_BYTES // (8 * n_features))
            most = min(by_bytes, LEAVES_QUERY_ROWS)
            query_rows = _even(query.rows, most)
            if line_rows is not None:
                query_rows = _grid_rows(query.rows, line_rows, most)
        if panel_rows is None:
            panel_rows = _leaves_panel(train, n_features)
        n_shares = _shares(query_rows, panel_rows)
        if n_shares > 1 and not in_shares and cut[0] is None:
            n_shares = 1
            if line_rows is None:
                query_rows = _even(query.rows, MIN_QUERY_ROWS)
    if query_rows is None:
        # Bytes in float64, whatever the precision of the distances.
        by_bytes = max(1, MAX_QUERY_BYTES // (8 * n_features))
        largest = min(by_bytes, MAX_QUERY_ROWS)
        worth_mapping = ceil(
            mapping_flops / (_MAPPING_SHARE * _pair_flops(n_features, n_bandwidths))
        )
        wanted = max(MIN_QUERY_ROWS, ceil(query.rows / MIN_BLOCKS), worth_mapping)
        query_rows = _even(query.rows, min(largest, wanted))
    if panel_rows is None:
        n_query_blocks = ceil(query.rows / query_rows)
        row_flops = query_rows * _pair_flops(n_features, n_bandwidths)
        largest = max(1, MAX_BLOCK_FLOPS // row_flops)
        wanted = max(MIN_PANEL_ROWS, ceil(train.rows / ceil(MIN_BLOCKS / n_query_blocks)))
        panel_rows = _even(train.rows, min(largest, wanted))
        # Rounded up to whole reads: this exceeds the largest by less than one read.
        panel_rows = ceil(panel_rows / train.read_rows) * train.read_rows
    return Plan(
        query, train, n_features, n_bandwidths, precision_bytes,
        min(query_rows, query.rows), min(panel_rows, train.rows), in_leaves, has_cells, n_shares,
    )  # fmt: skip


def tree_row_bytes(n_features: int) -> int:
    """Return the bytes of a training row in leaves, with its share of their boxes.

    See :mod:`dkde.numerics.tree`, whose trees a test holds to it.
    """
    return 8 * _width(n_features) + 8 + 8 + 4 + _box_bytes(n_features) // 64


def query_row_bytes(n_features: int) -> int:
    """Return the bytes of a query row in leaves, with its share of the boxes of leaf and group."""
    return 8 * _width(n_features) + 8 + _box_bytes(n_features) // 64 + _box_bytes(n_features) // 4


def _width(n_features: int) -> int:
    return n_features if n_features <= 4 else 8 * ceil(n_features / 8)


def _box_bytes(n_features: int) -> int:
    return 2 * 8 * min(n_features, 16)


def _grid_rows(total: int, line_rows: int, most: int) -> int:
    """Return the query rows of a block of a grid: whole lines, where these are short enough.

    >>> _grid_rows(1280 * 960, 960, 2**16) / 960, _grid_rows(320 * 240, 240, 2**16) / 240
    (68.0, 32.0)
    """
    if line_rows > most:
        return _even(line_rows, most)
    wanted = max(_GRID_ROWS, min(most, ceil(total / _GRID_BLOCKS)))
    return _even(total // line_rows, max(1, wanted // line_rows)) * line_rows


def _leaves_panel(train: SideSize, n_features: int) -> int:
    """Return the training rows of a panel whose rows are put in leaves."""
    rows, nbytes = _RESIDENT_PANEL if train.resident_bytes else _READ_PANEL
    largest = max(1, min(rows, nbytes // tree_row_bytes(n_features)))
    n_panels = ceil(train.rows / largest)
    # As many as a few workers can share evenly: in rows of any order a panel's leaves are as
    # wide as if the others were not there, so fewer would be less work.
    n_panels = 1 << (n_panels - 1).bit_length()
    return ceil(ceil(train.rows / n_panels) / train.read_rows) * train.read_rows


def _shares(query_rows: int, panel_rows: int) -> int:
    """Return the number of shares of a block whose rows are in leaves."""
    many = query_rows * panel_rows >= _SHARED_PAIRS
    return min(_MOST_SHARES, ceil(query_rows / MIN_QUERY_ROWS)) if many else 1


def _pair_flops(n_features: int, n_bandwidths: int) -> int:
    """Return the floating-point operations of one pair at all bandwidths."""
    return 2 * n_features + _FLOPS_PER_EXPONENTIAL * n_bandwidths


def _even(total: int, largest: int) -> int:
    """Return the rows of equal pieces of a total, which are as few as pieces of ``largest`` rows.

    >>> _even(10_000, 1024), _even(10, 1024)
    (1000, 10)
    """
    return ceil(total / ceil(total / largest))


def _piece(index: int, rows: int, total: int) -> tuple[int, int]:
    """Return start and stop of the piece with this number; the last one ends at the total."""
    return index * rows, min((index + 1) * rows, total)


def _read_bytes(side: SideSize, rows: int, n_features: int) -> int:
    """Return the bytes of rows in work, rows read ahead, and the store's buffers."""
    if side.is_view:
        return 0
    # Where a panel takes several reads, the next one is read while one is in work.
    held = 1 if rows <= side.read_rows else 2
    rows = min(rows, side.read_rows, side.rows)
    worked_on = held * side.decoded_itemsize * n_features
    return rows * (worked_on + side.reading_row_bytes(n_features, side.copies))
