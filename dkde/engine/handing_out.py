"""The order in which shares of blocks are handed out, and the blocks that they make."""

from collections.abc import Iterator
from math import gcd
from typing import Any

from dkde.engine.block_plan import Plan
from dkde.engine.blocks import ShareOfBlock, join_shares
from dkde.engine.task import Survey
from dkde.engine.work import Work
from dkde.typing import FloatArray

Block = tuple[int, int]


def every_block(plan: Plan, is_whole: bool) -> Iterator[tuple[int, Block]]:
    """Yield the blocks in the plan's order, and their numbers; there may be millions.

    Where one block of each query block is all, its panel is drawn: so parts of a run, which share
    blocks out by their numbers, have about as many each, however many parts there are.
    """
    panels = range(plan.n_panels)
    for q in range(plan.n_query_blocks):
        for p in [_drawn(q) % plan.n_panels] if is_whole else panels:
            yield q * plan.n_panels + p, (q, p)


def _drawn(number: int) -> int:
    """Return a number that looks random (Knuth's multiplicative hash)."""
    return (number * 2654435761 % 2**32) >> 12


def n_shares_of(number: int, n_blocks: int, n_planned: int, n_apart: int) -> int:
    """Return the number of shares of a block, of so many that were planned.

    Workers that share nothing would each put the panel of a block in leaves for its shares. So
    they get whole blocks, as many each, and shares of those that are left over. No number depends
    on it.

    Parameters
    ----------
    number, n_blocks : int
        Which block, in the order in which they are handed out, and of how many.
    n_apart : int
        The number of workers that share nothing; 0 where threads share what they make.

    Examples
    --------
    >>> [n_shares_of(number, 5, 32, 2) for number in range(5)]
    [1, 1, 1, 1, 32]
    >>> [n_shares_of(number, 4, 32, 16) for number in range(4)]
    [4, 4, 4, 4]
    """
    if not n_apart:
        return n_planned
    left_over = n_blocks % n_apart
    if number < n_blocks - left_over:
        return 1
    if left_over == 1:  # all workers are at the same block
        return n_planned
    return min(n_planned, n_apart // gcd(left_over, n_apart))


def share_of(work: Work, survey: Survey, block: Block, share: tuple[int, int]) -> tuple[Any, ...]:
    """Return the arguments for a share of a block: which one, and of how many."""
    # The sums over all training rows are in the block of the first panel.
    p = 0 if survey.is_summed_at_once else block[1]
    rows, panel = work.plan.query_block(block[0]), work.plan.panel(p)
    return work.query, work.train, work.task, survey, rows, panel, share


class Joined:
    """Blocks of which some shares are done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts: dict[Block, list[ShareOfBlock]] = {}

    def has_key(self, key: tuple[int, ...]) -> bool:
        """Return whether a share of the block of a key is done, and not all of them."""
        return key[:2] in self._parts

    def drop(self, block: Block) -> None:
        """Drop the shares of a block that will not be complete."""
        self._parts.pop(block, None)

    def add(self, block: Block, part: ShareOfBlock, n_shares: int) -> FloatArray | None:
        """Add a share, and return the partial result of its block if that was the last one."""
        parts = self._parts.setdefault(block, [])
        parts.append(part)
        if len(parts) < n_shares:
            return None
        start, stop = self._plan.query_block(block[0])
        return join_shares(self._parts.pop(block), stop - start)
