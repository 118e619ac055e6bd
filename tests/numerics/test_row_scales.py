"""Weights over scales: of any size, and added up to what densities are divided by."""

import numpy as np
import pytest

from dkde.numerics.row_scales import scaled_bands, wrong_scales
from dkde.numerics.tree import TreeRows

Number = np.longdouble


@pytest.mark.parametrize("power", [1, 3, 96])
@pytest.mark.parametrize("spread", [0.5, 30.0, 200.0])
def test_bands_hold_each_row_once_with_its_weight_over_its_scale(power, spread):
    rng = np.random.default_rng(power)
    scales = np.exp(rng.uniform(-spread, spread, 300))
    weights = np.exp(rng.uniform(-3 * spread, 3 * spread, 300))
    bands = list(scaled_bands(weights, scales, power))
    rows = np.concatenate([band.rows for band in bands])
    assert sorted(rows) == list(range(300))
    for band in bands:
        assert (band.weights > 2.0**-300).all()
        assert (band.weights < 2.0**300).all()
        logs = np.log(band.weights.astype(Number)) + band.shift * np.log(Number(2))
        right = np.log(weights[band.rows].astype(Number))
        right -= power * np.log(scales[band.rows].astype(Number))
        assert (np.abs(logs - right) <= 1e-15 + 1e-18 * np.abs(right)).all()
        counted = np.ldexp(band.counted.astype(Number), band.counted_shift)
        assert (counted == weights[band.rows]).all()


def test_ordinary_rows_are_one_band():
    (band,) = scaled_bands(None, np.linspace(0.1, 9.0, 50), 3)
    assert (band.counted == 1).all()
    assert band.counted_shift == 0


def test_nodes_have_the_least_factor_of_their_rows():
    rng = np.random.default_rng(0)
    values, scales = rng.normal(size=(1000, 2)), np.exp(rng.normal(size=1000))
    (band,) = scaled_bands(None, scales, 2)
    rows = TreeRows(2, 1000)
    rows.add(values)
    tree = rows.tree(band.weights, shift=band.shift, scaled=band)
    assert tree.scales is not None
    factors = np.full(tree.n_leaves * 128, np.inf)
    factors[:1000] = (scales**-2)[tree.order]
    np.testing.assert_allclose(tree.scales.factors, factors, rtol=1e-15)
    for node in range(len(tree.first)):
        first, stop = (
            128 * leaf for leaf in (tree.first[node], sum((tree.first[node], tree.count[node])))
        )
        assert tree.scales.of_nodes[node] == tree.scales.factors[first:stop].min()


def test_scales_are_positive_numbers_in_range():
    wrong = [0.0, -1.0, np.nan, np.inf, 1e101, 1e-101]
    assert wrong_scales(np.array(wrong)).all()
    assert not wrong_scales(np.array([1e-100, 1.0, 1e100])).any()
