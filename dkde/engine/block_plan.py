"""The plan: the cut of the pairs into blocks, and its cost. Integers only.

The cut depends on the sizes of the data and on constants, never on the cluster or its memory: the
same call must give the same numbers everywhere, to the last bit.
"""

from dataclasses import dataclass, replace
from math import ceil

from dkde.engine.leaf_plan import LeafBytes, leaves_panel, leaves_shares
from dkde.engine.side_size import SideSize

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
# Training rows are mapped anew for each query block. Query blocks are so large that this costs at
# most this share of what the pairs cost.
_MAPPING_SHARE = 0.25
# Partial results of a block beside those of its panels, while they become densities.
_JOINED = 4
# With fewer rows on either side all pairs are computed: looking at a sample first does not pay.
FEW_QUERY_ROWS, FEW_TRAIN_ROWS = 256, 8192
# Work on rows in leaves grows with the rows and not with their pairs: the more query rows there
# are in a block, the smaller their leaves' boxes.
LEAVES_QUERY_ROWS = 2**16
# Chunks of more rows are decoded by several blocks.
MOST_CHUNK_ROWS = 2**19
# The blocks of a grid, unless they get shorter than so many rows: products along its axes have
# less to share then.
_GRID_BLOCKS, _GRID_ROWS = 16, 2**13
_READ_GRID_BLOCKS, _READ_GRID_ROWS = 4, 2**19
# Pairs that may be worth groups of leaves, and the blocks that a lazy call then has at least.
_GROUPED_PAIRS, _LAZY_BLOCKS = 2**40, 16
# Tiles: see dkde.numerics.tiles, whose constants a test compares with these.
QUERY_TILE_ROWS, TRAIN_TILE_ROWS = 1280, 512


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
    n_shares : int
        Parts into which the query rows of a block are dealt.
    node_moments : int
        How many moments a node of training rows in leaves has.
    uses_regions : bool, optional
        Whether reads are by the regions of an index. None if that is for the survey to find.

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
    node_moments: int = 0
    uses_regions: bool | None = None

    @property
    def cut(self) -> tuple[int, int]:
        """Return the numbers of query and of training rows of a block."""
        return self.query_rows, self.panel_rows

    def cut_into(self, query_rows: int, panel_rows: int) -> "Plan":
        """Return the plan of the same work in blocks of other numbers of rows."""
        there = min(query_rows, self.query.rows), min(panel_rows, self.train.rows)
        n_shares = leaves_shares(*there, MIN_QUERY_ROWS) if self.n_shares > 1 else 1
        return replace(self, query_rows=there[0], panel_rows=there[1], n_shares=n_shares)

    def knowing_cells(self, has_cells: bool) -> "Plan":
        """Return the plan where it is known whether sums are by moments of cells."""
        return replace(self, has_cells=has_cells)

    def knowing_regions(self, uses_regions: bool) -> "Plan":
        """Return the plan where it is known whether reads are by the regions of an index."""
        train = self.train if uses_regions else replace(self.train, index_bytes=0)
        return replace(self, train=train, uses_regions=uses_regions)

    @property
    def _either(self) -> "tuple[Plan, ...]":
        """Return the plans of what the survey may find; empty where that is known."""
        if self.uses_regions is not None or not (self.in_leaves and self.train.index_bytes):
            return ()
        return self.knowing_regions(True), self.knowing_regions(False)

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
    def n_readings(self) -> int:
        """Return how many times training rows are read, and put in leaves."""
        return 1 if self.in_leaves and self._leaves.stays else self.n_query_blocks

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
        if self._either:
            return max(each.block_bytes for each in self._either)
        if self.in_leaves:
            return self._leaves.of_block + self._bounds_bytes
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
        work = held + tile + self.train.reading_bytes(self.panel_rows, d) + self._bounds_bytes
        return max(reading, work)

    @property
    def _bounds_bytes(self) -> int:
        """Return the bytes of lower bounds of distances to the reads of a panel, in float32."""
        if not self.train.index_bytes:
            return 0
        rows = min(self.query_rows, self.query.rows)
        reads = ceil(min(self.panel_rows, self.train.rows) / self.train.read_rows)
        return rows * reads * 4

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that both sides hold in memory, and what blocks share."""
        held = self.query.resident_bytes + self.train.resident_bytes
        return held + self.shared_bytes

    @property
    def shared_bytes(self) -> int:
        """Return the bytes of what the blocks of a worker share: an index, and rows in leaves."""
        if self._either:
            return max(each.shared_bytes for each in self._either)
        return self.train.index_bytes + (self._leaves.shared if self.in_leaves else 0)

    @property
    def answer_bytes(self) -> int:
        """Return the bytes of the answer, and of the blocks that are put together to it.

        They are in the process that makes the call.
        """
        blocks = self.n_panels + _JOINED
        answer = self.query.rows * (2 * self.n_bandwidths + 3)
        return 8 * (answer + blocks * self.query_rows * (2 * self.n_bandwidths + 4))

    @property
    def _leaves(self) -> LeafBytes:
        return LeafBytes(
            self.query, self.train, self.n_features, self.n_bandwidths, self.query_rows,
            self.panel_rows, self.n_shares, self.has_cells, self.node_moments,
        )  # fmt: skip

    def worker_bytes(self, n_threads: int = 1) -> int:
        """Return the peak bytes that the work adds to a worker of some threads."""
        if self._either:
            return max(each.worker_bytes(n_threads) for each in self._either)
        # Each thread computes one block; sides in memory are there once, and so are leaves.
        nbytes = self.block_bytes * n_threads + self.resident_bytes
        if self.in_leaves and not self.query.is_grouped:
            beside = self.resident_bytes - self._leaves.shared
            nbytes = max(nbytes, beside + self._leaves.while_moments_are_made(n_threads))
        if n_threads > 1 or self.n_shares == 1:
            return nbytes
        # Workers of one thread are given whole blocks, too.
        return max(nbytes, replace(self, n_shares=1).worker_bytes())


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
    node_moments: int = 0,
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
    node_moments : int
        How many moments a node of training rows in leaves has.
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
    # Bytes in float64, whatever the precision of the distances.
    by_bytes = max(1, MAX_QUERY_BYTES // (8 * n_features))
    if in_leaves:
        if query_rows is None:
            query_rows = leaves_query_rows(query, by_bytes)
        if panel_rows is None:
            panel_rows = leaves_panel(train, n_features)
        if cut[0] is None and line_rows is not None:
            # Each block reads all panels, unless they stay in memory: then there are fewer.
            stays = train.is_held or panel_rows >= train.rows
            query_rows = _grid_rows(query.rows, line_rows, by_bytes, stays)
        there = min(query_rows, query.rows), min(panel_rows, train.rows)
        n_shares = leaves_shares(*there, MIN_QUERY_ROWS)
        if n_shares > 1 and not in_shares and cut[0] is None:
            n_shares = 1
            if line_rows is None:
                query_rows = _even(query.rows, _lazy_rows(query.rows, there[1], has_cells))
    if query_rows is None:
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
        node_moments,
    )  # fmt: skip


def leaves_query_rows(query: SideSize, most: int) -> int:
    """Return the query rows of a block whose rows are in leaves: whole chunks, where these fit.

    Else each block would decode a chunk anew for its part of it.

    Parameters
    ----------
    query : SideSize
    most : int
        That a block may have.

    Examples
    --------
    >>> rows = SideSize(rows=10**6, itemsize=8, read_rows=2**19, decoded_itemsize=8)
    >>> leaves_query_rows(rows, 2**22)
    62500
    >>> leaves_query_rows(replace(rows, chunk_rows=2**18), 2**22)
    262144
    """
    chunk, largest = query.chunk_rows, min(most, LEAVES_QUERY_ROWS)
    if not 1 < chunk <= min(most, MOST_CHUNK_ROWS):
        return _even(query.rows, largest)
    even = _even(query.rows, max(chunk, largest // chunk * chunk))
    return ceil(even / chunk) * chunk


def _grid_rows(total: int, line_rows: int, by_bytes: int, stays: bool) -> int:
    """Return the query rows of a block of a grid: whole lines, where these are short enough.

    >>> _grid_rows(1280 * 960, 960, 2**22, True) / 960
    68.0
    """
    most = min(by_bytes, LEAVES_QUERY_ROWS if stays else _READ_GRID_ROWS)
    if line_rows > most:
        return _even(line_rows, most)
    n_blocks = _GRID_BLOCKS if stays else _READ_GRID_BLOCKS
    wanted = max(_GRID_ROWS, min(most, ceil(total / n_blocks)))
    return _even(total // line_rows, max(1, wanted // line_rows)) * line_rows


def _lazy_rows(query_rows: int, panel_rows: int, has_cells: bool) -> int:
    """Return the query rows of a block that no threads share, at most.

    Where there are very many pairs of a kernel that can be summed over groups of rows, blocks are
    larger: the groups of a narrow strip of a map would have few rows.

    >>> _lazy_rows(2**19, 2**20, True), _lazy_rows(2**20, 2**23, True)
    (2560, 65536)
    """
    if not has_cells or query_rows * panel_rows < _GROUPED_PAIRS:
        return MIN_QUERY_ROWS
    return max(MIN_QUERY_ROWS, min(LEAVES_QUERY_ROWS, query_rows // _LAZY_BLOCKS))


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
