"""A density that is ready to score rows: training rows, and the bandwidth matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.pool import PoolFor
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.density_units import density_units
from dkde.estimation.labelling import in_own_dims, score_variables
from dkde.estimation.options import Options
from dkde.estimation.row_weights import Weighted
from dkde.inputs.operands import Operand
from dkde.rows.side import Side
from dkde.rows.slicing import between
from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Fitted:
    """Training rows in coordinates in which C is the identity, with H and the options.

    Parameters
    ----------
    options : Options
    matrix : BandwidthMatrix
    train : Side
    """

    options: Options
    matrix: BandwidthMatrix
    train: Side

    @classmethod
    def to(
        cls,
        train: Side,
        bandwidths: Any,
        options: Options,
        pool_for: PoolFor,
        derived_from: int | None = None,
    ) -> Fitted:
        """Return the density of a prepared training side; read only what the bandwidths need.

        Parameters
        ----------
        bandwidths, pool_for
            As for :meth:`Options.bandwidth_matrix`.
        derived_from : int, optional
            The number of first rows from which bandwidths by rules and covariances are derived; by
            default all.
        """
        first = train if derived_from is None else between(train, 0, derived_from)
        matrix = options.bandwidth_matrix(first, bandwidths, pool_for)
        return cls(options, matrix, matrix.whiten(train))

    def at(self, bandwidths: npt.ArrayLike) -> Fitted:
        """Return the same density at other bandwidths."""
        # The covariance, and with it the whitened rows, do not depend on h.
        values = np.asarray(bandwidths, np.float64)
        return replace(self, matrix=replace(self.matrix, bandwidths=values))

    @property
    def bandwidths(self) -> FloatArray:
        """Return the values of h (n_bandwidths,), on the sphere in radians."""
        return self.matrix.bandwidths

    @property
    def density_units(self) -> str | None:
        """Return the unit of the density; None where those of the features are not known."""
        return density_units(self.train.rows, self.options.radial, self.matrix.rank)

    def work(self, query: Side, *, in_shares: bool = True) -> Work:
        """Return the work of scoring a prepared query.

        Parameters
        ----------
        in_shares : bool
            Whether a block's query rows may be shared out among threads.
        """
        whitened = self.matrix.whiten(query)
        return self.options.work(whitened, self.train, self.matrix, in_shares=in_shares)

    def work_among(self) -> Work:
        """Return the work of scoring the training rows under each other."""
        # The same object on both sides: a plan then counts rows in memory once.
        return self.options.work(self.train, self.train, self.matrix)

    def variables(self, found: Weighted, q: Operand, prefix: str = "") -> dict[str, Any]:
        """Return the variables of a result: log-densities, in the dims of the rows, and figures.

        Parameters
        ----------
        found : Weighted
            The log-densities of the rows.
        q : Operand
            The rows.
        prefix : str
            A prefix for the names of the rows' dims.
        """
        dimensions = self.options.dimensions(self.matrix)
        scores = score_variables(found, dimensions, "sample", self.density_units)
        missing = self.options.missing_variables(found.densities)
        missing |= self.options.atol_variables(found.densities)
        return in_own_dims(scores, "sample", q, prefix) | missing
