"""The plan: the cut of the pairs into blocks, and its cost. Integers only.

The cut depends on the sizes of the data and on constants, never on the cluster or its memory: the
same call must give the same numbers everywhere, to the last bit.
"""

from dataclasses import dataclass
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
# Where rows may be expanded the work grows with rows, not with pairs, and so blocks are larger.
# They still take minutes only if their pairs have to be computed after all.
EXPANDED_QUERY_ROWS = 2**16
EXPANDED_PANEL_ROWS = 2**21
# The memory that expansions of the training rows may take, by the number of features.
EXPANSION_BYTES = {1: 128 * 2**20, 2: 256 * 2**20, 3: 768 * 2**20}
# The rows of a tile. This module imports the standard library alone, so a test compares them with
# the constants of dkde.numerics.tiles.
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
    expandable : bool
        True if rows may be expanded instead of paired.

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
    expandable: bool = False

    @property
    def cut(self) -> tuple[int, int]:
        """Return the numbers of query and of training rows of a block."""
        return self.query_rows, self.panel_rows

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
        expanded = EXPANSION_BYTES[d] if self.expandable else 0
        # Where there is an index, a block holds a float32 bound of the distance for each query row
        # and each range of the panel that is read.
        reads = ceil(min(self.panel_rows, self.train.rows) / self.train.read_rows)
        bounds = rows * reads * 4 if self.train.index_bytes else 0
        work = held + tile + _read_bytes(self.train, self.panel_rows, d) + expanded + bounds
        # The two do not overlap: the buffers of the first read are free before the work begins.
        return max(reading, work)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that both sides hold in memory."""
        return self.query.resident_bytes + self.train.resident_bytes + self.train.index_bytes

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
    expandable: bool = False,
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
        The cost of the linear map of one training row; 0 without a map.
    expandable : bool
        True if rows may be expanded instead of paired.
    cut : tuple of (int or None)
        The number of query rows and of training rows of a block; None for a number to be chosen.
        A chosen panel consists of whole reads of the train side, so that no two panels read the
        same chunk.
    """
    query_rows, panel_rows = cut
    if query_rows is None:
        # Bytes in float64, whatever the precision of the distances.
        by_bytes = max(1, MAX_QUERY_BYTES // (8 * n_features))
        largest = min(by_bytes, MAX_QUERY_ROWS)
        worth_mapping = ceil(
            mapping_flops / (_MAPPING_SHARE * _pair_flops(n_features, n_bandwidths))
        )
        wanted = max(MIN_QUERY_ROWS, ceil(query.rows / MIN_BLOCKS), worth_mapping)
        if expandable:
            # At most three features: the limit of bytes is far away.
            largest = wanted = EXPANDED_QUERY_ROWS
        query_rows = _even(query.rows, min(largest, wanted))
    if panel_rows is None:
        n_query_blocks = ceil(query.rows / query_rows)
        row_flops = query_rows * _pair_flops(n_features, n_bandwidths)
        largest = max(1, MAX_BLOCK_FLOPS // row_flops)
        wanted = max(MIN_PANEL_ROWS, ceil(train.rows / ceil(MIN_BLOCKS / n_query_blocks)))
        if expandable:
            largest = wanted = EXPANDED_PANEL_ROWS
        panel_rows = _even(train.rows, min(largest, wanted))
        # Rounded up to whole reads: this exceeds the largest by less than one read.
        panel_rows = ceil(panel_rows / train.read_rows) * train.read_rows
    return Plan(
        query, train, n_features, n_bandwidths, precision_bytes,
        min(query_rows, query.rows), min(panel_rows, train.rows), expandable,
    )  # fmt: skip


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
