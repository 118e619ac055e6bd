"""A fitted estimator makes its training rows' leaves once, and gives them up with the fit."""

import copy
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
import numpy as np
import pytest

import dkde
from dkde import KernelDensity, KernelDensityCV
from dkde.engine import leaf_blocks
from dkde.engine.shelf import SHELF, Lasting, shelf_of

TRAIN = np.random.default_rng(0).normal(size=(3000, 3))
QUERY = np.random.default_rng(1).normal(size=(40, 3))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list["weakref.ref[Any]"]:
    """Return references to the training rows in leaves that were made, one for each."""
    found: list[weakref.ref[Any]] = []
    make: Callable[..., Any] = leaf_blocks.train_rows

    def noted(*arguments: Any, **options: Any) -> Any:
        rows = make(*arguments, **options)
        found.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(leaf_blocks, "train_rows", noted)
    return found


def test_leaves_are_made_at_the_first_scoring_and_kept(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(TRAIN)
    assert not made
    first = model.score_samples(QUERY)
    again = [model.score_samples(QUERY[i : i + 1])[0] for i in range(len(QUERY))]
    assert model.score(QUERY) == pytest.approx(first.sum(), rel=1e-12)
    assert len(made) == 1
    assert np.array_equal(first, dkde.log_density(QUERY, TRAIN, 0.3))
    alone = [KernelDensity(bandwidth=0.3).fit(TRAIN).score_samples(QUERY[[i]])[0] for i in range(3)]
    assert again[:3] == alone  # warm or cold


def test_they_go_with_a_new_fit_and_with_the_estimator(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(TRAIN)
    model.score_samples(QUERY)
    model.fit(TRAIN + 1.0)
    assert made[0]() is None
    assert np.array_equal(model.score_samples(QUERY), dkde.log_density(QUERY, TRAIN + 1.0, 0.3))
    kept = made[1]
    assert kept() is not None
    del model
    assert kept() is None


def test_they_are_not_pickled_nor_copied(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(TRAIN)
    before = pickle.dumps(model)
    values = model.score_samples(QUERY)
    assert len(pickle.dumps(model)) < len(before) + 1000
    for other in (pickle.loads(before), copy.deepcopy(model)):
        assert other._kept is not model._kept
        assert np.array_equal(other.score_samples(QUERY), values)
    assert len(made) == 3


def test_threads_share_them(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(TRAIN)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.score_samples(QUERY), range(8)))
    assert len(made) == 1
    assert all(np.array_equal(values, found[0]) for values in found)


def test_they_depend_on_what_rows_are_read_as(made: list[Any]) -> None:
    train, query = np.arange(60).reshape(20, 3) % 7, np.arange(9).reshape(3, 3)
    model = KernelDensity(bandwidth=1.0).fit(train)
    for rows in (query, query + 0.5, query, query + 0.5):
        assert np.array_equal(model.score_samples(rows), dkde.log_density(rows, train, 1.0))
    weighted = KernelDensity(bandwidth=1.0, covariance="full").fit(train, None, np.arange(20.0))
    for _ in range(2):
        again = KernelDensity(bandwidth=1.0, covariance="full").fit(train, None, np.arange(20.0))
        assert np.array_equal(weighted.score_samples(query), again.score_samples(query))


@pytest.mark.slow
def test_moments_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make: Callable[..., Any] = leaf_blocks.panel_moments
    monkeypatch.setattr(leaf_blocks, "panel_moments", lambda *a: made.append(make(*a)) or made[-1])
    rng = np.random.default_rng(0)
    train, query = rng.normal(size=(30_000, 1)), rng.normal(size=(1000, 1))
    model = KernelDensity(bandwidth=0.3).fit(train)
    first, again = (model.score_samples(query) for _ in range(2))
    assert len(made) == 1
    assert np.array_equal(first, again)
    assert np.array_equal(first, dkde.log_density(query, train, 0.3))
    few = model.score_samples(query[:10])
    assert np.allclose(few, first[:10], rtol=0, atol=1e-9)


def test_a_lazy_query_shares_them(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(TRAIN)
    values = model.score_samples(QUERY)
    assert np.array_equal(model.score_samples(da.from_array(QUERY, chunks=10)).compute(), values)
    assert len(made) == 1


def test_lazy_training_rows_are_read_anew(made: list[Any]) -> None:
    model = KernelDensity(bandwidth=0.3).fit(da.from_array(TRAIN, chunks=1000))
    values = [np.asarray(model.score_samples(QUERY)) for _ in range(2)]
    assert np.array_equal(*values)
    assert len(made) == 2


def test_the_choice_among_bandwidths_keeps_its_own() -> None:
    model = KernelDensityCV(bandwidths=[0.1, 0.3, 0.9]).fit(TRAIN)
    first, again = (model.score_samples(QUERY) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, dkde.log_density(QUERY, TRAIN, model.bandwidth_))


def test_another_process_has_no_such_shelf() -> None:
    owner = Lasting()
    assert shelf_of(owner.name) is not SHELF
    name = owner.name
    del owner
    assert shelf_of(name) is SHELF


def test_rows_of_many_features_whatever_the_number_of_queries() -> None:
    """Leaves are along leading axes for many query rows, and along the features for few."""
    rng = np.random.default_rng(0)
    train, query = (rng.normal(size=(n, 17)) * np.arange(1, 18) for n in (8192, 300))
    expected = dkde.log_density(query, train, 20.0)
    first, then = (KernelDensity(bandwidth=20.0).fit(train) for _ in range(2))
    np.testing.assert_allclose(first.score_samples(query[:1]), expected[:1], rtol=1e-12)
    np.testing.assert_allclose(first.score_samples(query), expected, rtol=1e-12)
    np.testing.assert_allclose(then.score_samples(query), expected, rtol=1e-12)
    np.testing.assert_allclose(then.score_samples(query[:1]), expected[:1], rtol=1e-12)
