"""What work takes, and by which answers, as a sample of the rows says beforehand."""

from typing import Any

import numpy as np
import pytest
from work import side_of

import dkde
from dkde.density.bandwidth_matrix import BandwidthMatrix
from dkde.density.covariance import Covariance
from dkde.density.options import Options
from dkde.engine.eager_run import run
from dkde.engine.estimate import estimate
from dkde.engine.pool import thread_pool
from dkde.engine.work import Work


def normals(rows: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, d))


def grid(width: float, steps: int) -> Any:
    line = np.linspace(-width, width, steps)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def work(query: Any, train: Any, h: Any, weights: Any = None, **options: Any) -> Work:
    matrix = BandwidthMatrix(np.atleast_1d(h), Covariance(train.shape[1]))
    return Options(**options).work(side_of(query), side_of(train, weights=weights), matrix)


def method(planned: Work) -> str:
    return estimate(planned, planned.survey(), 1, 1.0).method


def share(words: str) -> float:
    """The share of all pairs that are in near leaves."""
    return float(words.split(" of all pairs")[0].split()[-1][:-1]) / 100


def left(words: str) -> float:
    """The share of the query rows that need pairs."""
    return float(words.split(" of the query rows")[0].split()[-1][:-1]) / 100


@pytest.mark.parametrize("panel_rows", [None, 7000])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_moments_leave_are_those_of_the_run(
    weighted: bool, panel_rows: int | None
) -> None:
    train = normals(20_000, 2)
    weights = np.random.default_rng(1).uniform(0, 2, len(train)) if weighted else None
    planned = work(grid(5.5, 80), train, 0.2, weights, panel_rows=panel_rows)
    if not planned.survey().by_cells:
        pytest.skip("pairs are less work")
    with thread_pool(2) as pool:
        found = run(planned, pool)
    assert left(method(planned)) == pytest.approx((found.effort.pairs > 0).mean(), abs=0.1)


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_the_share_of_pairs_is_that_of_the_run(d: int) -> None:
    train = normals(40_000, d)
    planned = work(normals(4000, d, 1), train, 0.15 * d, kernel="epanechnikov")
    with thread_pool(2) as pool:
        found = run(planned, pool).effort.pairs.mean() / len(train)
    assert found / 2 < share(method(planned)) < 2 * found


def test_a_sample_of_the_training_rows_says_about_as_much(monkeypatch: Any) -> None:
    planned = work(normals(5000, 3, 1), normals(100_000, 3), 0.3, kernel="exponential")
    of_all = share(method(planned))
    monkeypatch.setattr("dkde.engine.estimate._TRAIN_ROWS", 15_000)
    assert of_all / 1.5 < share(method(planned)) < 1.5 * of_all


def test_by_products_it_is_what_the_survey_says() -> None:
    planned = work(normals(300, 30), normals(9000, 30), 5.0)
    survey = planned.survey()
    assert estimate(planned, survey, 1, 10.0).seconds == pytest.approx(10.0 * survey.time)


def test_rows_with_missing_values_are_not_looked_at() -> None:
    train = normals(200_000, 2)
    train[::7] = np.nan
    query = grid(5.5, 80)
    query[::5] = np.nan
    cost = dkde.plan(query=query, train=train, bandwidths=0.2, baseline=False, nan="drop")
    assert "pairs" in cost["method"]


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
    assert both[0]["method"] == both[1]["method"]
