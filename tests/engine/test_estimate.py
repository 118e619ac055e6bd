"""What share of the query rows is left to direct sums, before anything is summed."""

from typing import Any

import numpy as np
import pytest
from work import side_of

import dkde
from dkde.density.bandwidth_matrix import BandwidthMatrix
from dkde.density.covariance import Covariance
from dkde.density.options import Options
from dkde.engine.eager_run import run
from dkde.engine.estimate import with_direct_share
from dkde.engine.pool import thread_pool
from dkde.engine.work import Work


def normals(rows: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, d))


def grid(width: float, steps: int) -> Any:
    line = np.linspace(-width, width, steps)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def work(query: Any, train: Any, h: float, weights: Any = None, **options: Any) -> Work:
    matrix = BandwidthMatrix(np.array([h]), Covariance(train.shape[1]))
    return Options(**options).work(side_of(query), side_of(train, weights=weights), matrix)


@pytest.mark.parametrize("panel_rows", [None, 7000])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_share_is_that_of_the_run(weighted: bool, panel_rows: int | None) -> None:
    train = normals(20_000, 2)
    weights = np.random.default_rng(1).uniform(0, 2, len(train)) if weighted else None
    planned = work(grid(5.5, 80), train, 0.2, weights, panel_rows=panel_rows)
    survey = planned.survey()
    assert survey.expands
    assert survey.direct == 0
    direct = with_direct_share(planned, survey).direct
    with thread_pool(2) as pool:
        found = run(planned, pool)
    # Rows may be left to direct sums over one panel, and not over another.
    assert direct == pytest.approx(found.effort.pairs.mean() / len(train), abs=0.06)
    assert direct > 0.2


def test_a_sample_of_the_training_rows_says_about_as_much(monkeypatch: Any) -> None:
    planned = work(grid(5.5, 80), normals(60_000, 2), 0.2)
    of_all = with_direct_share(planned, planned.survey()).direct
    monkeypatch.setattr("dkde.engine.estimate._TRAIN_ROWS", 15_000)
    of_some = with_direct_share(planned, planned.survey()).direct
    assert of_all <= of_some <= 1.5 * of_all


def test_no_share_where_nothing_is_expanded() -> None:
    planned = work(normals(300, 20), normals(9000, 20), 5.0)
    survey = planned.survey()
    assert with_direct_share(planned, survey) is survey


def test_the_plan_counts_direct_sums() -> None:
    train = normals(100_000, 2)
    with pytest.warns(UserWarning, match="both on one scale"):
        cost = dkde.plan(query=grid(15, 200), train=train, bandwidths=0.1, baseline=False)
    near = dkde.plan(query=grid(2, 200), train=train, bandwidths=0.1, baseline=False)
    if cost["method"].startswith("expansions"):
        assert "direct sums for about " in cost["method"]
    assert cost["seconds"] > 0.2 * cost["seconds_all_pairs"]
    assert near["method"] == "expansions"
    assert near["seconds"] < 0.2 * near["seconds_all_pairs"]


def test_it_reads_places_all_over_and_rows_with_missing_values_not_at_all() -> None:
    train = normals(200_000, 2)
    train[::7] = np.nan
    query = grid(5.5, 80)
    query[::5] = np.nan
    cost = dkde.plan(query=query, train=train, bandwidths=0.2, baseline=False, nan="drop")
    assert "direct sums for about " in cost["method"]


def test_rows_whose_weight_is_missing_are_left_out_of_the_sample() -> None:
    weights = np.random.default_rng(1).uniform(0, 2, 20_000)
    weights[::7] = 0.0
    missing = np.where(weights == 0, np.nan, weights)
    both: list[Any] = [
        dkde.plan(
            query=grid(5.5, 80), train=normals(20_000, 2), bandwidths=[0.2], weights=w, nan="drop",
            baseline=False,
        )
        for w in (weights, missing)
    ]  # fmt: skip
    assert "direct sums" in both[0]["method"]
    assert both[0]["method"] == both[1]["method"]
