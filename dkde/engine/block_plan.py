"""The plan: how the pairs are cut into blocks, and what that costs. Integers only.

Cuts follow from the sizes of the data and constants, never from the cluster or its memory:
the same call must give the same numbers everywhere, to the last bit.
"""

from dataclasses import dataclass
from math import ceil

# A block of query rows is held while the training rows stream past: the larger it is, the
# fewer times they are read; the smaller, the more blocks there are to share out.
MAX_QUERY_BYTES = 64 * 2**20
MAX_QUERY_ROWS = 16384
MIN_QUERY_ROWS = 2560
# Enough blocks for dozens of workers, where the work is worth it ...
MIN_BLOCKS = 32
MIN_PANEL_ROWS = 32768
# ... and none so long that losing one hurts: about half a minute of one core.
MAX_BLOCK_FLOPS = 2**40
# Beside the product's 2 d, what one bandwidth costs for one pair, in the same currency.
_FLOPS_PER_EXPONENTIAL = 30
# Bytes of a stored value while it is mapped: decoded, with the origin taken away, and chosen
# among the columns.
_MAPPING_BYTES = 24
# Training rows are mapped anew for each query block: at most this share of the pairs' cost.
_MAPPING_SHARE = 0.25
# Fewer rows on either side are done as they are: no look at a sample pays.
FEW_QUERY_ROWS, FEW_TRAIN_ROWS = 256, 8192
# Where rows may be expanded the work grows with rows, not with pairs: larger blocks, which are
# still done in minutes if pairs it is; and what expansions of the training rows may take.
EXPANDED_QUERY_ROWS = 2**16
EXPANDED_PANEL_ROWS = 2**21
EXPANSION_BYTES = {1: 128 * 2**20, 2: 256 * 2**20, 3: 768 * 2**20}  # by features
# Tiles: see dkde.numerics.tiles, whose constants a test compares with these.
QUERY_TILE_ROWS, TRAIN_TILE_ROWS = 1280, 512


@dataclass(frozen=True)
class SideSize:
    """The sizes of one side that the plan needs.

    Parameters
    ----------
    rows : int
    itemsize : int
        Bytes of a value as stored.
    read_rows : int
        Rows that are read at a time.
    decoded_itemsize : int
        Bytes of a value as it is worked on; ``itemsize`` if nothing is decoded.
    resident_bytes : int
        What the side holds in memory for good.
    copies : int
        How many times what is read at a time exists while it is read (storage's own buffers).
    is_view : bool
        Whether reading takes nothing: it gives views of what is held.
    is_recast : bool
        Whether rows are copied to float64 where distances are recomputed from them.
    mapped_from : int, optional
        Features as they are stored, where a linear map makes others of them.
    index_bytes : int
        What an index of the rows takes in each worker; 0 where there is none.
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
        """Return the bytes of a row as stored, where ``n_features`` are worked on."""
        return self.itemsize * (self.mapped_from or n_features)

    def reading_row_bytes(self, n_features: int, copies: int) -> int:
        """Bytes of a row that exist only while it is read: so many copies, and those to map."""
        mapping = 0 if self.mapped_from is None else _MAPPING_BYTES * self.mapped_from
        return copies * self.stored_row_bytes(n_features) + mapping


@dataclass(frozen=True)
class Plan:
    """Blocks of query rows x panels of training rows, and their cost.

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
        rows = min(self.query_rows, self.query.rows)
        stored = 0 if self.query.is_view else rows * d * self.query.decoded_itemsize
        held = stored + rows * d * size + rows * 8 * (6 + 7 * (self.n_bandwidths + 1))
        tile_rows = min(QUERY_TILE_ROWS, rows)
        recast = tile_rows * self.query.is_recast + TRAIN_TILE_ROWS * self.train.is_recast
        tile = TRAIN_TILE_ROWS * (tile_rows + d) * size + recast * d * 8
        # The query is read before there is anything else, all its chunks at once: as they were
        # compressed and as they are decoded, or as chunks and joined.
        # Rows that are mapped are read piece by piece.
        piece = rows if self.query.mapped_from is None else min(rows, self.query.read_rows)
        reading = stored + piece * self.query.reading_row_bytes(d, min(self.query.copies, 2))
        expanded = EXPANSION_BYTES[d] if self.expandable else 0
        # What distances to the reads of a panel are at least, in float32.
        reads = ceil(min(self.panel_rows, self.train.rows) / self.train.read_rows)
        bounds = rows * reads * 4 if self.train.index_bytes else 0
        work = held + tile + _read_bytes(self.train, self.panel_rows, d) + expanded + bounds
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
    mapping_flops : int
        What the linear map of one training row costs.
    expandable : bool
        Whether rows may be expanded instead of paired.
    cut : tuple of int, or None
        Query and training rows of a block; None for those that are to be chosen. A chosen panel
        is whole reads of the train side, so that no chunk is read by two of them.
    """
    query_rows, panel_rows = cut
    if query_rows is None:
        by_bytes = max(1, MAX_QUERY_BYTES // (8 * n_features))
        largest = min(by_bytes, MAX_QUERY_ROWS)
        worth_mapping = ceil(
            mapping_flops / (_MAPPING_SHARE * _pair_flops(n_features, n_bandwidths))
        )
        wanted = max(MIN_QUERY_ROWS, ceil(query.rows / MIN_BLOCKS), worth_mapping)
        if expandable:
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
        panel_rows = ceil(panel_rows / train.read_rows) * train.read_rows
    return Plan(
        query, train, n_features, n_bandwidths, precision_bytes,
        min(query_rows, query.rows), min(panel_rows, train.rows), expandable,
    )  # fmt: skip


def _pair_flops(n_features: int, n_bandwidths: int) -> int:
    return 2 * n_features + _FLOPS_PER_EXPONENTIAL * n_bandwidths


def _even(total: int, largest: int) -> int:
    """Return the fewest rows a piece that cut total into as few pieces as ``largest`` does.

    >>> _even(10_000, 1024), _even(10, 1024)
    (1000, 10)
    """
    return ceil(total / ceil(total / largest))


def _piece(index: int, rows: int, total: int) -> tuple[int, int]:
    return index * rows, min((index + 1) * rows, total)


def _read_bytes(side: SideSize, rows: int, n_features: int) -> int:
    """Return the bytes of rows in work, rows read ahead, and the store's buffers."""
    if side.is_view:
        return 0
    held = 1 if rows <= side.read_rows else 2
    rows = min(rows, side.read_rows, side.rows)
    worked_on = held * side.decoded_itemsize * n_features
    return rows * (worked_on + side.reading_row_bytes(n_features, side.copies))
