"""The time of work on several workers, from its plan and its time on one thread."""

from dataclasses import dataclass
from math import ceil

from dkde.engine.batches import calls_of_a_task
from dkde.engine.block_plan import Plan
from dkde.engine.estimate import Estimate
from dkde.numerics.logsum import n_partial_rows

_FLOAT64 = 8


@dataclass(frozen=True)
class Rates:
    """The speeds of the machines around the workers.

    Parameters
    ----------
    read : float
        Bytes that one worker reads, before compression.
    store : float
        Bytes that the store gives to all workers together.
    results : float
        Bytes of partial results that the process which hands out the blocks receives and keeps.
    tasks : float
        Tasks that this process hands out: of a block, or a share of one, or of several short ones.
    """

    read: float
    store: float
    results: float
    tasks: float


@dataclass(frozen=True)
class OnWorkers:
    """The time of work on some workers.

    Parameters
    ----------
    computing, reading : float
        Seconds of a worker, one after the other.
    collecting, handing_out : float
        Seconds of the process that hands out the blocks, beside them.
    bytes_read : int
        By all workers.
    result_bytes : int
        Of partial results that are sent back.
    n_busy : int
        The threads for which there is work.
    """

    computing: float
    reading: float
    collecting: float
    handing_out: float
    bytes_read: int
    result_bytes: int
    n_busy: int

    @property
    def seconds(self) -> float:
        """Return the seconds of all."""
        return max(self.computing + self.reading, self.collecting, self.handing_out)

    @property
    def limit(self) -> str:
        """Return what takes longest: "computing", "reading", "collecting" or "handing out"."""
        here = max(self.computing, self.reading)
        if self.seconds == self.collecting:
            return "collecting"
        if self.seconds == self.handing_out:
            return "handing out"
        return "computing" if here == self.computing else "reading"


def on_workers(
    plan: Plan, found: Estimate, n_workers: int, n_threads: int, rates: Rates
) -> OnWorkers:
    """Return what work takes on workers that share no memory.

    Workers of one thread get whole blocks, and shares of those that are left over. Workers of
    several threads get shares of any block. Each worker that has one reads the block's rows, and
    puts its training rows in leaves, or makes moments of them.

    Parameters
    ----------
    plan : Plan
    found : Estimate
        Of the work on one thread.
    n_workers, n_threads : int
        How many workers, and the threads of each.
    rates : Rates
    """
    is_once = found.answers is not None and found.answers.once
    n_blocks = plan.n_query_blocks if is_once else plan.n_blocks
    n_busy = min(n_workers * n_threads, n_blocks * plan.n_shares)
    n_there = min(n_workers, n_busy)
    # How many workers have a share of one block.
    n_shares = 1
    if n_there > 1 and (n_threads > 1 or n_blocks < n_there):
        n_shares = min(n_there, plan.n_shares, n_there if n_threads > 1 else
                       ceil(n_there / n_blocks))  # fmt: skip
    # What is made of training rows that fit in one panel stays, at each worker.
    n_made = n_there if plan.n_readings < plan.n_query_blocks else n_shares
    n_readings, n_panels = plan.n_readings, plan.n_panels
    preparing, n_passes = 0.0, 1
    if found.answers is not None:
        preparing, n_passes = found.answers.preparing, found.answers.n_passes
        if is_once:  # each worker makes some, and gets the sum of all
            n_readings = n_panels = n_made = 1
    computing = (found.seconds + preparing * (n_made - 1)) / n_busy
    d = plan.n_features
    bytes_read = (
        plan.query.rows * plan.query.stored_row_bytes(d) * n_panels * n_shares
        + plan.train.rows * plan.train.stored_row_bytes(d) * n_readings * n_passes * n_made
    )
    result_bytes = _FLOAT64 * n_partial_rows(plan.n_bandwidths) * plan.query.rows * n_panels
    reading = bytes_read / min(n_there * rates.read, rates.store)
    n_calls = n_blocks * (plan.n_shares if n_threads > 1 else n_shares)
    seconds = (computing + reading) * n_busy / n_calls  # of a call
    n_tasks = ceil(n_calls / calls_of_a_task(seconds))
    return OnWorkers(
        computing,
        reading,
        result_bytes / rates.results,
        n_tasks / rates.tasks,
        bytes_read,
        result_bytes,
        n_busy,
    )
