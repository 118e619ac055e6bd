"""The execution of jobs on the pool of workers: whole, in shares, or only set up."""

from functools import partial

import xarray as xr

from dkde.progress import ProgressLike, shown
from dkde.runs.job import Job
from dkde.runs.run import Run
from dkde.runs.shares import Share, is_init_only
from dkde.workers.cluster import pool_for


def perform(job: Job, run: Run, progress: ProgressLike = None) -> xr.Dataset:
    """Compute a job and return its result; within ``init_only`` only set its run up.

    A complete result in the store is returned as it is.

    Returns
    -------
    xarray.Dataset
        Empty where the run is only set up.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    # A share of no blocks takes no lock, so that parts can start at once.
    only_begin = is_init_only()
    with run.begun(job, Share() if only_begin else None) as job:
        if run.finished is not None:
            return job.reread(run.finished, run.name)
        with pool_for(*job.works.values(), manner=run.workers) as pool:
            if only_begin:
                run.set_up(job)
                return xr.Dataset()
            # The job asks for its works one after the other: later ones follow from earlier ones.
            with shown(progress) as report:
                compute = partial(run.values, pool=pool, progress=report)
                answer = job.answer(compute, run.methods)
            return run.finish(answer)


def perform_share(job: Job, run: Run, share: Share, progress: ProgressLike = None) -> bool:
    """Compute a share of a job's first piece of work; return False if the result is complete."""
    with run.begun(job, share) as job:
        if run.finished is not None:
            return False
        pool_of_run = pool_for(*job.works.values(), manner=run.workers)
        with pool_of_run as pool, shown(progress) as report:
            run.do_share(job, share, pool, report)
    return True
