"""Jobs on the pool of workers: done whole, in shares, or only set up."""

from functools import partial

import xarray as xr

from dkde.engine.eager_run import Progress
from dkde.runs.job import Job
from dkde.runs.run import Run
from dkde.runs.shares import Share, is_init_only
from dkde.workers.cluster import pool_for


def perform(job: Job, run: Run, progress: Progress | None = None) -> xr.Dataset:
    """Do a job, or return the result that is complete; within ``init_only`` set its run up.

    Returns
    -------
    xarray.Dataset
        Empty, where the run is only set up.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    only_begin = is_init_only()
    with run.begun(job, Share() if only_begin else None):
        if run.finished is not None:
            return job.reread(run.finished, run.name)
        with pool_for(*job.works.values(), manner=run.workers) as pool:
            if only_begin:
                run.set_up(job)
                return xr.Dataset()
            compute = partial(run.values, pool=pool, progress=progress)
            return run.finish(job.answer(compute, run.methods))


def perform_share(job: Job, run: Run, share: Share, progress: Progress | None = None) -> bool:
    """Do a share of a job's first piece of work; return whether there was anything to do."""
    with run.begun(job, share):
        if run.finished is not None:
            return False
        with pool_for(*job.works.values(), manner=run.workers) as pool:
            run.do_share(job, share, pool, progress)
    return True
