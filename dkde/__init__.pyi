from .engine.cluster import connect, measure_baseline
from .errors import ClusterError, DataSetError, DkdeError, InputError, MemoryLimitError
from .numerics.bandwidth import parse_bandwidths
from .scoring import log_density, score, sweep
from .storage.dataset import open_dataset
from .storage.importing import import_dataset

__all__ = [
    "ClusterError",
    "DataSetError",
    "DkdeError",
    "InputError",
    "MemoryLimitError",
    "connect",
    "import_dataset",
    "log_density",
    "measure_baseline",
    "open_dataset",
    "parse_bandwidths",
    "score",
    "sweep",
]
