"""What others compute exactly, they compute alike; and where they do not, dkde does."""

import numpy as np
import pytest
import reference
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import gaussian_kde
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity as SklearnKernelDensity

import dkde

# Those that scikit-learn has.
KERNELS = (
    "tophat", "epanechnikov", "linear", "cosine", "gaussian", "exponential"
)  # fmt: skip


def two_sides(d, seed=51):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) + np.eye(d)
    return rng.normal(size=(25, d)) @ mixing + 3, rng.normal(size=(120, d)) @ mixing + 3


def some_weights(n, seed=52):
    return np.random.default_rng(seed).uniform(0.1, 3, n)


class TestScikitLearn:
    """With all rows in one leaf its tree has nothing to leave out."""

    @pytest.mark.parametrize("d", [1, 2, 3, 10])
    @pytest.mark.parametrize("kernel", KERNELS)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_one_leaf(self, kernel, d, weighted):
        query, train = two_sides(d)
        weights = some_weights(120) if weighted else None
        # Wide enough that most rows have a density under the kernels that end.
        h = 1.5 * np.median(cdist(query, train)) if kernel in reference.COMPACT else 0.8
        theirs = SklearnKernelDensity(bandwidth=h, kernel=kernel, leaf_size=200)
        expected = theirs.fit(train, sample_weight=weights).score_samples(query)
        actual = dkde.log_density(query, train, h, kernel=kernel, weights=weights)
        assert np.isfinite(expected).sum() > 20
        if kernel == "cosine" and d % 2 == 0:
            # Its normaliser leaves a term out where d is even: dkde's is the oracle's.
            oracle = reference.log_density(query, train, [h], weights, kernel=kernel)[0]
            np.testing.assert_allclose(actual, oracle, rtol=1e-9)
            apart = (actual - expected)[np.isfinite(expected)]
            np.testing.assert_allclose(apart, apart[0], atol=1e-9)
            assert abs(apart[0]) > 1e-3
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-9)

    def test_its_default_tree_is_off_on_the_digits(self):
        rows = load_digits().data
        train, query = rows[:1437], rows[1437:]
        logs = -cdist(query, train, "sqeuclidean") / (2 * 0.5**2)
        naive = logsumexp(logs, axis=1) - np.log(1437) - 32 * np.log(2 * np.pi * 0.5**2)
        theirs = SklearnKernelDensity(bandwidth=0.5).fit(train).score_samples(query)
        ours = dkde.log_density(query, train, 0.5)
        assert np.abs(theirs - naive).max() > 10
        np.testing.assert_allclose(ours, naive, rtol=1e-9)
        one_leaf = SklearnKernelDensity(bandwidth=0.5, leaf_size=1437).fit(train)
        np.testing.assert_allclose(ours, one_leaf.score_samples(query), rtol=1e-9)


class TestStatsmodels:
    @pytest.mark.filterwarnings("ignore:After 0.17:FutureWarning")  # of a generator not used here
    @pytest.mark.parametrize("d", [1, 2, 4])
    def test_a_bandwidth_for_each_feature(self, d):
        multivariate = pytest.importorskip(
            "statsmodels.nonparametric.kernel_density",
            reason="statsmodels is not installed; it is a peer and not needed",
        ).KDEMultivariate
        query, train = two_sides(d)
        bandwidths = np.array([0.4, 1.0, 2.0, 0.7])[:d]
        density = multivariate(train, var_type="c" * d, bw=bandwidths).pdf(query)
        actual = dkde.log_density(query, train, 1.0, covariance=bandwidths)
        np.testing.assert_allclose(actual, np.log(density), rtol=1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize(("kernel", "theirs"), [("biweight", "biw"), ("triweight", "triw")])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_kernels_that_scikit_learn_has_not(self, kernel, theirs, weighted):
        univariate = pytest.importorskip(
            "statsmodels.nonparametric.kde",
            reason="statsmodels is not installed; it is a peer and not needed",
        ).KDEUnivariate
        query, train = two_sides(1)
        weights = some_weights(120) if weighted else None
        density = univariate(train[:, 0])
        density.fit(kernel=theirs, bw=0.7, fft=False, weights=weights)
        # One point at a time: of several, rows near all of them count. NaN where there is no row.
        values = [np.ravel(density.evaluate(point))[0] for point in query[:, 0]]
        expected = np.nan_to_num(np.array(values))
        actual = dkde.log_density(query, train, 0.7, kernel=kernel, weights=weights)
        assert (expected > 0).sum() > 20
        np.testing.assert_allclose(np.exp(actual), expected, rtol=1e-9)


class TestScipy:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("d", [1, 2, 5])
    @pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.4])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_gaussian_kde(self, d, bandwidth, weighted):
        query, train = two_sides(d)
        weights = some_weights(120) if weighted else None
        theirs = gaussian_kde(train.T, bw_method=bandwidth, weights=weights)
        actual = dkde.log_density(query, train, bandwidth, covariance="full", weights=weights)
        np.testing.assert_allclose(actual, theirs.logpdf(query.T), rtol=1e-9)
