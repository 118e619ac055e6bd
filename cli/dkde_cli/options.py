"""Options that several commands share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import click

from dkde_cli.values import (
    parse_by_role,
    parse_cluster_options,
    parse_covariance,
    parse_kernels,
    parse_names,
    parse_sources,
    parse_support,
    parse_workers,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

KERNELS = (
    "gaussian", "tophat", "epanechnikov", "biweight", "triweight", "exponential", "linear",
    "cosine", "univariate_gaussian", "vonmises_fisher",
)  # fmt: skip
METRICS = ("euclidean", "manhattan", "chebyshev")
SINGULAR = ("raise", "drop")
NAN = ("raise", "drop")
OUTSIDE = ("raise", "drop")

# The largest seed that numpy.random.RandomState takes.
_MAX_SEED = 2**32 - 1

BANDWIDTHS_HELP = (
    "A list, 0.05,0.1,0.2, or a grid: logspace:-1:1:20, geomspace:0.05:2:12, linspace:1:5:9; "
    "or one bandwidth by a rule: scott, silverman, isj. With the kernel vonmises_fisher in "
    "radians, or 100km,200km, geomspace:50km:500km:8."
)
DATA_HELP = (
    "DATA is a data set made by dkde import, any file or folder that it reads, the word digits, or "
    "a Zarr store or NetCDF file that xarray opens."
)
_SELECTORS = (
    "Rows are chosen by selectors, [SOURCE::]SPLIT[a:b] or SPLIT[label=7], several joined by +. "
    "{} A file name alone stands for its only "
    "split, and the word all for every split. {} its groups are its splits. Quote brackets: "
    "'train[:10000]'."
)
SELECTOR_HELP = f"{DATA_HELP}\n\n" + _SELECTORS.format(
    "SOURCE has the forms of DATA, and is DATA by default.",
    "A Zarr store or NetCDF file that xarray opens needs --features, and",
)
ADDED_HELP = _SELECTORS.format(
    "SOURCE is by default the data that STORE was made of.",
    "Of a Zarr store or NetCDF file that xarray opens",
)


def gathered(name: str, make: Callable[..., Any], options: Mapping[str, Decorator]) -> Decorator:
    """Return a decorator that adds options, whose values the command gets as one argument.

    Parameters
    ----------
    name : str
        Name of the argument.
    make : callable
        Makes the argument; takes the values of the options as keywords.
    options : mapping of str to decorator
        The options by the keywords of their values, in the order of the help.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_one(**values: Any) -> Any:
            own = {each: values.pop(each) for each in options}
            return command(**{name: make(**own)}, **values)

        decorated: Callable[..., Any] = with_one
        # The decorator that is applied last stands first in the help.
        for option in reversed(list(options.values())):
            decorated = option(decorated)
        return decorated

    return add


@dataclass(frozen=True)
class Where:
    """The place where the user wants the work to run; None where no option was given."""

    scheduler: str | None
    scheduler_file: str | None
    workers: int | None
    threads_per_worker: int | None
    memory_limit: str | None
    cluster: str | None = None
    jobs: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    cluster_options: Mapping[str, Any] | None = None

    @property
    def is_given(self) -> bool:
        """Return whether the user gave a place."""
        return any(value is not None for value in vars(self).values())

    @property
    def is_remote(self) -> bool:
        """Return whether the work runs on other machines."""
        return self.scheduler is not None or self.scheduler_file is not None


_WHERE: dict[str, Decorator] = {
    "scheduler": click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on the Dask cluster of this scheduler, such as tcp://10.0.0.1:8786.",
    ),
    "scheduler_file": click.option(
        "--scheduler-file",
        metavar="FILE",
        help="Run on the Dask cluster whose scheduler wrote this file.",
    ),
    "workers": click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Start N worker processes on this machine; by default the work runs in threads of "
        "this process.",
    ),
    "threads_per_worker": click.option(
        "--threads-per-worker",
        type=int,
        metavar="N",
        help="Number of threads of each worker that is started; 1 by default.",
    ),
    "memory_limit": click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory of each worker that is started, such as 600MB; a plan that does not fit "
        "is refused.",
    ),
    "cluster": click.option(
        "--cluster",
        metavar="NAME",
        help="Run on workers that are jobs of this batch queue: slurm, pbs, sge, lsf, oar, "
        "htcondor, moab. Needs dask-jobqueue.",
    ),
    "jobs": click.option("--jobs", type=int, metavar="N", help="Number of jobs of --cluster."),
    "minimum": click.option(
        "--minimum",
        type=int,
        metavar="N",
        help="Smallest number of jobs, 1 by default; with --maximum, in place of --jobs.",
    ),
    "maximum": click.option(
        "--maximum",
        type=int,
        metavar="N",
        help="Largest number of jobs; there are as many as there is work for.",
    ),
    "cluster_options": click.option(
        "--cluster-option",
        "cluster_options",
        multiple=True,
        metavar="KEY=VALUE",
        callback=lambda _, __, texts: parse_cluster_options(texts),
        help="Option of dask-jobqueue's cluster, beside its own configuration: cores=4, "
        "memory=8GB, walltime=01:00:00, 'job_script_prologue=[\"module load python\"]'. May be "
        "repeated.",
    ),
}

# The options that say where to run; the command gets them as ``where``.
where_options = gathered("where", Where, _WHERE)


@dataclass(frozen=True)
class Planned:
    """The place for which a cost is asked, and the numbers of its workers."""

    where: Where
    n_workers: tuple[int, ...]

    @classmethod
    def of(cls, workers: tuple[int, ...], **others: Any) -> "Planned":
        """Return the place with the first of some numbers of workers."""
        return cls(Where(workers=workers[0] if workers else None, **others), workers)


# The same of a command that starts nothing; it gets them as ``planned``.
planned_options = gathered(
    "planned",
    Planned.of,
    _WHERE
    | {
        "workers": click.option(
            "--workers",
            metavar="N",
            callback=lambda _, __, text: parse_workers(text),
            help="Number of workers, processes that share no memory; with --shape several, "
            "1,64,512.",
        )
    },
)

store_argument = click.argument("store", metavar="STORE")
data_argument = click.argument("data", metavar="DATA")

sources_option = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="OLD=NEW",
    callback=lambda _, __, texts: parse_sources(texts),
    help="Where data lie now that were moved apart from the result: OLD is the path that the "
    "result names (dkde status shows it), or a folder above it. The data must be the same. May be "
    "repeated.",
)

trust_sources_option = click.option(
    "--trust-sources",
    is_flag=True,
    help="Open all data that the result names, wherever they are: for a result of others whom you "
    "trust. Without it, those beside the result and those given with --source are opened; the "
    "others only for a result that is your own file, which nobody else can write.",
)

# An option whose value is several names.
names_option = partial(
    click.option, metavar="A,B,...", callback=lambda _, __, text: parse_names(text)
)


def _sides_option(
    flag: str, name: str, metavar: str, help: str, parse: Callable[[str], Any] = str.strip
) -> Decorator:
    """Return an option that may be given for each side, as ``query:VALUE``."""
    return click.option(
        flag,
        name,
        metavar=metavar,
        multiple=True,
        callback=lambda _, __, texts: parse_by_role(texts, parse),
        help=help,
    )


_ROWS: dict[str, Decorator] = {
    "features": _sides_option(
        "--features",
        "features",
        "A,B,...",
        "The features of a row, by name and in this order: columns of a table or a data set, "
        "by default all; or variables of a Zarr store or NetCDF file that xarray opens, which is "
        "read where it lies, and whose name alone stands for all its rows. Of one side: "
        "query:A,B; the option may be repeated.",
        parse_names,
    ),
    # The command has another argument ``where``, the place of the work.
    "condition": _sides_option(
        "--where",
        "condition",
        "CONDITION",
        "Take only the rows that meet this condition on their columns, such as "
        "'year == 2020 and depth < 50'; of one side 'train: year < 2020'.",
    ),
    "row_dim": _sides_option(
        "--row-dim",
        "row_dim",
        "A,B,...",
        "The dim, or dims, along which rows lie, where a variable has several. Other dims "
        "hold the features of a row; without other dims each number is a row.",
        parse_names,
    ),
    "lat": _sides_option(
        "--lat",
        "lat",
        "COLUMN",
        "The feature that is the latitude, in degrees, whatever its name; needs --lon.",
    ),
    "lon": _sides_option(
        "--lon",
        "lon",
        "COLUMN",
        "The feature that is the longitude, in degrees; needs --lat. Without --features "
        "these two are the features.",
    ),
}

# The options that say which columns and dims make rows; the command gets as ``choice`` the keywords
# of a :class:`dkde.Catalog`.
choice_options = gathered(
    "choice", lambda condition, **others: {"where": condition, **others}, _ROWS
)

decimal_option = click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="Decimal mark of numbers in text; with a comma, semicolons or tabs separate columns.",
)
weights_option = click.option(
    "--weights",
    metavar="VARIABLE",
    help="Weight of each training row: a variable beside the features, or a label. If the rows "
    "that are scored have a variable of that name, it weights their means.",
)


groups_options = gathered(
    "groups",
    dict,
    {
        "by": click.option(
            "--by",
            metavar="VARIABLE",
            help="One density for each value of this column, variable, coordinate or label of the "
            "training rows, from its own rows; or of a part of its times, time.month.",
        ),
        "common_bandwidth": click.option(
            "--common-bandwidth",
            is_flag=True,
            help="With --by, find the bandwidth of a rule, and --covariance, from all training "
            "rows together; by default each group has its own.",
        ),
    },
)


bandwidth_scale_option = click.option(
    "--bandwidth-scale",
    metavar="VARIABLE",
    help="Positive factor on the bandwidth of each training row: a variable beside the features.",
)


def scored_weights_option(role: str) -> Decorator:
    """Add ``--query-weights``, or that of another role of rows that are scored."""
    return click.option(
        f"--{role}-weights",
        metavar="VARIABLE",
        help=f"Weight of each {role} row in means and standard errors, whatever --weights says.",
    )


train_option = click.option(
    "--train",
    metavar="SELECTOR",
    help="The rows that make up the density; by default DATA's split train.",
)
bandwidths_option = click.option(
    "--bandwidths",
    metavar="GRID",
    help=BANDWIDTHS_HELP + " By default 16 around the scale of the data.",
)


class _Kernel(click.Choice[str]):
    """The name of a kernel, or those of a product by the names of features."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or a mapping."""
        if isinstance(value, str) and "=" in value:
            return parse_kernels(value)
        return super().convert(value, param, ctx)


_DENSITY: dict[str, Decorator] = {
    "kernel": click.option(
        "--kernel",
        type=_Kernel(KERNELS),
        default="gaussian",
        help="Shape of the density around each training row. univariate_gaussian is a density in "
        "one dimension only, and its scores cannot be compared with another kernel's; "
        "vonmises_fisher is a density on the sphere, for latitude and longitude in degrees. Of a "
        "product lat,lon=vonmises_fisher,depth=gaussian, which takes bandwidths in this form: "
        "lat,lon=100km,depth=20.",
    ),
    "metric": click.option(
        "--metric",
        type=click.Choice(METRICS),
        default="euclidean",
        help="Distance of two rows; manhattan and chebyshev need the kernel univariate_gaussian.",
    ),
    "covariance": click.option(
        "--covariance",
        default="identity",
        metavar="C",
        help="C of the bandwidth matrix h² C: identity; diag, the variances of the training rows; "
        "full, their covariance; a scale for each feature, depth=10,time=2 or 10,2; the rows of a "
        "matrix, '1,0.5;0.5,2'; or a .npy file of scales, or of a matrix.",
    ),
    "singular": click.option(
        "--singular",
        type=click.Choice(SINGULAR),
        default="raise",
        help="With diag or full, if the training rows do not vary in some directions: refuse "
        "them, or drop these directions.",
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(["float64", "float32"]),
        default="float64",
        help="float32 takes half the time and memory, for errors of about 1e-6 relative.",
    ),
    "tol": click.option(
        "--tol",
        type=float,
        metavar="E",
        help="Largest error of a log-density, relative to max(1, |log p|): by default 1e-9, with "
        "float32 1e-4. A larger tolerance, such as 1e-6, can take less time.",
    ),
    "atol": click.option(
        "--atol",
        type=float,
        default=0.0,
        metavar="P",
        help="Absolute tolerance of a density, in its units: a row is also done once its density "
        "is within it. Rows far from all others then take little time, and their bounds are wide.",
    ),
    "nan": click.option(
        "--nan",
        type=click.Choice(NAN),
        default="raise",
        help="If rows have missing features (NaN): refuse them, or drop such rows.",
    ),
    "support": click.option(
        "--support",
        multiple=True,
        metavar="NAME=LOW:HIGH",
        help="The bounds of a feature, depth=0: or fraction=0:1, or its period, hour=periodic:24, "
        "from another start than 0 periodic:360:-180; repeated for several features. The density "
        "integrates to one over them: training rows count with their images, too.",
    ),
    "outside": click.option(
        "--outside",
        type=click.Choice(OUTSIDE),
        default="raise",
        help="If rows are outside of a support: refuse them, or drop such rows.",
    ),
    "adaptive": click.option(
        "--adaptive",
        type=float,
        metavar="ALPHA",
        help="Give each training row a bandwidth of its own, narrow where rows are dense: h times "
        "a pilot density to the power -ALPHA, such as 0.5. The pilot is one more run, of all "
        "training rows under each other.",
    ),
}


def density_options(*names: str, of_scores: bool = False, adapts: bool = False) -> Decorator:
    """Add the options that say what density it is; the command gets them as ``density``.

    Parameters
    ----------
    names : str
        Names of the options; all of them by default, but those for some commands alone.
    of_scores : bool
        Whether the command chooses no bandwidth, so that rows may be done by ``--atol``.
    adapts : bool
        Whether the command computes pilot densities.
    """
    left_out = {name for name, has in (("atol", of_scores), ("adaptive", adapts)) if not has}
    chosen = names or [name for name in _DENSITY if name not in left_out]
    return gathered("density", _density, {name: _DENSITY[name] for name in chosen})


def _density(
    covariance: str | None = None, support: tuple[str, ...] | None = None, **others: Any
) -> dict[str, Any]:
    # Not all commands have these: a map has a default covariance of its own.
    if covariance is not None:
        others["covariance"] = parse_covariance(covariance)
    if support is not None:
        others["support"] = parse_support(support)
    return others


pca_option = click.option(
    "--pca",
    type=click.IntRange(min=1),
    metavar="N",
    help="Reduce rows to their first N principal components, found from the training rows; "
    "scores, and bits per dimension, are then those of the components.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on standard output and no table."
)
# The command itself never gets it: see dkde_cli.group.Command.
csv_option = click.option(
    "--csv-as-is",
    is_flag=True,
    help="Write text in CSV as it is. By default names and text that spreadsheets would take for "
    "formulas, as they begin with =, +, -, @ or a tab, get an apostrophe in front, unless they are "
    "numbers; dkde reads them without it.",
)


def seed_option(help: str) -> Decorator:
    """Add ``--seed``."""
    return click.option("--seed", type=click.IntRange(0, _MAX_SEED), metavar="N", help=help)
