from .describing import describe
from .engine.cluster import configured_scheduler, connect, measure_baseline
from .errors import ClusterError, DataSetError, DkdeError, InputError, MemoryLimitError
from .files import check_place, write_whole
from .numerics.bandwidth import parse_bandwidths
from .planning import plan
from .plot import check_picture, plot_pictures, plot_sweep
from .scoring import log_density, score, sweep
from .storage.dataset import open_dataset
from .storage.importing import import_dataset
from .storage.selectors import Catalog

__all__ = [
    "Catalog",
    "ClusterError",
    "DataSetError",
    "DkdeError",
    "InputError",
    "MemoryLimitError",
    "check_picture",
    "check_place",
    "configured_scheduler",
    "connect",
    "describe",
    "import_dataset",
    "log_density",
    "measure_baseline",
    "open_dataset",
    "parse_bandwidths",
    "plan",
    "plot_pictures",
    "plot_sweep",
    "score",
    "sweep",
    "write_whole",
]
