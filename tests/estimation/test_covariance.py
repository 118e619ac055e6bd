"""The bandwidth matrix: what SciPy has, what a hand would compute, and every refusal."""

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import reference
from contract import assert_within
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity as SklearnKernelDensity

import dkde
from dkde.estimation.bandwidth_matrix import find_bandwidth_matrix
from dkde.estimation.covariance import find_covariance
from dkde.inputs.sides import operand, side
from dkde.workers.cluster import pool_for

KERNELS = (*reference.COMPACT, "gaussian", "exponential")
H = [0.6, 2.0]


def training(rows, weights=None):
    return side(operand(rows, "train", dkde.Catalog()), weights)


def covariance_of(rows, weights=None):
    """The unbiased covariance, in extended precision."""
    weights = np.ones(len(rows)) if weights is None else weights
    shares = weights.astype(np.longdouble) / weights.astype(np.longdouble).sum()
    centred = rows.astype(np.longdouble) - shares @ rows.astype(np.longdouble)
    return (centred * shares[:, None]).T @ centred / (1 - shares @ shares)


def cholesky(matrix):
    root = np.zeros_like(matrix, np.longdouble)
    for j in range(len(matrix)):
        root[j, j] = np.sqrt(matrix[j, j] - root[j, :j] @ root[j, :j])
        for i in range(j + 1, len(matrix)):
            root[i, j] = (matrix[i, j] - root[i, :j] @ root[j, :j]) / root[j, j]
    return root


def whitened(root, rows, origin):
    """Rows as multiples of the columns of a lower triangular root, in extended precision."""
    centred = (rows.astype(np.longdouble) - origin).T
    result = np.zeros_like(centred)
    for i in range(len(root)):
        result[i] = (centred[i] - root[i, :i] @ result[:i]) / root[i, i]
    return result.T


def expected_density(query, train, h, matrix, weights=None, kernel="gaussian"):
    """The oracle's answer where C is a matrix."""
    root = cholesky(np.asarray(matrix, np.longdouble))
    origin = train[0].astype(np.longdouble)
    densities = reference.log_density(
        whitened(root, query, origin), whitened(root, train, origin), h, weights, kernel=kernel
    )
    return densities - float(np.log(np.diag(root)).sum())


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(11)
    mixing = rng.normal(size=(4, 4))
    return rng.normal(size=(12, 4)) @ mixing + 5, rng.normal(size=(70, 4)) @ mixing + 5


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(12)
    return rng.uniform(0.2, 3, 70) * (rng.random(70) > 0.3)


@pytest.fixture(scope="module")
def with_constants(sides):
    """Features 1 and 5 are constant, at a number that no binary fraction is."""
    return tuple(np.insert(rows, [1, 4], 0.1, axis=1) for rows in sides)


def refuse_to_compute(*arguments, **keywords):
    raise AssertionError("something was computed while the graph was built")


def refuse_block(block):
    if block.size:
        raise AssertionError("a chunk was computed")
    return block


def refusing(rows, chunk_rows=10):
    """A lazy array none of whose chunks can be computed."""
    lazy = da.from_array(rows, chunks=(chunk_rows, rows.shape[1]))
    return lazy.map_blocks(refuse_block, dtype=rows.dtype, meta=rows[:0])


class TestScipy:
    @pytest.mark.parametrize("rule", ["scott", "silverman"])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("n_features", [1, 2, 4])
    def test_full_covariance_and_a_rule_are_scipys(
        self, sides, weights, rule, weighted, n_features
    ):
        query, train = (rows[:, :n_features] for rows in sides)
        w = weights if weighted else None
        expected = gaussian_kde(train.T, bw_method=rule, weights=w).logpdf(query.T)
        actual = dkde.log_density(query, train, rule, covariance="full", weights=w)
        np.testing.assert_allclose(actual, expected, rtol=1e-9)

    def test_a_number_is_scipys_factor(self, sides, weights):
        query, train = sides
        expected = gaussian_kde(train.T, bw_method=0.3, weights=weights).logpdf(query.T)
        actual = dkde.log_density(query, train, 0.3, covariance="full", weights=weights)
        np.testing.assert_allclose(actual, expected, rtol=1e-9)

    def test_the_matrix_is_scipys_covariance(self, sides, weights):
        found = find_covariance(training(sides[1], weights), "full", "raise", pool_for)
        expected = gaussian_kde(sides[1].T, bw_method=1.0, weights=weights).covariance
        np.testing.assert_allclose(found.matrix, expected, rtol=1e-11, atol=1e-11)


class TestRules:
    @pytest.mark.parametrize("rule", ["scott", "silverman"])
    @pytest.mark.parametrize("n_features", [1, 3])
    def test_with_the_identity_they_are_scikit_learns(self, sides, rule, n_features):
        train = sides[1][:, :n_features]
        expected = SklearnKernelDensity(bandwidth=rule).fit(train).bandwidth_
        matrix = find_bandwidth_matrix(training(train), rule, pool_for)
        np.testing.assert_allclose(matrix.bandwidths, [expected], rtol=1e-14)

    @pytest.mark.parametrize("covariance", ["identity", "diag", "full"])
    @pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
    def test_they_count_the_effective_number_of_rows(self, sides, weights, covariance, scale):
        n = weights.sum() ** 2 / (weights**2).sum()
        assert n < (weights > 0).sum() - 1
        found = find_bandwidth_matrix(
            training(sides[1], weights * scale), "scott", pool_for, covariance
        )
        np.testing.assert_allclose(found.bandwidths, [n ** (-1 / 8)], rtol=1e-12)
        found = find_bandwidth_matrix(
            training(sides[1], weights * scale), "silverman", pool_for, covariance
        )
        np.testing.assert_allclose(found.bandwidths, [(n * 6 / 4) ** (-1 / 8)], rtol=1e-12)

    def test_they_count_the_dimensions_in_which_rows_vary(self, sides):
        train = np.hstack([sides[1], np.full((70, 2), 3.0)])
        with pytest.warns(UserWarning, match="dropped: 4, 5"):
            found = find_bandwidth_matrix(training(train), "scott", pool_for, "diag", "drop")
        np.testing.assert_allclose(found.bandwidths, [70 ** (-1 / 8)], rtol=1e-12)

    def test_integer_weights_repeat_rows_but_for_the_rule(self, sides):
        """At a given h; the rule counts rows of weight two as less than two rows."""
        counts = np.random.default_rng(0).integers(0, 4, 70)
        weighted = dkde.log_density(*sides, 0.5, weights=counts)
        repeated = dkde.log_density(sides[0], np.repeat(sides[1], counts, axis=0), 0.5)
        np.testing.assert_allclose(weighted, repeated, rtol=1e-9)

    def test_results_say_what_the_rule_made(self, sides):
        result = dkde.score(*sides, "scott", covariance="full")
        np.testing.assert_allclose(result.bandwidth, [70 ** (-1 / 8)], rtol=1e-12)


class TestDiagonal:
    @pytest.mark.parametrize(
        "kernel",
        [k if k == "gaussian" else pytest.param(k, marks=pytest.mark.slow) for k in KERNELS],
    )
    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_the_density_of_standardised_rows(self, sides, weights, kernel, weighted):
        w = weights if weighted else None
        query, train = (rows * [1e-3, 1.0, 30.0, 1e5] for rows in sides)
        scales = np.sqrt(np.diag(covariance_of(train, w)))
        expected = reference.log_density(query / scales, train / scales, H, w, kernel=kernel)
        actual = dkde.log_density(query, train, H, covariance="diag", weights=w, kernel=kernel)
        assert_within(actual, expected - float(np.log(scales).sum()))

    def test_integers_with_an_encoding_are_standardised_too(self, tmp_path):
        import zarr

        stored = np.random.default_rng(1).integers(0, 255, (40, 3), dtype=np.uint8)
        array = zarr.create_array(tmp_path / "x", data=stored)
        array.attrs.update(scale_factor=0.5, add_offset=-3.0)
        values = stored * 0.5 - 3.0
        expected = expected_density(values[:5], values, H, np.diag(np.diag(covariance_of(values))))
        actual = dkde.log_density(array, array, H, covariance="diag").compute()
        assert_within(actual[:, :5], expected)


class TestFull:
    @pytest.mark.parametrize("kernel", KERNELS)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_the_density_of_whitened_rows(self, sides, weights, kernel, weighted):
        w = weights if weighted else None
        expected = expected_density(*sides, H, covariance_of(sides[1], w), w, kernel)
        actual = dkde.log_density(*sides, H, covariance="full", weights=w, kernel=kernel)
        assert_within(actual, expected)

    @pytest.mark.filterwarnings("ignore:values of train")
    @settings(max_examples=few(25))
    @given(
        st.integers(1, 5),
        st.sampled_from([0.0, 0.1, 1e6]),
        st.sampled_from([0.0, 2.0, 6.0]),
        st.integers(0, 2**32 - 1),
    )
    def test_features_of_any_scales_and_offsets(self, d, offset, decades, seed):
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(d, d)) + 2 * np.eye(d)
        scales = 10.0 ** rng.uniform(-decades, decades, d)
        # Of an offset of a million spreads, a float64 keeps ten digits of the spread.
        train = (rng.normal(size=(60, d)) @ mixing + offset) * scales
        query = (rng.normal(size=(4, d)) @ mixing + offset) * scales
        expected = expected_density(query, train, H, covariance_of(train))
        assert_within(dkde.log_density(query, train, H, covariance="full"), expected)

    def test_wide_scales_beside_each_other(self, sides):
        query, train = (rows * [1e-6, 1e6, 1.0, 1e-3] for rows in sides)
        expected = expected_density(query, train, H, covariance_of(train))
        assert_within(dkde.log_density(query, train, H, covariance="full"), expected)

    def test_an_offset_of_1e8_in_chunks_that_are_unlike(self):
        rng = np.random.default_rng(0)
        train = np.sort(rng.normal(size=(500, 1)), axis=0) + 1e8
        query = rng.normal(size=(4, 1)) + 1e8
        expected = expected_density(query, train, H, covariance_of(train))
        lazy = da.from_array(train, chunks=(50, 1))
        assert_within(dkde.log_density(query, lazy, H, covariance="full"), expected)

    def test_a_linear_map_of_the_data_costs_its_volume_only(self, sides):
        matrix = np.random.default_rng(3).normal(size=(4, 4))
        plain = dkde.log_density(*sides, H, covariance="full")
        mapped = dkde.log_density(*(rows @ matrix for rows in sides), H, covariance="full")
        np.testing.assert_allclose(mapped, plain - np.linalg.slogdet(matrix)[1], rtol=1e-9)

    def test_in_float32_as_in_float64(self, sides):
        exact = dkde.log_density(*sides, H, covariance="full")
        rough = dkde.log_density(*sides, H, covariance="full", precision="float32")
        np.testing.assert_allclose(rough, exact, rtol=1e-4)


class TestGiven:
    SCALES = np.array([0.1, 1.0, 3.0, 20.0])

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_scales(self, sides, kernel):
        expected = expected_density(*sides, H, np.diag(self.SCALES**2), kernel=kernel)
        actual = dkde.log_density(*sides, H, covariance=self.SCALES, kernel=kernel)
        assert_within(actual, expected)

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_a_matrix(self, sides, weights, kernel):
        root = np.random.default_rng(2).normal(size=(4, 4))
        matrix = root @ root.T
        expected = expected_density(*sides, H, matrix, weights, kernel=kernel)
        actual = dkde.log_density(*sides, H, covariance=matrix, weights=weights, kernel=kernel)
        assert_within(actual, expected)

    def test_a_diagonal_matrix_is_its_scales_and_lists_do(self, sides):
        by_scales = dkde.log_density(*sides, H, covariance=self.SCALES.tolist())
        by_matrix = dkde.log_density(*sides, H, covariance=np.diag(self.SCALES**2).tolist())
        np.testing.assert_allclose(by_matrix, by_scales, rtol=1e-12)

    def test_a_matrix_of_unlike_scales(self, sides):
        query, train = (rows * [1e-6, 1e6, 1.0, 1e-3] for rows in sides)
        matrix = covariance_of(train).astype(float)
        expected = expected_density(query, train, H, matrix)
        assert_within(dkde.log_density(query, train, H, covariance=matrix), expected)

    def test_h_squared_times_the_matrix_is_all_that_counts(self, sides):
        matrix = covariance_of(sides[1]).astype(float)
        np.testing.assert_allclose(
            dkde.log_density(*sides, 0.5, covariance=matrix),
            dkde.log_density(*sides, 1.0, covariance=matrix / 4),
            rtol=1e-12,
        )

    def test_the_matrix_found_is_the_matrix_given(self, sides):
        matrix = covariance_of(sides[1]).astype(float)
        found = find_covariance(training(sides[1]), matrix, "raise", pool_for)
        np.testing.assert_allclose(found.matrix, matrix, rtol=1e-12)
        assert found.log_volume == pytest.approx(np.linalg.slogdet(matrix)[1] / 2, rel=1e-12)
        found = find_covariance(training(sides[1]), self.SCALES, "raise", pool_for)
        np.testing.assert_allclose(found.matrix, np.diag(self.SCALES**2), rtol=1e-14)

    def test_one_training_row_will_do(self):
        actual = dkde.log_density([[1.0, 2.0]], [[1.0, 2.0]], 1.0, covariance=[2.0, 5.0])
        np.testing.assert_allclose(actual, [-np.log(2 * np.pi * 10)], rtol=1e-12)


class TestSingular:
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_constant_features_are_named(self, with_constants, covariance):
        message = (
            r"2 of 6 features do not vary among the training rows \(numbers 1, 5\); use "
            r'singular="drop" to leave them out, or covariance="identity"'
        )
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(*with_constants, H, covariance=covariance)

    @pytest.mark.parametrize("covariance", ["diag", "full"])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_dropped_they_leave_the_density_on_the_others(
        self, sides, with_constants, covariance, offset
    ):
        with pytest.warns(
            UserWarning, match=r"the density is one on the 4 of 6 features .*; dropped: 1, 5$"
        ):
            actual = dkde.log_density(
                *(rows + offset for rows in with_constants),
                H,
                covariance=covariance,
                singular="drop",
            )
        shifted = tuple(rows + offset for rows in sides)
        matrix = covariance_of(shifted[1])
        matrix = matrix if covariance == "full" else np.diag(np.diag(matrix))
        assert_within(actual, expected_density(*shifted, H, matrix))

    def test_a_query_off_the_constant_scores_the_same(self, with_constants):
        query, train = with_constants
        off = query.copy()
        off[:, 1] = 7
        with pytest.warns(UserWarning, match="dropped"):
            a = dkde.log_density(off, train, H, covariance="diag", singular="drop")
        with pytest.warns(UserWarning, match="dropped"):
            b = dkde.log_density(query, train, H, covariance="diag", singular="drop")
        np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
    def test_rows_in_a_subspace_have_the_density_in_its_basis(self, kernel):
        rng = np.random.default_rng(5)
        spanning = rng.normal(size=(2, 5))
        query, train = (rng.normal(size=(n, 2)) @ spanning for n in (8, 50))
        basis = np.linalg.qr(spanning.T)[0]
        flat = covariance_of(train @ basis)
        expected = expected_density(query @ basis, train @ basis, H, flat, kernel=kernel)
        with pytest.warns(UserWarning, match="the training rows vary along only 2 of 5 axes"):
            actual = dkde.log_density(
                query + 7, train + 7, H, covariance="full", singular="drop", kernel=kernel
            )
        assert_within(actual, expected)

    def test_fewer_rows_than_features(self):
        rng = np.random.default_rng(6)
        train = rng.normal(size=(4, 9))
        basis = np.linalg.qr((train[1:] - train[0]).T)[0]
        query = train[:2]
        expected = expected_density(
            (query - train[0]) @ basis,
            (train - train[0]) @ basis,
            H,
            covariance_of((train - train[0]) @ basis),
        )
        with pytest.warns(UserWarning, match="3 of 9 axes"):
            actual = dkde.log_density(query, train, H, covariance="full", singular="drop")
        assert_within(actual, expected)

    def test_the_word_points_at_the_callers_line(self, with_constants):
        with pytest.warns(UserWarning, match="dropped") as caught:
            dkde.log_density(*with_constants, 1.0, covariance="diag", singular="drop")
        assert caught[0].filename == __file__

    def test_bits_are_those_of_the_dimensions_there_are(self, with_constants):
        with pytest.warns(UserWarning, match="dropped"):
            result = dkde.score(*with_constants, H, covariance="diag", singular="drop")
        expected = -result.mean_log_likelihood / (4 * np.log(2))
        np.testing.assert_allclose(result.bits_per_dimension, expected)

    def test_a_singular_covariance_is_refused_with_its_eigenvalue(self):
        rng = np.random.default_rng(7)
        train = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5))
        message = (
            r"covariance is singular: they vary along only 2 of 5 axes \(its smallest eigenvalue,"
            r' with all features scaled to variance 1, is \S+\); use singular="drop"'
        )
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(train, train, 1.0, covariance="full")

    def test_nearly_dependent_features_are_no_subspace(self, sides):
        """A thousandth apart is apart."""
        rng = np.random.default_rng(8)
        twin = sides[1][:, :1] + 1e-3 * rng.normal(size=(70, 1))
        train = np.hstack([sides[1], twin])
        expected = expected_density(train[:5], train, H, covariance_of(train))
        actual = dkde.log_density(train[:5], train, H, covariance="full")
        assert_within(actual, expected)

    def test_many_constants_are_counted_after_the_first_eight(self, sides):
        train = np.hstack([np.zeros((70, 12)), sides[1]])
        with pytest.raises(dkde.InputError, match=r"numbers 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\)"):
            dkde.log_density(train, train, 1.0, covariance="diag")

    @pytest.mark.parametrize("singular", ["raise", "drop"])
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_rows_that_are_all_the_same_have_no_covariance(self, covariance, singular):
        train = np.full((5, 3), 0.1)
        with pytest.raises(dkde.InputError, match="no feature varies among the training rows"):
            dkde.log_density(train, train, 1.0, covariance=covariance, singular=singular)


class TestRefusals:
    @pytest.mark.parametrize(
        ("covariance", "message"),
        [
            ("isotropic", "covariance 'isotropic' is not known; choose one of: identity, diag, f"),
            ([1.0, 2.0], r"covariance has shape \(2,\); for 4 features it must be \(4,\), a vect"),
            (np.eye(3), r"covariance has shape \(3, 3\); for 4 features .*, or \(4, 4\)"),
            (2.0, r"covariance has shape \(\); for 4 features"),
            ([1.0, 2.0, 1e-310, 1.0], "scales have a value of 1e-310, which is out of range"),
            ([1.0, 2.0, 1e305, 1.0], r"scales have a value of 1e\+305, which is out of range"),
            (np.eye(4) * 1e-310, "variances have a value of 1e-310, which is out of range"),
            (np.eye(4) * 1.7e308, r"values up to 1.7e\+308, out of range; rescale the data"),
            ([1.0, 2.0, 0.0, 1.0], "the scale 0 for feature 2; scales must be positive"),
            ([1.0, -2.0, 3.0, 1.0], "the scale -2 for feature 1; scales must be positive"),
            ([1.0, np.nan, 3.0, 1.0], "covariance has values that are not finite"),
            (np.diag([1.0, np.inf, 1.0, 1.0]), "covariance has values that are not finite"),
            ([[1.0], [2.0, 3.0]], "it is one of identity, diag, full, or an array of real"),
            (["a", "b", "c", "d"], "it is one of identity, diag, full, or an array of real"),
            (
                np.eye(4) + np.eye(4, k=2) / 10,
                r"not symmetric: \[0, 2\] is 0\.1 and \[2, 0\] is 0",
            ),
            (np.diag([1.0, 1.0, -0.5, 1.0]), "positive definite: its smallest eigenvalue is -0.5"),
            (
                np.eye(4) + 2 * (np.eye(4, k=1) + np.eye(4, k=-1)),
                r"not positive definite: its smallest eigenvalue is -2\.23607",
            ),
            (np.ones((4, 4)), "not positive definite: its smallest eigenvalue is "),
            (np.zeros((4, 4)), "not positive definite: its smallest eigenvalue is 0"),
        ],
    )
    def test_covariances(self, sides, covariance, message):
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(*sides, 1.0, covariance=covariance)

    @pytest.mark.parametrize("covariance", ["identity", "diag", "full"])
    def test_what_singular_may_be(self, sides, covariance):
        with pytest.raises(dkde.InputError, match="singular is 'ignore'; choose one of: raise, d"):
            dkde.log_density(*sides, 1.0, covariance=covariance, singular="ignore")
        with pytest.raises(dkde.InputError, match="singular is None"):
            dkde.log_density(*sides, 1.0, covariance=covariance, singular=None)

    def test_what_a_rule_may_be(self, sides):
        message = "bandwidth 'scot' is neither a number nor a rule; rules are: scott, silverman"
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(*sides, "scot")

    @pytest.mark.parametrize("covariance", ["diag", "full"])
    @pytest.mark.parametrize("weights", [None, [0.0, 1.0, 0.0]])
    def test_one_row_that_counts(self, covariance, weights):
        train = np.random.default_rng(0).normal(size=(1 if weights is None else 3, 2))
        message = rf"covariance '{covariance}' needs at least two training rows that count"
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(train, train, 1.0, covariance=covariance, weights=weights)

    def test_rounding_is_no_asymmetry(self, sides):
        matrix = np.eye(4)
        matrix[0, 1], matrix[1, 0] = 0.1 + 1e-13, 0.1
        np.testing.assert_allclose(
            dkde.log_density(*sides, 1.0, covariance=matrix),
            dkde.log_density(*sides, 1.0, covariance=(matrix + matrix.T) / 2),
            rtol=1e-14,
        )


class TestLaziness:
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_of_a_lazy_query_nothing_is_computed(self, sides, covariance):
        with dask.config.set(scheduler=refuse_to_compute):
            result = dkde.log_density(refusing(sides[0]), sides[1], "scott", covariance=covariance)
        assert isinstance(result, da.Array)
        assert result.shape == (12,)
        with pytest.raises(AssertionError, match="a chunk was computed"):
            result.compute(scheduler="synchronous")

    def test_the_lazy_result_is_the_eager_one(self, sides, weights):
        eager = dkde.log_density(*sides, H, covariance="full", weights=weights)
        lazy = dkde.log_density(
            da.from_array(sides[0], chunks=(5, 2)),
            da.from_array(sides[1], chunks=(9, 4)),
            H,
            covariance="full",
            weights=da.from_array(weights, chunks=20),
        )
        np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), eager, rtol=1e-10)

    @pytest.mark.parametrize("bandwidth", [1.0, H, "scott", "silverman"])
    @pytest.mark.parametrize("covariance", ["identity", [1.0, 2.0, 3.0, 4.0], np.eye(4) * 3])
    def test_without_moments_nothing_of_the_training_rows_is(self, sides, bandwidth, covariance):
        result = dkde.log_density(
            refusing(sides[0]), refusing(sides[1]), bandwidth, covariance=covariance
        )
        assert isinstance(result, da.Array)

    def test_moments_read_the_training_rows_once(self, sides):
        seen = []

        def see(block):
            if len(block):
                seen.append(float(block[0, 0]))
            return block

        train = da.from_array(sides[1], chunks=(10, 4)).map_blocks(
            see, dtype=float, meta=sides[1][:0]
        )
        dkde.log_density(refusing(sides[0]), train, "scott", covariance="full")
        chunks = sides[1][::10, 0].tolist()
        assert set(seen) == set(chunks)
        assert len(seen) <= len(chunks) + 1  # the first one's first row is where sums begin


class TestFarRows:
    """Rows that mark what is missing, say, by 1e20."""

    @pytest.mark.parametrize("far", [1e12, 1e20])
    @pytest.mark.parametrize("covariance", ["diag", "full", [1.0, 2.0]])
    def test_of_weight_zero_change_nothing(self, covariance, far):
        train = np.random.default_rng(0).normal(size=(500, 2))
        query, weights = train[1:9] + 0.1, np.ones(500)
        train[0], weights[0] = far, 0
        with pytest.warns(UserWarning, match="one scale"):
            dkde.score(query, train, 0.5, covariance=covariance, weights=weights)
        actual = dkde_quietly(query, train, 0.5, covariance=covariance, weights=weights)
        expected = dkde.log_density(query, train[1:], 0.5, covariance=covariance)
        assert_within(actual, expected)

    def test_that_count_do_not_spoil_the_others(self):
        train = np.random.default_rng(0).normal(size=(500, 2))
        query = train[1:9] + 0.1
        expected = dkde.log_density(query, train, 0.5, covariance=[1.0, 2.0]) - np.log(501 / 500)
        train = np.concatenate([[[1e20, 1e20]], train])
        actual = dkde_quietly(query, train, 0.5, covariance=[1.0, 2.0])
        assert_within(actual, expected)


def dkde_quietly(*arguments, **keywords):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "values of train")
        return dkde.log_density(*arguments, **keywords)


class TestMetrics:
    @pytest.mark.parametrize("metric", ["manhattan", "chebyshev"])
    def test_that_depend_on_the_axes_are_refused_where_these_are_open(self, metric):
        rows = np.random.default_rng(0).normal(size=(50, 2))
        keywords = {"kernel": "univariate_gaussian", "metric": metric}
        with pytest.raises(dkde.InputError, match="depends on the axes"):
            dkde.log_density(rows, rows, 1.0, covariance="full", **keywords)
        scaled = dkde.log_density(rows / [1, 2], rows / [1, 2], 1.0, **keywords) - np.log(2)
        assert_within(dkde.log_density(rows, rows, 1.0, covariance=[1.0, 2.0], **keywords), scaled)


class TestDropped:
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_features_may_hold_anything_in_a_query(self, covariance):
        train = np.random.default_rng(0).normal(size=(50, 3))
        train[:, 1] = 4.0
        query = train[:5].copy()
        query[:, 1] = np.nan
        with pytest.warns(UserWarning, match="dropped: 1"):
            actual = dkde.log_density(
                da.from_array(query), train, 1.0, covariance=covariance, singular="drop"
            ).compute()
        expected = dkde.log_density(query[:, ::2], train[:, ::2], 1.0, covariance=covariance)
        assert_within(actual, expected)


class TestNames:
    @pytest.mark.slow
    def test_of_what_is_made_of_one_split_differ(self, tmp_path):
        dkde.import_dataset("digits", tmp_path / "digits.zarr")
        split = dkde.open_dataset(tmp_path / "digits.zarr")["train"].to_dataset()
        query = da.from_array(np.asarray(split.x[:5]))
        made = [
            split.isel(sample=slice(0, 100)),
            split.isel(sample=slice(100, 200)),
            split.assign(x=split.x * 2.0),
            split.isel(feature=slice(None, None, -1)),
        ]
        names = [dkde.log_density(query, train, 2.0).name for train in made]
        assert len(set(names)) == len(made)
        assert dkde.log_density(query, made[0], 2.0).name == names[0]


@pytest.mark.parametrize("covariance", ["diag", "full"])
@pytest.mark.parametrize("size", [1e-158, 1e-152, 1e152, 1e154])
def test_variances_that_squares_cannot_hold(covariance, size):
    rows = np.random.default_rng(0).normal(size=(30, 2)) * size
    with pytest.raises(dkde.InputError, match=r"out of range; rescale|squares overflow"):
        dkde.log_density(rows, rows, 0.5, covariance=covariance)


@pytest.mark.parametrize("covariance", ["diag", "full"])
@pytest.mark.parametrize("size", [1e-140, 1e140])
def test_data_of_any_size_are_scaled(covariance, size):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    found = dkde.log_density(rows * size, rows * size, 0.5, covariance=covariance)
    plain = dkde.log_density(rows, rows, 0.5, covariance=covariance)
    np.testing.assert_allclose(found + 2 * np.log(size), plain, atol=1e-9)
