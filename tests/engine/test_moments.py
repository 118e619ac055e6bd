"""Moments of a side: of any source, with any weights, in the order of its rows."""

from dataclasses import replace
from functools import partial
from time import sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import dask_source, rows_of, side_of, source_of

from dkde.engine.moments import gather_moments, gather_weight
from dkde.engine.pool import calling_thread, thread_pool
from dkde.errors import InputError
from dkde.numerics.linear import Product
from dkde.rows.side import Side
from dkde.rows.sources import ArraySource


def exact(values, weights=None):
    weights = np.ones(len(values)) if weights is None else weights
    shares = weights.astype(np.longdouble) / weights.astype(np.longdouble).sum()
    centred = values.astype(np.longdouble) - shares @ values.astype(np.longdouble)
    covariance = (centred * shares[:, None]).T @ centred / (1 - shares @ shares)
    return covariance, float(1 / (shares @ shares))


def assert_moments(moments, values, weights=None, relative=1e-10):
    expected, n_effective = exact(values, weights)
    variances = np.diag(expected)
    actual = moments.covariance
    if actual.ndim == 1:
        assert (np.abs(actual - variances) <= relative * variances).all()
    else:
        bound = relative * np.sqrt(np.outer(variances, variances))
        assert (np.abs(actual - expected) <= bound).all()
    assert moments.weight.effective_size == pytest.approx(n_effective, rel=1e-12)


@given(
    st.sampled_from(["array", "dask", "zarr"]),
    st.booleans(),
    st.sampled_from([None, 1e-300, 1.0, 1e300]),
    st.sampled_from([0.0, 0.1, 1e6]),
    st.integers(0, 2**32 - 1),
)
def test_weights_of_any_scale_in_any_source(kind, full, weight_scale, offset, seed):
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(3, 200))
    values = rng.normal(size=(n_rows, 3)) * [1.0, 10.0, 100.0] + offset
    weights = None
    if weight_scale is not None:
        weights = rng.uniform(0.1, 1, n_rows) * weight_scale
        weights[3:][rng.random(n_rows - 3) < 0.5] = 0
    side = side_of(source_of(kind, values, int(rng.integers(1, 50))), weights=weights)
    assert_moments(gather_moments(side, calling_thread(), full=full), values, weights)


@pytest.mark.parametrize("kind", ["array", "dask", "zarr"])
@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_an_offset_of_1e8_costs_no_digit(kind, offset):
    values = np.random.default_rng(0).normal(size=(500, 3)) + offset
    side = side_of(source_of(kind, values, 500))
    assert_moments(gather_moments(side, calling_thread(), full=True), values)


def test_an_offset_of_1e8_costs_no_digit_between_chunks_that_are_unlike():
    values = np.sort(np.random.default_rng(0).normal(size=(500, 3)), axis=0) + 1e8
    side = side_of(source_of("dask", values, 50))
    assert_moments(gather_moments(side, calling_thread(), full=True), values)


@pytest.mark.parametrize(
    "row",
    [
        0,
        57,
        499,
    ],
)
@pytest.mark.parametrize("outlier", [1e8, -1e12])
def test_a_row_of_weight_zero_far_away_costs_no_digit(row, outlier):
    """Such a row marks what is missing, and does not count."""
    values = np.random.default_rng(0).normal(size=(500, 3))
    weights = np.ones(500)
    values[row], weights[row] = outlier, 0
    side = side_of(source_of("dask", values, 50), weights=weights)
    assert_moments(gather_moments(side, calling_thread(), full=True), values, weights)


def test_one_row_far_heavier_than_all_others_costs_no_digit():
    values = np.random.default_rng(0).normal(size=(10, 2))
    weights = np.array([1.0] + [1e-9] * 9)
    shares = weights.astype(np.longdouble) / weights.astype(np.longdouble).sum()
    centred = values - shares @ values
    degrees = (shares * (shares.sum() - shares)).sum()
    expected = (centred**2 * shares[:, None]).sum(axis=0) / degrees
    moments = gather_moments(side_of(values, weights=weights), calling_thread(), full=False)
    np.testing.assert_allclose(moments.covariance, expected.astype(float), rtol=1e-10)


@pytest.mark.slow
def test_more_rows_than_a_task_takes_in_any_number_of_threads():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 255, (100_000, 2), dtype=np.uint8)
    weights = rng.random(len(values))
    side = side_of(dask_source(values, 5000), scale=1 / 255, weights=weights)
    one = gather_moments(side, calling_thread(), full=True)
    assert_moments(one, values * np.float64(1 / 255), weights)
    delays = iter([0.0, 0.6, 0.4, 0.2])  # what was handed out first comes back last

    def late(delay, call, *arguments):
        sleep(delay)
        return call(*arguments)

    with thread_pool(3) as pool:
        slow = replace(pool, submit=lambda *call: pool.submit(late, next(delays, 0.0), *call))
        many = gather_moments(side, slow, full=True)
    for name in ("mean", "scatter", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_pieces_that_fit_into_memory_are_pieces_of_all(monkeypatch):
    monkeypatch.setattr("dkde.engine.moments._PIECE_BYTES", 7 * 8 * 3)
    values = np.random.default_rng(4).normal(size=(100, 3))
    assert_moments(gather_moments(side_of(values), calling_thread(), full=True), values)


def test_of_mapped_rows():
    rng = np.random.default_rng(5)
    values, matrix = rng.normal(size=(60, 4)) + 3, rng.normal(size=(4, 2))
    side = Side(rows_of(ArraySource(values)).mapped(Product(matrix)))
    assert_moments(gather_moments(side, calling_thread(), full=True), values @ matrix)


class Unread(ArraySource):
    def read(self, start, stop):
        raise AssertionError("rows were read")


class TestWeight:
    @pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
    def test_is_of_the_weights_alone(self, scale):
        weights = np.array([1.0, 2.0, 0.0, 3.0]) * scale
        side = Side(rows_of(Unread(np.zeros((4, 2)))), ArraySource(weights))
        assert gather_weight(side, calling_thread()).effective_size == pytest.approx(
            36 / 14, rel=1e-14
        )

    def test_without_weights_it_is_the_number_of_rows(self):
        side = Side(rows_of(Unread(np.zeros((4, 2)))))
        assert gather_weight(side, calling_thread()).effective_size == 4

    def test_lazy_weights_are_those_in_memory(self):
        weights = np.random.default_rng(0).random(50)
        rows = rows_of(dask_source(np.zeros((50, 2)), 7))
        expected = gather_weight(Side(rows, ArraySource(weights)), calling_thread())
        found = gather_weight(Side(rows, dask_source(weights, 9)), calling_thread())
        assert found.in_units(0).total == pytest.approx(expected.in_units(0).total, rel=1e-14)


class TestRefusals:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_named(self, value):
        values = np.zeros((100, 3))
        values[57, 2] = value
        side = side_of(source_of("dask", values, 10), "train")
        with pytest.raises(InputError, match=f"train: row 57, column 2 is {value}"):
            gather_moments(side, calling_thread(), full=False)

    @pytest.mark.parametrize(
        "gather",
        [gather_weight, partial(gather_moments, full=False)],
    )
    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.zeros(9), "all weights are zero"),
            (np.array([1.0] * 7 + [-2.0, 1.0]), "weight of row 7 is -2"),
            (np.array([1.0] * 7 + [np.nan, 1.0]), "weight of row 7 is nan"),
        ],
    )
    def test_lazy_weights_that_are_none(self, gather, weights, message):
        side = Side(rows_of(ArraySource(np.ones((9, 2)))), dask_source(weights, 4))
        with pytest.raises(InputError, match=message):
            gather(side, calling_thread())
