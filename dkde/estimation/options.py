"""Options of the computation: checked, and made into sides, bandwidths and work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from math import nan as not_a_number
from numbers import Integral
from typing import Any

import numpy as np

from dkde.engine.pool import PoolFor
from dkde.engine.reading import check_weights
from dkde.engine.scale_reading import check_scales, range_of_scales
from dkde.engine.task import Task, common_unit
from dkde.engine.work import Work
from dkde.errors import Argument, InputError, warn
from dkde.estimation.bandwidth_matrix import (
    RULES,
    BandwidthMatrix,
    find_bandwidth_matrix,
    rules_among,
)
from dkde.estimation.covariance import Covariance, find_covariance, in_words
from dkde.estimation.density_units import ROWS
from dkde.estimation.factors import Factors
from dkde.estimation.foreign_arguments import refuse_foreign_metric
from dkde.estimation.row_bandwidths import check_adaptive, check_scaled
from dkde.estimation.statistics import count_missing, default_bandwidths
from dkde.estimation.support_images import check_axes, check_support, images_for
from dkde.inputs.arrays import refuse_masked_rows
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, Angles
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import Kernel, get_kernel, sphere_product
from dkde.numerics.logsum import Densities
from dkde.numerics.metrics import check_pair, get_metric
from dkde.numerics.piecewise import pieces
from dkde.numerics.tolerance import check_atol, check_tol
from dkde.rows.row_source import innermost
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored, is_in_degrees, on_sphere, warn_if_radians
from dkde.rows.support import Support
from dkde.rows.tensors import dense
from dkde.rows.within_support import check_outside, checked
from dkde.stores.door import check_opened

NAN = ("raise", "drop")
AT_ATOL = {"units": "1", "long_name": "rows whose density is within atol, but not within tol"}
# The options that the record of a call holds. Stores keep these names: none may be renamed.
RECORDED = (
    "kernel", "metric", "covariance", "singular", "precision", "tol", "atol", "nan", "support",
    "outside", "adaptive", "block_rows", "panel_rows",
)  # fmt: skip
# Those that calls of older versions did not have: recorded only where they are not the default.
_LATER = {"atol": 0.0, "support": None, "outside": "raise", "adaptive": None}


@dataclass(frozen=True)
class Options:
    """Options for the computation of each pair, and for the cut of the pairs into blocks.

    Parameters
    ----------
    kernel : str or mapping
        The name of a kernel, or those of a product.
    covariance, singular
        As for :func:`dkde.estimation.bandwidth_matrix.find_bandwidth_matrix`.
    block_rows, panel_rows : int, optional
        Query and training rows of a block, instead of the plan's own.
    tol, atol : float, optional
        As for :func:`dkde.log_density`.
    nan : {"raise", "drop"}
        What to do with rows that have missing values: refuse them, or leave them out.
    support, outside, adaptive
        As for :func:`dkde.log_density`.
    """

    kernel: Any = "gaussian"
    metric: str = "euclidean"
    precision: str = "float64"
    covariance: Any = "identity"
    singular: str = "raise"
    block_rows: int | None = None
    panel_rows: int | None = None
    tol: float | None = None
    method: str = "auto"
    nan: str = "raise"
    atol: float = 0.0
    support: Any = None
    outside: str = "raise"
    adaptive: float | None = None

    @classmethod
    def of_record(cls, arguments: Mapping[str, Any]) -> "Options":
        """Return the options among the arguments of a recorded call."""
        return cls(**{name: arguments[name] for name in RECORDED if name in arguments})

    @property
    def record(self) -> dict[str, Any]:
        """Return the options by name, for the record of a call."""
        values = {name: getattr(self, name) for name in RECORDED}
        values["support"] = None if self.bounds is None else self.bounds.record
        if self.factors is not None:
            values["kernel"] = self.factors.record
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER or value != _LATER[name]
        }

    @property
    def record_of_support(self) -> dict[str, Any]:
        """Return what the record of a call holds of the support; empty without one."""
        return {name: self.record[name] for name in ("support", "outside") if name in self.record}

    @property
    def bounds(self) -> Support | None:
        """Return the support of features.

        Raises
        ------
        InputError
        """
        return Support.of(self.support)

    @property
    def factors(self) -> Factors | None:
        """Return the factors of a product of kernels; None for one kernel.

        Raises
        ------
        InputError
        """
        return Factors.of(self.kernel)

    def refuse_atol(self, name: str) -> None:
        """Refuse an absolute tolerance beside an argument that compares log-densities.

        Raises
        ------
        InputError
        """
        if self.atol:
            raise InputError(
                Argument(name), " compares log-densities, of which those within ", Argument("atol"),
                " are not known; leave one of the two out",
            )  # fmt: skip

    def refuse_adaptive(self, name: str) -> None:
        """Refuse adaptive bandwidths beside an argument that scores training rows.

        Raises
        ------
        InputError
        """
        if self.adaptive is not None:
            raise InputError(
                Argument(name), " scores training rows under each other, which is not done with ",
                Argument("adaptive"), "; leave one of the two out",
            )  # fmt: skip

    def check(self, *, pca: int | None = None) -> None:
        """Refuse options that no data could satisfy, before anything is read."""
        refuse_foreign_metric(self.metric)
        check_pair(self.radial, get_metric(self.metric))
        check_tol(self.tol, _check_precision(self.precision))
        check_atol(self.atol)
        check_adaptive(self.adaptive)
        if not isinstance(self.nan, str) or self.nan not in NAN:
            raise InputError(f"nan is {self.nan!r}; choose one of: {', '.join(NAN)}")
        check_outside(self.outside, has_support=self.bounds is not None)
        if self.bounds is not None:
            check_support(self.radial, self.metric, pca=pca)
        if (factors := self.factors) is not None:
            factors.check_options(self.bounds, pca)
            return
        # On the sphere h is an angle, and no matrix changes the distances.
        if not self.on_sphere:
            return
        if not (isinstance(self.covariance, str) and self.covariance == "identity"):
            raise InputError(
                f"kernel {self.kernel!r} is the same in all directions on the sphere; its "
                'covariance must be "identity"'
            )
        if pca is not None:
            raise InputError(
                f"kernel {self.kernel!r} is for places on the sphere, which have no principal "
                "axes; leave out pca"
            )

    @property
    def radial(self) -> Kernel:
        """Return the kernel of that name, or of that product with all bandwidths 1."""
        factors = self.factors
        if factors is not None:
            return factors.kernel
        found = get_kernel(self.kernel)
        if found.angle is not None:
            raise InputError(
                f"kernel {found.name!r} is a product; give its factors by the names of features: "
                "{('lat', 'lon'): 'vonmises_fisher', 'depth': 'gaussian'}"
            )
        return found

    @property
    def on_sphere(self) -> bool:
        """Return whether rows are, or have, places on the sphere."""
        return self.radial.sphere

    def prepared(self, side: Side) -> Side:
        """Return a side ready for work: places as unit vectors, missing values handled.

        Raises
        ------
        InputError
            When the kernel needs places and the rows are none; when values in memory are masked,
            or weights are not valid.
        """
        # Masks of rows in memory are known now; those of stores show only as rows are read.
        if self.nan == "raise":
            refuse_masked_rows(side.rows)
        bounds, drops, factors = self.bounds, self.nan == "drop", self.factors
        if factors is not None:
            for part in side.rows.parts:
                factors.check(part)
        check_outside(self.outside, has_support=bounds is not None)
        if bounds is not None:
            check_support(self.radial, self.metric)
            found = checked(bounds, side, outside=self.outside, drops_missing=drops)
        else:
            found = replace(side, rows=replace(side.rows, drops_missing=drops))
        if self.on_sphere:
            beside = None if factors is None else factors.beside
            found = replace(found, rows=on_sphere(found.rows, beside))
        check_weights(found)
        check_scales(found)
        if found.scales is not None and self.adaptive is not None:
            raise InputError(
                Argument("bandwidth_scale"), " and ", Argument("adaptive"),
                " both say the bandwidths of the rows; leave out one of them",
            )  # fmt: skip
        return found

    def describe(self, bandwidth: Any) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        # Only what differs from the defaults is added, so that older results read the same.
        # Scales by name are given as the bandwidth too: then h is 1.
        scales = bandwidth if isinstance(bandwidth, Mapping) else self.covariance
        covariance = in_words(scales)
        factors = self.factors
        rule = {} if self.on_sphere else rules_among(bandwidth)
        dropped = {"nan": self.nan} if self.nan != "raise" else {}
        unit = (
            {"bandwidth_unit": _angles(bandwidth).unit, "earth_radius_km": EARTH_RADIUS_KM}
            if self.on_sphere and factors is None else {}
        )  # fmt: skip
        kernels = {} if factors is None else {"kernels": factors.record}
        support = {} if self.bounds is None else {"support": self.bounds.record}
        outside = {"outside": self.outside} if self.outside != "raise" else {}
        adaptive = {} if self.adaptive is None else {"adaptive": float(self.adaptive)}
        return {
            "covariance": covariance, "singular": self.singular, **rule, **dropped, **unit,
            **support, **outside, **kernels, **adaptive,
        }  # fmt: skip

    def dimensions(self, matrix: BandwidthMatrix) -> float:
        """Return the number of dimensions for bits per dimension; NaN where there is no density."""
        if self.on_sphere:
            return matrix.rank - 1  # a unit vector has three coordinates
        return matrix.rank if self._is_density(matrix) else not_a_number

    def missing_variables(self, found: Densities) -> dict[str, Any]:
        """Return the variables that count the rows left out; none where they are refused."""
        if self.nan == "raise" and self.outside == "raise":
            return {}
        names = ("n_missing", "n_missing_train")
        if self.nan == "raise":
            names = ("n_outside", "n_outside_train")
        counts = zip(names, count_missing(found), strict=True)
        return {name: ((), count, ROWS) for name, count in counts}

    def atol_variables(self, found: Densities) -> dict[str, Any]:
        """Return the variable that counts the rows done by ``atol`` alone; none without it."""
        if not self.atol:
            return {}
        tol = check_tol(self.tol, _check_precision(self.precision))
        number = np.zeros(len(found.values), np.int64)
        for rows in pieces(found.values):
            errors = found.errors[:, rows]
            by_tol = tol * np.maximum(1.0, np.abs(found.values[:, rows]))
            number += (np.isinf(errors) | (errors > by_tol)).sum(axis=1)
        return {"n_rows_at_atol": ("bandwidth", number, AT_ATOL)}

    def warn_if_no_density(self, matrix: BandwidthMatrix) -> None:
        """Warn that scores cannot be compared with others."""
        if not self._is_density(matrix):
            warn(
                f"kernel {self.kernel!r} is no density of {matrix.rank} features: its scores rank "
                "rows, but cannot be compared with those of another kernel, metric or bandwidth "
                "matrix"
            )

    def _is_density(self, matrix: BandwidthMatrix) -> bool:
        """Return whether the kernel integrates to one in the dimensions of the matrix."""
        kernel = self.radial
        return kernel.radii is not None or kernel.sphere or matrix.rank == 1

    def bandwidth_matrix(self, train: Side, bandwidth: Any, pool_for: PoolFor) -> BandwidthMatrix:
        """Return H for a prepared training side.

        Parameters
        ----------
        bandwidth : float, str, sequence of these, mapping of str to float, or None
            The values of h, or rules for h; a bandwidth for each feature, by name, which are the
            scales of C at h = 1; None for a grid around the scale of the data.
        pool_for : callable
            Opens the pool of workers that reads the rows for a covariance or a rule.
        """
        if isinstance(bandwidth, Mapping):
            return self._scaled(bandwidth).bandwidth_matrix(train, 1.0, pool_for)
        self.check()
        check_opened(bandwidth)
        angles, factors = None, self.factors
        if self.on_sphere:
            # Looked for in latitudes and longitudes: the rows hold unit vectors by now.
            warn_if_radians(*as_stored(train.rows))
        elif is_in_degrees(train.rows):
            warn(
                "distances are computed between latitudes and longitudes in degrees, as if the "
                "Earth were flat: but degrees of longitude get shorter towards the poles, and "
                "neighbours on either side of the date line count as far apart; "
                'use kernel="vonmises_fisher" for a density on the sphere'
            )
            warn_if_radians(train.rows)
        if factors is not None:
            found = factors.matrix_of(self.covariance, bandwidth, train)
            self._check_axes(found.covariance)
            return found
        if self.on_sphere:
            angles = _angles(bandwidth)
            bandwidth = angles.radians(bandwidth)
        if bandwidth is None:
            # The grid is for whitened rows, so the covariance comes first.
            covariance = find_covariance(train, self.covariance, self.singular, pool_for)
            self._check_axes(covariance)
            grid = default_bandwidths(covariance.whiten(train), self.kernel)
            return BandwidthMatrix(grid, covariance, angles)
        found = find_bandwidth_matrix(train, bandwidth, pool_for, self.covariance, self.singular)
        self._check_axes(found.covariance)
        return replace(found, angles=angles)

    def _check_axes(self, covariance: Covariance) -> None:
        if (bounds := self.bounds) is not None:
            check_axes(bounds, covariance.linear)

    @staticmethod
    def refuse_scales(bandwidths: Any) -> None:
        """Refuse a bandwidth for each feature where one h is chosen among several.

        Raises
        ------
        InputError
        """
        if isinstance(bandwidths, Mapping):
            raise InputError(
                "bandwidths are values of h, among which one is chosen; give a scale for each "
                "feature by name as ",
                Argument("covariance"),
                ", beside a grid of h",
            )

    def _scaled(self, scales: Mapping[str, Any]) -> "Options":
        """Return the options with bandwidths of features, by name, as scales of C at h = 1.

        Raises
        ------
        InputError
            When C is given too, or has no meaning.
        """
        if self.on_sphere and self.factors is None:
            raise InputError(
                f"kernel {self.kernel!r} is the same in all directions on the sphere; its "
                "bandwidth is one angle or length, and not one for each feature"
            )
        if not (isinstance(self.covariance, str) and self.covariance == "identity"):
            raise InputError(
                "a bandwidth for each feature makes C from these; leave out ",
                Argument("covariance"),
                ", or give h as a number beside it",
            )
        return replace(self, covariance=scales)

    def work(
        self, query: Side, train: Side, matrix: BandwidthMatrix, *, in_shares: bool = True
    ) -> Work:
        """Return the work of scoring a whitened query under whitened training rows.

        Parameters
        ----------
        in_shares : bool
            Whether a block's query rows may be shared out among threads.

        Raises
        ------
        InputError
            When the options do not go with each other, or with the covariance.
        """
        self.check()
        # Whitened axes may be turned in any way: Euclidean distances stay the same, others do not.
        if self.metric != "euclidean" and matrix.covariance.root is not None:
            raise InputError(
                f"metric {self.metric!r} depends on the axes, and a covariance that is not "
                "diagonal does not determine them; use ",
                Argument("covariance", "diag"),
                ", scales, or ",
                Argument("metric", "euclidean"),
            )
        if train.scales is not None or self.adaptive is not None:
            check_scaled(self.radial, train.rows)
        precision = _check_precision(self.precision)
        # Stored integers need no decoding where both sides have the same encoding: h is then taken
        # in units of their scale.
        unit, integer = common_unit(query.rows, train.rows, matrix.bandwidths, precision)
        kernel = self.radial if matrix.angle is None else sphere_product(matrix.angle)
        # Images are those that the widest rows need. Rounding is as the narrowest rows see it.
        is_rounded = self.bounds is not None or train.rows.linear is not None
        least, largest = range_of_scales(train) if is_rounded else (1.0, 1.0)
        task = Task(
            kernel, get_metric(self.metric), matrix.bandwidths, precision,
            check_tol(self.tol, precision), train.rows.n_rows, unit, integer,
            matrix.covariance.log_volume, self.method, check_atol(self.atol),
            None if (bounds := self.bounds) is None
            else images_for(bounds, train.rows, matrix, kernel, largest),
            has_scales=train.scales is not None, least_scale=least,
        )  # fmt: skip
        for name, rows in (("block_rows", self.block_rows), ("panel_rows", self.panel_rows)):
            if rows is not None and not (isinstance(rows, Integral) and rows >= 1):
                raise InputError(f"{name} is {rows!r}; it must be a whole number, at least 1")
        work = Work.of(
            query, train, task,
            query_rows=self.block_rows, panel_rows=self.panel_rows, in_shares=in_shares,
        )  # fmt: skip
        return work if self.panel_rows is not None else _in_small_panels(work)


def _in_small_panels(work: Work) -> Work:
    """Return the work in panels as small as the training rows' sources ask for."""
    rows = work.train.rows
    asked = [innermost(part.source).panel_bytes for part in rows.parts]
    known = [each for each in asked if each is not None]
    most = max(1, min(known) // (8 * rows.n_features)) if known else work.plan.panel_rows
    if work.plan.panel_rows <= most:
        return work
    # A power of two, as a plan's own panels; and whole reads, so that no chunk is read twice.
    n_panels = 1 << (ceil(rows.n_rows / most) - 1).bit_length()
    panel_rows = ceil(ceil(rows.n_rows / n_panels) / rows.read_rows) * rows.read_rows
    return replace(work, plan=work.plan.cut_into(work.plan.query_rows, panel_rows))


def _angles(bandwidth: Any) -> Angles:
    """Return bandwidths on the sphere: angles, or lengths on the Earth such as "250km"."""
    if isinstance(bandwidth, str) and bandwidth in RULES:
        raise InputError(
            f"bandwidth {bandwidth!r} is a rule for distances in space, and not on the sphere; "
            "give a number of radians or a length in kilometres, or choose by cross-validation"
        )
    return Angles.of(dense(bandwidth, "bandwidth"))


def _check_precision(precision: str) -> Precision:
    """Return a precision that is known; refuse any other."""
    if precision == "float64":
        return "float64"
    if precision == "float32":
        return "float32"
    raise InputError(f"precision {precision!r} is not known; choose float64 or float32")
