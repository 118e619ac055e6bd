"""A line in the log for each block that is computed, and for the moments of each panel.

Loggers ``dkde.blocks`` and ``dkde.moments``, level DEBUG. The values of a line are in the attribute
``dkde`` of its record, for handlers that write them as JSON.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from dkde.engine.blocks import ShareOfBlock
from dkde.engine.whole_moments import PanelArrays
from dkde.engine.work import Work

LOG, _OF_MOMENTS = logging.getLogger("dkde.blocks"), logging.getLogger("dkde.moments")
_NONE, _NO_SUMS = np.empty(0, np.int64), np.empty((0, 0))


class BlockLog:
    """The log of one piece of work: of its blocks, and of moments that are made before them.

    Parameters
    ----------
    work : Work
    stage : str
        The name of the piece of work in its run.
    """

    def __init__(self, work: Work, stage: str) -> None:
        self._work, self._stage = work, stage
        self._shares: dict[tuple[int, int], list[ShareOfBlock]] = {}
        self._is_on = LOG.isEnabledFor(logging.DEBUG)

    def share(self, block: tuple[int, int], part: ShareOfBlock) -> None:
        """Count the seconds and the bytes of a share of a block."""
        if self._is_on:
            figures = part._replace(columns=_NONE, partial=_NO_SUMS)  # the others may be many
            self._shares.setdefault(block, []).append(figures)

    def done(self, block: tuple[int, int], kept: float) -> None:
        """Write the line of a block whose last share is done.

        Parameters
        ----------
        block : (int, int)
        kept : float
            The seconds in which this process took the block's numbers.
        """
        if not self._is_on:
            return
        rows, shares = self._work.plan.query_block(block[0]), self._shares.pop(block)
        spent = {stage: sum(s.spent[stage] for s in shares) for stage in shares[0].spent}
        values: Mapping[str, Any] = {
            "stage": self._stage,
            "block": list(block),
            "rows": list(rows),
            **_figures(spent, kept),
            "bytes_read": sum(sum(share.read) for share in shares),
            "worker": shares[-1].worker,
        }
        LOG.debug(
            "%s: block %d-%d, query rows %d to %d, %.3g s%s",
            self._stage or "work", *block, *rows, values["seconds"],
            _at(values["worker"]),
            extra={"dkde": values},
        )  # fmt: skip

    def moments(self, p: int, made: PanelArrays, kept: float) -> None:
        """Write the line of a panel whose moments were made.

        Parameters
        ----------
        p : int
            The panel's number.
        made : PanelArrays
        kept : float
            The seconds in which this process kept them.
        """
        rows = self._work.plan.panel(p)
        values: Mapping[str, Any] = {
            "stage": self._stage,
            "panel": p,
            "rows": list(rows),
            **_figures(made.spent, kept),
            "bytes_read": sum(made.read),
            "worker": made.worker,
        }
        _OF_MOMENTS.debug(
            "%s: moments of panel %d, training rows %d to %d, %.3g s%s",
            self._stage or "work", p, *rows, values["seconds"], _at(made.worker),
            extra={"dkde": values},
        )  # fmt: skip


def _figures(spent: Mapping[str, float], kept: float) -> dict[str, Any]:
    """Return the seconds of a line, together and by stage."""
    by_stage = {stage: round(s, 6) for stage, s in {**spent, "keep": kept}.items()}
    return {"seconds": round(sum(spent.values()), 6), "spent": by_stage}


def _at(worker: str | None) -> str:
    return "" if worker is None else f", {worker}"
