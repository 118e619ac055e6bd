from .comparing import compare
from .covariance import read_covariance
from .density import log_density
from .describing import describe
from .engine.cluster import configured_scheduler, connect, measure_baseline
from .errors import (
    ClusterError,
    DataSetError,
    DkdeError,
    IncompleteError,
    InputError,
    MemoryLimitError,
)
from .estimator import KernelDensity
from .estimator_cv import KernelDensityCV
from .exporting import check_export, export
from .files import check_place, write_whole
from .numerics.bandwidth import parse_bandwidths
from .parts import finish, run_part
from .pictures import check_picture, plot_pictures, plot_samples
from .planning import plan
from .plot import plot_sweep
from .protocols import follow_protocol
from .reporting.page import check_report, report
from .resuming import status, verify
from .sampling import sample
from .scoring import score, sweep
from .selection import cross_validate
from .sharing import init_only
from .storage.datatree import open_dataset
from .storage.importing import import_dataset
from .storage.index import index_dataset
from .storage.selectors import Catalog
from .storage.streaming import import_rows

__all__ = [
    "Catalog",
    "ClusterError",
    "DataSetError",
    "DkdeError",
    "IncompleteError",
    "InputError",
    "KernelDensity",
    "KernelDensityCV",
    "MemoryLimitError",
    "check_export",
    "check_picture",
    "check_place",
    "check_report",
    "compare",
    "configured_scheduler",
    "connect",
    "cross_validate",
    "describe",
    "export",
    "finish",
    "follow_protocol",
    "import_dataset",
    "import_rows",
    "index_dataset",
    "init_only",
    "log_density",
    "measure_baseline",
    "open_dataset",
    "parse_bandwidths",
    "plan",
    "plot_pictures",
    "plot_samples",
    "plot_sweep",
    "read_covariance",
    "report",
    "run_part",
    "sample",
    "score",
    "status",
    "sweep",
    "verify",
    "write_whole",
]
