"""What work takes, and by which answers, as a sample of the rows says beforehand."""

from time import process_time
from typing import Any

import numpy as np
import pytest
from work import side_of

import dkde
from dkde.engine.eager_run import run
from dkde.engine.estimate import estimate, estimate_seconds
from dkde.engine.leaf_estimate import answers
from dkde.engine.pool import thread_pool
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options


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


@pytest.mark.sampled(4)
@pytest.mark.parametrize("panel_rows", [None, 50_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_moments_leave_are_those_of_the_run(
    weighted: bool, panel_rows: int | None
) -> None:
    train = normals(100_000, 2)
    weights = np.random.default_rng(1).uniform(0, 2, len(train)) if weighted else None
    planned = work(grid(5.5, 80), train, 0.2, weights, panel_rows=panel_rows)
    if not planned.survey().by_cells:
        pytest.skip("pairs are less work")
    with thread_pool(2) as pool:
        found = run(planned, pool)
    assert left(method(planned)) == pytest.approx((found.effort.pairs > 0).mean(), abs=0.1)


@pytest.mark.sampled(4)
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
    monkeypatch.setattr("dkde.engine.leaf_estimate._TRAIN_ROWS", 15_000)
    assert of_all / 1.5 < share(method(planned)) < 1.5 * of_all


def test_by_products_it_is_what_the_survey_says() -> None:
    planned = work(normals(300, 100), normals(9000, 100), 10.0)
    survey = planned.survey()
    assert estimate(planned, survey, 1, 10.0).seconds == pytest.approx(10.0 * survey.time)


def test_shares_of_answers_add_up() -> None:
    planned = work(normals(5000, 2, 1), normals(20_000, 2), np.geomspace(0.01, 1, 8))
    found = estimate(planned, planned.survey(), 1, 1.0).answers
    assert found is not None
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert all(0 <= each <= 1 for each in found.shares.values())
    # From counts: the same work gets the same shares.
    again = estimate(planned, planned.survey(), 1, 1.0).answers
    assert again is not None
    assert again.shares == found.shares


def test_rows_with_missing_values_are_not_looked_at() -> None:
    train = normals(200_000, 2)
    train[::7] = np.nan
    query = grid(5.5, 80)
    query[::5] = np.nan
    cost = dkde.plan(query=query, train=train, bandwidths=0.2, baseline=False, nan="drop")
    assert "pairs" in cost["method"]


def test_rows_whose_weight_is_missing_are_left_out_of_the_sample() -> None:
    weights = np.random.default_rng(1).uniform(0, 2, 100_000)
    weights[::7] = 0.0
    missing = np.where(weights == 0, np.nan, weights)
    both: list[Any] = [
        dkde.plan(
            query=grid(5.5, 80), train=normals(100_000, 2), bandwidths=[0.2], weights=w, nan="drop",
            baseline=False,
        )
        for w in (weights, missing)
    ]  # fmt: skip
    assert both[0]["method"] == both[1]["method"]


def spread(steps: int) -> Any:
    return np.geomspace(0.05, 1, steps)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    "planned",
    [
        pytest.param(lambda: work(normals(20_000, 3, 1), normals(200_000, 3), 0.1), id="space"),
        pytest.param(lambda: work(normals(20_000, 8, 1), normals(60_000, 8), 0.3), id="8-D"),
        pytest.param(lambda: work(normals(20_000, 30, 1), normals(20_000, 30), 3.0), id="30-D"),
        pytest.param(lambda: work(normals(400_000, 2, 1), normals(400_000, 2), 0.1), id="plane"),
        pytest.param(lambda: work(grid(15, 200), normals(500_000, 2), 0.1), id="far grid"),
        pytest.param(
            lambda: work(normals(50_000, 2, 1), normals(50_000, 2), spread(20)), id="bandwidths"
        ),
    ],
)
def test_seconds_are_those_of_the_run_within_a_factor_of_two(planned: Any) -> None:
    made = planned()
    # Compiles what is used, or loads it.
    with thread_pool(2) as pool:
        run(made, pool)
    survey = made.survey()
    seconds = estimate(made, survey, 1, estimate_seconds(made.plan, 1, "gaussian", "euclidean"))
    taken = []
    for _ in range(2):  # what else the machine does only adds to a time
        start = process_time()
        with thread_pool(2) as pool:
            run(made, pool)
        taken.append(process_time() - start)
    assert min(taken) / 2 < seconds.seconds < 2 * min(taken)


@pytest.mark.parametrize(("d", "h"), [(1, 0.3), (2, 0.3), (2, 0.8), (3, 0.5)])
def test_a_small_sample_knows_how_many_leaves_are_at_the_edge(
    d: int, h: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = work(normals(2000, d, 1), normals(2**16, d), h, kernel="epanechnikov")
    survey = planned.survey()
    whole = answers(planned, survey).near
    monkeypatch.setattr("dkde.engine.leaf_estimate._TRAIN_ROWS", 2**13)
    assert 0.4 < answers(planned, survey).near / whole < 2
