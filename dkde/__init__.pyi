from .datasets.dataset import open_dataset
from .datasets.index import index_dataset
from .datasets.streaming import import_rows
from .drawing.level_regions import level_regions
from .errors import (
    ClusterError,
    DataSetError,
    DkdeError,
    IncompleteError,
    InputError,
    MemoryLimitError,
)
from .estimation.classifier import KernelDensityClassifier
from .estimation.classifying import classify
from .estimation.cost import plan
from .estimation.covariance import read_covariance
from .estimation.cross_validation import cross_validate
from .estimation.density_map import density_map
from .estimation.estimator import KernelDensity
from .estimation.estimator_cv import KernelDensityCV
from .estimation.estimator_outlier import KernelDensityOutlier
from .estimation.extending import extend
from .estimation.log_density import log_density
from .estimation.map_cost import plan_map
from .estimation.parts import finish, run_part
from .estimation.protocols import follow_protocol
from .estimation.sampling import sample
from .estimation.scoring import score
from .estimation.shape_plan import plan_shape
from .estimation.sweeping import sweep
from .estimation.verifying import verify
from .inputs.describing import describe
from .inputs.importing import import_dataset
from .inputs.selectors import Catalog
from .numerics.bandwidth import parse_bandwidths
from .results.class_plots import plot_classes
from .results.comparing import compare
from .results.exporting import check_export, export
from .results.maps import plot_map
from .results.pictures import check_picture, plot_pictures, plot_samples
from .results.report import check_report, report
from .results.summarising import summary
from .results.sweep_curve import plot_sweep
from .rows.csv_cells import csv_as_is, csv_text
from .rows.support import Periodic
from .runs.densities import density
from .runs.opened import groups_of
from .runs.recalling import recorded_call
from .runs.repairing import clean, repair, unlock
from .runs.shares import init_only
from .runs.status import status
from .stores.publishing import write_whole
from .stores.targets import check_place
from .workers.cluster import measure_baseline
from .workers.connecting import configured_scheduler, connect

__version__: str

__all__ = [
    "Catalog",
    "ClusterError",
    "DataSetError",
    "DkdeError",
    "IncompleteError",
    "InputError",
    "KernelDensity",
    "KernelDensityCV",
    "KernelDensityClassifier",
    "KernelDensityOutlier",
    "MemoryLimitError",
    "Periodic",
    "check_export",
    "check_picture",
    "check_place",
    "check_report",
    "classify",
    "clean",
    "compare",
    "configured_scheduler",
    "connect",
    "cross_validate",
    "csv_as_is",
    "csv_text",
    "density",
    "density_map",
    "describe",
    "export",
    "extend",
    "finish",
    "follow_protocol",
    "groups_of",
    "import_dataset",
    "import_rows",
    "index_dataset",
    "init_only",
    "level_regions",
    "log_density",
    "measure_baseline",
    "open_dataset",
    "parse_bandwidths",
    "plan",
    "plan_map",
    "plan_shape",
    "plot_classes",
    "plot_map",
    "plot_pictures",
    "plot_samples",
    "plot_sweep",
    "read_covariance",
    "recorded_call",
    "repair",
    "report",
    "run_part",
    "sample",
    "score",
    "status",
    "summary",
    "sweep",
    "unlock",
    "verify",
    "write_whole",
]
