"""A line in the log for each block that is computed.

Logger ``dkde.blocks``, level DEBUG. The values of a line are in the attribute ``dkde`` of its
record, for handlers that write them as JSON.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from dkde.engine.blocks import ShareOfBlock
from dkde.engine.work import Work
from dkde.numerics import logsum
from dkde.rows.side import Rows

LOG = logging.getLogger("dkde.blocks")


class BlockLog:
    """The log of the blocks of one piece of work.

    Parameters
    ----------
    work : Work
    stage : str
        The name of the piece of work in its run.
    """

    def __init__(self, work: Work, stage: str) -> None:
        self._work, self._stage = work, stage
        self._seconds: dict[tuple[int, int], float] = {}
        self._is_on = LOG.isEnabledFor(logging.DEBUG)

    def share(self, block: tuple[int, int], part: ShareOfBlock) -> None:
        """Count the seconds of a share of a block."""
        if self._is_on:
            self._seconds[block] = self._seconds.get(block, 0.0) + part.seconds

    def done(self, block: tuple[int, int], part: ShareOfBlock) -> None:
        """Write the line of a block whose last share is done."""
        if not self._is_on:
            return
        plan = self._work.plan
        rows = plan.query_block(block[0])
        n_read = int(np.nan_to_num(logsum.split(part.partial).read).max(initial=0))
        values: Mapping[str, Any] = {
            "stage": self._stage,
            "block": list(block),
            "rows": list(rows),
            "seconds": round(self._seconds.pop(block, 0.0), 6),
            "bytes_read": (rows[1] - rows[0]) * _row_bytes(self._work.query.rows)
            + n_read * _row_bytes(self._work.train.rows),
            "worker": part.worker,
        }
        LOG.debug(
            "%s: block %d-%d, query rows %d to %d, %.3g s%s",
            self._stage or "work", *block, *rows, values["seconds"],
            "" if part.worker is None else f", {part.worker}",
            extra={"dkde": values},
        )  # fmt: skip


def _row_bytes(rows: Rows) -> int:
    return rows.itemsize * rows.n_stored_features
