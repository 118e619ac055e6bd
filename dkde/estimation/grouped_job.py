"""A job of groups: the same call for each value of a variable, and one result of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import xarray as xr

from dkde.engine.work import Work
from dkde.inputs.dividing import Division
from dkde.numerics.logsum import Densities
from dkde.runs.grouped import combined, results_of_groups
from dkde.runs.job import Compute, Job
from dkde.typing import FloatArray

J = TypeVar("J", bound=Job)


@dataclass(frozen=True, eq=False)
class GroupedJob(Generic[J]):
    """A prepared call with groups: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    dim : str
        The dim of the groups in the result.
    values : array (n_groups,)
        Its coordinate.
    jobs : tuple of Job
        That of each group alone.
    asked : tuple of str
        The bandwidths as the call gave them.
    works : mapping
        The works of all groups, by their names and the numbers of their groups: ``score_0``.
    scales : array (n_groups, n_features), optional
        Of the features in the C of each group, where these differ.
    """

    call: Mapping[str, Any] | None
    dim: str
    values: Any
    jobs: tuple[J, ...]
    asked: tuple[str, ...]
    works: Mapping[str, Work]
    scales: FloatArray | None = None
    former: None = None

    @classmethod
    def of(
        cls,
        call: Mapping[str, Any] | None,
        division: Division,
        jobs: Sequence[J],
        asked: Sequence[str],
        scales: FloatArray | None = None,
    ) -> GroupedJob[J]:
        """Return the job of all groups, from those of each."""
        works = {
            f"{name}_{i}": work for i, job in enumerate(jobs) for name, work in job.works.items()
        }
        return cls(call, division.dim, division.values, tuple(jobs), tuple(asked), works, scales)

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Compute the works of one group after the other, and return the result of all."""
        found = [self._answer(i, compute, methods) for i in range(len(self.jobs))]
        seconds = max(each.attrs["seconds"] for each in found)  # each counts from the call's start
        return self.together(found).assign_attrs(seconds=seconds)

    def together(self, found: Sequence[xr.Dataset]) -> xr.Dataset:
        """Return one result of the results of all groups."""
        return combined(self.dim, self.values, found, self.asked, self.scales)

    def _answer(self, i: int, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        job, own = self.jobs[i], {}

        def compute_own(name: str, work: Work) -> Densities:
            found = compute(f"{name}_{i}", work)
            own[name] = methods[f"{name}_{i}"]
            return found

        # Of the works of all groups, which may be cut as a record has them.
        works = {name: self.works[f"{name}_{i}"] for name in job.works}
        return replace(job, works=works).answer(compute_own, own)

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with each group in the form that this call asks for."""
        groups = results_of_groups(finished).values()
        found = [job.reread(each, name) for job, each in zip(self.jobs, groups, strict=True)]
        return self.together(found)
