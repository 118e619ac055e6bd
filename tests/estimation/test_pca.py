"""Principal axes: scikit-learn's, whatever the rows are in."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from work import side_of, source_of

from dkde.errors import InputError
from dkde.estimation.pca import fit_pca
from dkde.workers.cluster import pool_for


def assert_axes(axes, values, n_components):
    theirs = PCA(n_components, svd_solver="full").fit(values)
    assert axes.components.shape == (n_components, values.shape[1])
    np.testing.assert_allclose(axes.components, theirs.components_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(axes.mean, theirs.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(axes.variances, theirs.explained_variance_, rtol=1e-10)
    shares = axes.variances / axes.total_variance
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(axes.transform(values), theirs.transform(values), atol=1e-8)
    few = theirs.transform(values)[:5]
    np.testing.assert_allclose(
        axes.inverse_transform(few), theirs.inverse_transform(few), rtol=0, atol=1e-9
    )


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(1)
    return rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7)) + 10


@pytest.mark.parametrize("kind", ["array", "dask", "zarr"])
@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_they_are_scikit_learns_signs_and_all(values, kind, n_components):
    side = side_of(source_of(kind, values, 37))
    assert_axes(fit_pca(side, n_components, pool_for), values, n_components)


@pytest.mark.slow
def test_of_the_digits_which_have_constant_pixels():
    values = load_digits().data
    assert_axes(fit_pca(side_of(values.astype(np.uint8)), 15, pool_for), values, 15)


def test_of_integers_with_a_scale():
    stored = np.random.default_rng(2).integers(0, 255, (50, 4), dtype=np.uint8)
    stored[:, 1] //= 2  # no two variances alike
    stored[:, 2] //= 4
    assert_axes(fit_pca(side_of(stored, scale=1 / 255), 2, pool_for), stored / 255, 2)


def test_of_fewer_rows_than_features():
    values = np.random.default_rng(3).normal(size=(5, 20))
    assert_axes(fit_pca(side_of(values), 4, pool_for), values, 4)


def test_weights_do_not_count(values):
    weighted = fit_pca(side_of(values, weights=np.arange(300.0)), 3, pool_for)
    np.testing.assert_array_equal(
        weighted.components, fit_pca(side_of(values), 3, pool_for).components
    )


def test_projected_rows_are_components_but_for_a_constant(values):
    axes = fit_pca(side_of(values), 3, pool_for)
    projected = axes.project(side_of(values, weights=np.ones(300)))
    assert projected.weights.shape == (300,)
    rows = projected.rows.read(0, 300, decode=True)
    apart = rows - axes.transform(values)
    np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-12)


def test_axes_beyond_those_that_vary_have_no_variance():
    values = np.random.default_rng(4).normal(size=(30, 2)) @ np.ones((2, 4))
    axes = fit_pca(side_of(values), 4, pool_for)
    assert (axes.variances >= 0).all()
    np.testing.assert_allclose(axes.variances[1:], 0, atol=1e-12)
    np.testing.assert_allclose(axes.components @ axes.components.T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "n_components", "most"), [((9, 3), 0, 3), ((9, 3), 4, 3), ((2, 3), 3, 2)]
)
def test_how_many_there_are(shape, n_components, most):
    message = (
        rf"pca is {n_components}; {shape[0]} rows of 3 features have 1 to {most} principal comp"
    )
    with pytest.raises(InputError, match=message):
        fit_pca(side_of(np.ones(shape)), n_components, pool_for)
