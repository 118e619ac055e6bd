"""Workers that run as jobs of a batch queue, through dask-jobqueue."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dask

from dkde.errors import ClusterError, InputError, one_line, printable
from dkde.workers.absence import AGAIN, QUIET

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

_log = logging.getLogger(__name__)

# The threads that a client's workers have when all its jobs run. Only clients of queues are here.
_threads: WeakKeyDictionary[Client, int] = WeakKeyDictionary()


@dataclass
class _Submitted:
    """The outcome of submitted jobs: their numbers, and the messages of refusals.

    Parameters
    ----------
    cluster : str
        The queue's name, for messages.
    ids : list of str
        The numbers that the queue gave to the jobs.
    refusals : list of str
        The messages with which the queue refused jobs.
    said : bool
        Whether a refusal has been reported.
    """

    cluster: str
    ids: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    said: bool = False

    def say(self) -> None:
        """Report once that some jobs were refused. That all were is an error, raised elsewhere."""
        if self.ids and self.refusals and not self.said:
            self.said = True
            _log.warning(
                "%s refuses some of the jobs, the others go on: %s", self.cluster, self.refusals[0]
            )


@contextmanager
def queue_client(
    queue: str, n_jobs: tuple[int, int], options: Mapping[str, Any]
) -> Iterator[Client]:
    """Yield a client of a new cluster whose workers are jobs; they are cancelled at the end.

    It waits for the first worker, however long that takes, and says so on standard error.

    Parameters
    ----------
    queue : str
        The name of a class of dask-jobqueue without "Cluster", in any case: "slurm", "pbs".
    n_jobs : pair of int
        The least and the largest number of jobs; between them the number follows the work.
    options : mapping
        Options of the class of dask-jobqueue; its configuration gives those that are missing.

    Raises
    ------
    InputError
        When the queue is not known, or the size of a job is not given.
    ClusterError
        When the queue is not on this machine, or it refuses the jobs.
    """
    from distributed import Client

    kind = _cluster_class(queue)
    config, n_cores = _config_and_cores(queue, options, kind.job_cls)
    _check_paths(queue, options, config)
    submitted = _Submitted(queue)
    with tempfile.TemporaryDirectory(prefix=".dkde-", dir=_shared_folder(options, config)) as keys:
        # The user's own options win, then the configuration. The dashboard listens on this machine
        # alone, at any free port, so that several clusters can run at once.
        given = {
            **_quoted_python(config),
            **options,
            "security": _security(options.get("security", True), Path(keys)),
            "scheduler_options": {
                "dashboard_address": "127.0.0.1:0",
                **dask.config.get(f"jobqueue.{config}.scheduler-options", {}),
                **options.get("scheduler_options", {}),
            },
        }
        try:
            _try_job(kind, options)
            cluster = kind(job_cls=_recording_jobs(kind.job_cls, submitted), **given)
        except Exception as error:  # bad options, bad configuration, or no such network interface
            raise ClusterError(f"{queue}: {one_line(error)}") from error
        with cluster, Client(cluster) as client:
            # Adapt even if the number of jobs is fixed: a job that reached its time limit is then
            # submitted again. The target duration is tiny, as only a few blocks are handed out at
            # a time, and Dask would judge from these that few workers are enough.
            minimum, maximum = n_jobs
            cluster.adapt(minimum_jobs=minimum, maximum_jobs=maximum, target_duration="1ms")
            _wait_for_first(client, submitted)
            _threads[client] = maximum * n_cores
            yield client


def threads_to_come(client: Client) -> int:
    """Return the threads of a client's workers when all its jobs run; 0 if they are no jobs."""
    return _threads.get(client, 0)


def known_queues() -> dict[str, Any]:
    """Return the classes of clusters of dask-jobqueue, by their queues' names in small letters.

    Raises
    ------
    ClusterError
        When dask-jobqueue is not installed, or cannot be imported in this thread.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ClusterError(
            "batch queues need dask-jobqueue: python -m pip install 'dkde[jobqueue]'"
        ) from error
    except ValueError as error:  # dask-jobqueue sets a signal handler; only the main thread may
        raise ClusterError(
            "import dask_jobqueue in the main thread before other threads"
        ) from error
    if threading.current_thread() is threading.main_thread():
        # The handler of Ctrl-C that dask-jobqueue sets ends the process with status 0, as if the
        # work had succeeded.
        signal.signal(signal.SIGINT, before)
    base = dask_jobqueue.JobQueueCluster
    return {
        name.removesuffix("Cluster").lower(): value
        for name, value in vars(dask_jobqueue).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }


def _cluster_class(name: str) -> Any:
    """Return dask-jobqueue's class of clusters for a queue.

    Raises
    ------
    InputError
        When there is no such class.
    ClusterError
        When this machine has no command to submit such jobs.
    """
    kinds = known_queues()
    kind = kinds.get(name.lower().removesuffix("cluster"))
    if kind is None:
        raise InputError(f"cluster {name!r} is not known; give one of {', '.join(sorted(kinds))}")
    command = shlex.split(kind.job_cls.submit_command)[0]
    if shutil.which(command) is None:
        raise ClusterError(
            f"{name}: there is no command {command} here; run this where jobs are submitted"
        )
    return kind


def _try_job(kind: Any, options: Mapping[str, Any]) -> None:
    """Submit a trial job, so that bad options fail before a cluster exists."""
    from dask_jobqueue import JobQueueCluster

    # The other options are the cluster's own; a job would refuse them as unknown.
    of_cluster = {*signature(JobQueueCluster.__init__).parameters} - {"config_name"}
    kind.job_cls(**{name: value for name, value in options.items() if name not in of_cluster})


def _config_and_cores(queue: str, options: Mapping[str, Any], job: Any) -> tuple[str, int]:
    """Return the section of dask-jobqueue's configuration, and the cores of a job.

    Raises
    ------
    InputError
        When the options and the configuration give no cores or no memory of a job.
    """
    config = str(options.get("config_name", job.config_name))
    sizes = {
        name: options.get(name) or dask.config.get(f"jobqueue.{config}.{name}", None)
        for name in ("cores", "memory")
    }
    missing = [name for name, value in sizes.items() if not value]
    if missing:
        raise InputError(
            f"{queue}: the {' and the '.join(missing)} of a job are not known; give them "
            "as cluster options (cores=4, memory=8GB), or in Dask's configuration, "
            f"jobqueue.{config}"
        )
    return config, int(sizes["cores"])


def _check_paths(queue: str, options: Mapping[str, Any], config: str) -> None:
    """Refuse folders whose names would be more than one line of a job's script.

    Raises
    ------
    InputError
    """
    # Nothing else is refused: $TMPDIR is meant for the job's shell.
    for name in ("local_directory", "log_directory", "shared_temp_directory"):
        known = dask.config.get(f"jobqueue.{config}.{name.replace('_', '-')}", None)
        path = str(options.get(name) or known or "")
        if printable(path) != path:
            raise InputError(
                f"{queue}: the cluster option {name} is {path!r}, with a line end or another "
                "character that cannot be seen; give another folder"
            )


def _quoted_python(config: str) -> dict[str, str]:
    """Return the option for this Python, quoted: dask-jobqueue writes it into scripts as it is."""
    if dask.config.get(f"jobqueue.{config}.python", None) is not None:
        return {}
    return {"python": shlex.quote(sys.executable)}


def _shared_folder(options: Mapping[str, Any], config: str) -> str:
    """Return a folder for files that jobs read: as named, else the working directory."""
    given = options.get("shared_temp_directory") or dask.config.get(
        f"jobqueue.{config}.shared-temp-directory", None
    )
    folder = os.path.abspath(os.path.expanduser(os.path.expandvars(given or "")))
    if not os.access(folder, os.W_OK):
        raise ClusterError(
            f"{folder}: may not be written to, and jobs read their certificates there; name a "
            "folder that they see as the cluster option shared_temp_directory"
        )
    return folder


def _security(wanted: Any, folder: Path) -> Security | None:
    """Return the TLS settings of the cluster, or None if they are not wanted.

    By default they are those of Dask's configuration, or else new certificates for this cluster
    alone. The scheduler listens where the jobs reach it, and so can everybody else in the network:
    without certificates anybody could run code there. Only this user may read the files' folder.
    """
    from distributed.security import Security

    if wanted is None or wanted is False:
        return None
    if wanted is not True:
        found: Security = wanted
        return found
    if dask.config.get("distributed.comm.tls.scheduler.cert", None):
        return Security(require_encryption=True)
    if shlex.quote(str(folder)) != str(folder):
        raise ClusterError(
            f"{folder.parent}: jobs read their certificates there, and their scripts have its name "
            "without quotes, so that it may have letters, digits and _@%+=:,./- alone; name "
            "another folder that they see as the cluster option shared_temp_directory"
        )
    try:
        made = Security.temporary().get_tls_config_for_role("worker")
    except ImportError as error:
        raise ClusterError(
            "certificates for the jobs need cryptography: python -m pip install 'dkde[jobqueue]'; "
            "or, where nobody else is in the network, give the cluster option security=false"
        ) from error
    for name in ("ca_file", "cert", "key"):
        # Restrict the file before it has content, so that nobody can read the key in between.
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(made[name])
    pair = {
        f"tls_{role}_{name}": str(folder / name)
        for role in ("client", "scheduler", "worker")
        for name in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(folder / "ca_file"), **pair)


def _recording_jobs(job: Any, submitted: _Submitted) -> Any:
    """Return a class of jobs that also record the queue's answers: dask-jobqueue only logs them.

    The jobs also set their status, which the cluster reads as it is closed.
    """
    from distributed.core import Status

    async def start(self: Any) -> None:
        try:
            await job.start(self)
        except Exception as error:
            self.status = Status.failed
            submitted.refusals.append(_refusal(error))
            submitted.say()
            raise
        submitted.ids.append(str(self.job_id))
        submitted.say()

    async def close(self: Any) -> None:
        await job.close(self)
        self.status = Status.closed

    # Name and module stay those of the job's class, by which dask-jobqueue's messages call it.
    body = {"start": start, "close": close, "__module__": job.__module__}
    return type(job.__name__, (job,), body)


def _refusal(error: Exception) -> str:
    """Return the submit command's error output, taken from the text of dask-jobqueue's error.

    Examples
    --------
    >>> _refusal(RuntimeError("Exit code: 1\\nstdout:\\n\\nstderr:\\nsbatch: no such queue\\n"))
    'sbatch: no such queue'
    """
    text = str(error)
    return one_line(RuntimeError(text.rpartition("stderr:\n")[2].strip() or text))


def _wait_for_first(client: Client, submitted: _Submitted) -> None:
    """Wait for the first worker, and log a line now and then while none is there.

    Raises
    ------
    ClusterError
        When the queue refuses all jobs.
    """
    begun = said = monotonic()
    while True:
        try:
            client.wait_for_workers(1, timeout=0.5)
            return
        except TimeoutError:
            pass
        if submitted.refusals and not submitted.ids:
            raise ClusterError(f"{submitted.cluster} refuses the jobs: {submitted.refusals[0]}")
        if monotonic() - said > (QUIET if said == begun else AGAIN):
            said = monotonic()
            minutes = f" after {(said - begun) / 60:.0f} min" if said - begun > 60 else ""
            _log.warning(
                f"Waiting for the queue: no worker yet{minutes} of job "
                f"{', '.join(submitted.ids[:3])}; Ctrl-C cancels. If the job runs already, "
                "its output says why"
            )
