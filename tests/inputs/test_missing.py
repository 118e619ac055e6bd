"""Rows with missing values: refused with a word, or left out of everything."""

import json
import warnings
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import xarray as xr
from contract import assert_within, assert_within_32
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Problem, problems

import dkde
from dkde.engine.graph import lazy_densities
from dkde.estimation.options import Options
from dkde.inputs.sides import catalog_of, operand, side
from dkde.workers.cluster import pool_for

KERNELS = ("gaussian", "exponential", "univariate_gaussian")
H = [0.1, 0.6, 4.0]


def with_holes(array, seed, share=0.1):
    """A copy with missing values here and there."""
    rng = np.random.default_rng(seed)
    holes = array.astype(np.float64) if array.dtype.kind != "f" else array.copy()
    holes[rng.random(array.shape) < share] = np.nan
    return holes


def there(array):
    return ~np.isnan(array).any(axis=1)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def sides():
    return with_holes(normal(60, 3), 1), with_holes(normal(200, 3, seed=2), 3)


def without(problem, query, train):
    """The problem that is left when these rows alone are."""

    def some(values, rows):
        return None if values is None else values[rows]

    return replace(
        problem,
        query=problem.query[query],
        train=problem.train[train],
        weights=some(problem.weights, train),
        query_groups=some(problem.query_groups, query),
        train_groups=some(problem.train_groups, train),
        query_borders=(),
        train_borders=(),
    )


def dask_of(array, borders):
    chunks = tuple(np.diff(borders).tolist())
    return da.from_array(array, chunks=(chunks, -1))


def dropped(problem, query, train, **options):
    """Log-densities and what else is found, of lazy sides cut at the problem's borders."""
    sources = catalog_of(None)
    given = Options(
        problem.kernel, problem.metric, block_rows=5, panel_rows=60, nan="drop", **options
    )
    q, t = (
        operand(dask_of(array, borders), role, sources)
        for array, borders, role in (
            (query, problem.query_borders, "query"),
            (train, problem.train_borders, "train"),
        )
    )
    query_side = given.prepared(side(q, groups=problem.query_groups, role="query"))
    train_side = given.prepared(side(t, problem.weights, problem.train_groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = given.bandwidth_matrix(train_side, problem.bandwidths, pool_for)
    work = given.work(matrix.whiten(query_side), matrix.whiten(train_side), matrix)
    panels = [
        [work.block(survey, q, p) for p in range(work.plan.n_panels)]
        for survey in [work.survey()]
        for q in range(work.plan.n_query_blocks)
    ]
    return [work.densities(parts) for parts in panels]


class TestAgainstTheOracle:
    """The oracle is asked for the rows that are left."""

    @settings(max_examples=few(80))
    @given(
        problems(
            dtypes=("float64", "float32"), max_query=12, max_features=64,
            kernels=KERNELS, metrics=("euclidean",),
        ),
        st.sampled_from([0.0, 0.01, 0.1, 0.6]),
        st.integers(0, 2**32 - 1),
    )  # fmt: skip
    def test_any_rows_in_any_chunks(self, problem, share, seed):
        query = with_holes(problem.query, seed, share)
        train = with_holes(problem.train, seed + 1, share / 2)
        here, left = there(query), there(train)
        if problem.weights is not None:
            left &= problem.weights > 0
        if not left.any():
            with pytest.raises(dkde.InputError, match=r"no training row counts|all weights"):
                dropped(problem, query, train)
            return
        found = dropped(problem, query, train)
        values = np.concatenate([each.values for each in found], axis=1)
        assert np.isnan(values[:, ~here]).all()
        expected = without(problem, here, there(train)).expected()
        assert_within(values[:, here], expected)
        missing = np.concatenate([each.missing for each in found])
        np.testing.assert_array_equal(missing, ~here)
        counted = np.concatenate([each.effort.missing for each in found])[here]
        assert (counted == (~there(train)).sum()).all()

    @settings(max_examples=few(30))
    @given(
        problems(
            dtypes=("float64",), max_query=8, max_features=8, kernels=("univariate_gaussian",),
            metrics=("manhattan", "chebyshev"),
        ),
        st.integers(0, 2**32 - 1),
    )  # fmt: skip
    def test_other_metrics(self, problem, seed):
        query, train = with_holes(problem.query, seed), with_holes(problem.train, seed + 1, 0.05)
        here, left = there(query), there(train)
        if not left.any() or not (problem.weights is None or (problem.weights[left] > 0).any()):
            return
        found = dropped(problem, query, train)
        values = np.concatenate([each.values for each in found], axis=1)
        assert_within(values[:, here], without(problem, here, left).expected())

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("kernel", sorted(reference.COMPACT))
    def test_compact_kernels(self, sides, kernel):
        query, train = sides
        here, left = there(query), there(train)
        problem = Problem(query[here], train[left], np.array(H), kernel=kernel)
        found = dkde.log_density(query, train, H, kernel=kernel, nan="drop")
        assert_within(found[:, here], problem.expected())

    def test_float32(self, sides):
        query, train = sides
        here, left = there(query), there(train)
        problem = Problem(query[here], train[left], np.array(H))
        found = dkde.log_density(query, train, H, precision="float32", nan="drop")
        assert_within_32(found[:, here], problem.expected(), problem.exponents())


class TestMethods:
    """What is chosen for large data gives what all pairs give."""

    @staticmethod
    def both(query, train, h, **options):
        sources = catalog_of(None)
        found = []
        for nan, q, t in (("drop", query, train), ("raise", query[there(query)], train)):
            rows = t if nan == "drop" else t[there(t)]
            given = Options(nan=nan, method="auto" if nan == "drop" else "dense", **options)
            sides = [
                given.prepared(side(operand(array, role, sources), role=role))
                for array, role in ((q, "query"), (rows, "train"))
            ]
            matrix = given.bandwidth_matrix(sides[1], h, pool_for)
            work = given.work(matrix.whiten(sides[0]), matrix.whiten(sides[1]), matrix)
            found.append((lazy_densities(work)[0].compute(), work.survey().method))
        return found

    def test_expansions(self):
        query, train = with_holes(normal(3000, 2), 5), with_holes(normal(60_000, 2, seed=1), 6)
        train[:20_000] = np.nan  # as on land, where the sea has values
        (found, method), (expected, _) = self.both(query, train, [0.2])
        assert method == "expansions"
        assert_within(found[:, there(query)], expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("covariance", ["identity", "diag"])
    def test_near_pairs(self, covariance):
        spread = np.geomspace(10, 0.01, 100)
        query = with_holes(normal(600, 100) * spread, 7, 0.001)
        train = with_holes(normal(10_000, 100, seed=1) * spread, 8, 0.001)
        (found, method), (expected, _) = self.both(query, train, [0.3], covariance=covariance)
        if covariance == "identity":
            assert method.startswith("near pairs")
        assert_within(found[:, there(query)], expected)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:values of train go from")
    def test_a_split_with_an_index(self, tmp_path):
        rng = np.random.default_rng(0)
        centres = np.repeat(np.arange(40) * 50.0, 25_000)
        rows = centres[:, None] + rng.standard_normal((1_000_000, 3))
        rows[rng.integers(100_000, size=30), 1] = np.nan
        np.save(tmp_path / "a.npy", rows)
        store = tmp_path / "a.zarr"
        dkde.import_dataset(tmp_path / "a.npy", store)
        query = rows[::3301] + 0.1
        found = dkde.score(query, f"{store}::train", 0.5, nan="drop", block_rows=10)
        here, left = there(query), there(rows)
        expected = dkde.log_density(query[here], rows[left], 0.5)
        assert_within(found.log_density.values[0, here], expected)
        assert int(found.n_missing_train) == (~left).sum()
        # Chunks without missing rows are left out all the same.
        assert found.rows_read.values[here].min() < len(rows)


class TestWeights:
    """Those of rows that are left out say nothing, whatever they are."""

    @staticmethod
    def forms(train, weights):
        yield train, weights, None
        yield da.from_array(train, chunks=(17, 3)), da.from_array(weights, chunks=23), None
        names = ["a", "b", "c"]
        dataset = xr.Dataset({n: ("o", column) for n, column in zip(names, train.T, strict=True)})
        yield dataset.assign(area=("o", weights)), "area", dkde.Catalog(features=names)

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("bandwidth", ["scott", 0.7])
    @pytest.mark.parametrize("covariance", ["identity", "full"])
    @pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
    def test_may_be_none(self, sides, bandwidth, covariance, value):
        query, train = sides
        left, query = there(train), query[there(query)]
        weights = np.random.default_rng(0).uniform(size=len(train))
        options = {"bandwidth": bandwidth, "covariance": covariance}
        expected = dkde.log_density(query, train[left], weights=weights[left], **options)
        weights[~left] = value
        for rows, of_rows, catalog in self.forms(train, weights):
            found = dkde.log_density(
                query, rows, weights=of_rows, nan="drop", source=catalog, **options
            )
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        drawn = dkde.sample(train, 0.1, 50, weights=weights, nan="drop", random_state=0)
        assert np.isfinite(drawn).all()

    @pytest.mark.parametrize(("each", "other"), [(1e-155, 1e5), (1e-200, 1e200), (1e-300, 1e300)])
    @pytest.mark.parametrize("covariance", ["identity", "diag", "full"])
    def test_set_no_unit_for_others(self, sides, covariance, each, other):
        query, train = sides
        left, query = there(train), query[there(query)]
        options = {"bandwidth": "scott", "covariance": covariance}
        expected = dkde.log_density(query, train[left], **options)
        weights = np.where(left, each, other)
        found = dkde.log_density(query, train, weights=weights, nan="drop", **options)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_that_are_missing_are_refused(self, lazy):
        weights = np.ones(50)
        weights[7] = np.nan
        given = da.from_array(weights, chunks=20) if lazy else weights
        message = (
            "^train: the weight of row 7 is nan; weights must be finite and not negative: give "
            r"rows that are not to count the weight 0, or leave rows without a weight out "
            r'\(nan="drop"\)$'
        )
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(normal(5, 2), normal(50, 2, seed=1), 1.0, weights=given)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_without_one_a_row_is_left_out(self, lazy):
        query, train, weights = normal(5, 2), normal(50, 2, seed=1), np.linspace(1, 2, 50)
        weights[7] = np.nan
        given = da.from_array(weights, chunks=20) if lazy else weights
        found = dkde.score(query, train, [1.0], weights=given, nan="drop")
        expected = dkde.log_density(
            query, np.delete(train, 7, 0), 1.0, weights=np.delete(weights, 7)
        )
        np.testing.assert_allclose(found.log_density[0], expected, rtol=1e-12)
        assert (int(found.n_missing), int(found.n_missing_train)) == (0, 1)

    @pytest.mark.parametrize("nan", ["raise", "drop"])
    @pytest.mark.parametrize("wrong", [-1.0, np.inf])
    def test_that_are_none_are_refused(self, nan, wrong):
        weights = np.where(np.arange(50) == 7, wrong, 1.0)
        with pytest.raises(dkde.InputError, match=f"^train: the weight of row 7 is {wrong:g};"):
            dkde.log_density(normal(5, 2), normal(50, 2, seed=1), 1.0, weights=weights, nan=nan)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_the_variable_and_the_place_are_named(self, lazy):
        grid = xr.Dataset({"a": (("y", "x"), normal(30, 40)), "b": (("y", "x"), normal(30, 40))})
        grid["area"] = grid.a**2
        grid.area[3, 2] = -1
        if lazy:
            grid = grid.chunk(y=10)
        catalog = dkde.Catalog(features=["a", "b"])
        message = r"^train: the weight of row 122 \(y 3, x 2\), area, is -1; weights must be"
        with pytest.raises(dkde.InputError, match=message):
            dkde.score(normal(5, 2), grid, 1.0, weights="area", source=catalog)


class TestWhatIsFoundFromTheRows:
    @pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.5])
    @pytest.mark.parametrize("covariance", ["identity", "diag", "full"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_bandwidths_and_covariances(self, sides, bandwidth, covariance, weighted):
        query, train = sides
        weights = np.random.default_rng(0).uniform(size=len(train)) if weighted else None
        here, left = there(query), there(train)
        options = {"covariance": covariance}
        found = dkde.log_density(query, train, bandwidth, nan="drop", weights=weights, **options)
        kept = None if weights is None else weights[left]
        expected = dkde.log_density(query[here], train[left], bandwidth, weights=kept, **options)
        np.testing.assert_allclose(found[here], expected, rtol=1e-12)

    def test_lazily(self, sides):
        query, train = sides
        here, left = there(query), there(train)
        lazy = [da.from_array(array, chunks=(17, 2)) for array in sides]
        found = dkde.log_density(*lazy, "scott", covariance="diag", nan="drop").compute()
        expected = dkde.log_density(query[here], train[left], "scott", covariance="diag")
        np.testing.assert_allclose(found[here], expected, rtol=1e-12)
        assert np.isnan(found[~here]).all()

    def test_xarray(self, sides):
        query, train = sides
        array = xr.DataArray(query, dims=("time", "feature"), coords={"time": np.arange(60)})
        found = dkde.log_density(array, train, 0.7, nan="drop")
        np.testing.assert_array_equal(np.isnan(found), ~there(query))
        np.testing.assert_array_equal(found.time, array.time)

    def test_dropped_features_are_missed_too(self):
        """A feature that does not vary is no coordinate, and its row is missing all the same."""
        train = np.column_stack([normal(50, 2), np.ones(50)])
        train[3, 2] = np.nan
        left, query = there(train), train[:5] + 0.1
        with pytest.warns(UserWarning, match="dropped: 2"):
            found = dkde.score(query, train, 0.5, covariance="diag", singular="drop", nan="drop")
        with pytest.warns(UserWarning, match="dropped: 2"):
            expected = dkde.log_density(
                query[left[:5]], train[left], 0.5, covariance="diag", singular="drop"
            )
        np.testing.assert_allclose(found.log_density.values[0, left[:5]], expected)
        assert (int(found.n_missing), int(found.n_missing_train)) == (1, 1)

    def test_the_default_grid(self, sides):
        train, valid = sides[1][:150], sides[1][150:]
        found = dkde.sweep(train=train, valid=valid, nan="drop")
        expected = dkde.sweep(train=train[there(train)], valid=valid[there(valid)])
        np.testing.assert_allclose(found.bandwidth, expected.bandwidth)
        assert float(found.best_bandwidth) == float(expected.best_bandwidth)


FIGURES = ("mean_log_likelihood", "standard_error", "bits_per_dimension")


class TestResults:
    def test_score(self, sides):
        query, train = sides
        here, left = there(query), there(train)
        found = dkde.score(query, train, H, nan="drop")
        expected = dkde.score(query[here], train[left], H)
        for name in FIGURES:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
        assert int(found.n_missing) == (~here).sum() > 0
        assert int(found.n_missing_train) == (~left).sum() > 0
        assert (found.pairs_evaluated.values[~here] == 0).all()
        provenance = json.loads(found.attrs["provenance"])
        assert provenance["options"]["nan"] == "drop"
        assert "n_missing" not in expected

    def test_a_sweep_with_a_test_set(self, sides):
        query, train = sides
        test = with_holes(normal(30, 3, seed=9), 9)
        found = dkde.sweep(train=train, valid=query, test=test, bandwidths=H, nan="drop")
        left = [array[there(array)] for array in (train, query, test)]
        expected = dkde.sweep(train=left[0], valid=left[1], test=left[2], bandwidths=H)
        for name in (*FIGURES, *(f"test_{name}" for name in FIGURES)):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
        assert int(found.test_n_missing) == (~there(test)).sum()

    @pytest.mark.parametrize("folds", [4, "loo"])
    @pytest.mark.parametrize("pca", [None, 2])
    def test_cross_validation(self, sides, folds, pca):
        train = sides[1]
        left = there(train)
        found = dkde.cross_validate(train, H, folds=folds, nan="drop", refine=True, pca=pca)
        given = np.flatnonzero(left) if folds == "loo" else folds
        expected = dkde.cross_validate(train[left], H, folds=given, refine=True, pca=pca)
        for name in (*FIGURES, "best_bandwidth"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-8)
        totals = found.fold_log_likelihood.sel(fold=expected.fold)
        np.testing.assert_allclose(totals, expected.fold_log_likelihood, rtol=1e-8)
        assert int(found.n_missing) == int(found.n_missing_train) == (~left).sum()

    def test_folds_without_a_row_have_no_total(self, sides):
        train = sides[1][:80].copy()
        train[:20] = np.nan
        left, folds = there(train), np.arange(80) // 20
        found = dkde.cross_validate(train, H, folds=folds, nan="drop")
        expected = dkde.cross_validate(train[left], H, folds=folds[left])
        assert np.isnan(found.fold_log_likelihood[0]).all()
        for name in ("mean_fold_log_likelihood", "mean_log_likelihood", "best_bandwidth"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
        model = dkde.KernelDensityCV(bandwidths=H, cv=folds, nan="drop").fit(train)
        scores = model.cv_results_
        np.testing.assert_allclose(scores["mean_test_score"], expected.mean_fold_log_likelihood)
        np.testing.assert_allclose(
            scores["std_test_score"], expected.fold_log_likelihood.std("fold")
        )
        assert model.best_score_ == pytest.approx(float(expected.mean_fold_log_likelihood.max()))

    def test_no_pair_is_not_missing(self):
        """A query whose group holds all training rows has no density, and misses nothing."""
        rows = np.array([[0.0], [1.0], [np.nan]])
        found, errors = dkde.log_density(
            rows, rows[:2], 1.0, groups=[7, 8, 7], train_groups=[7, 7], nan="drop",
            return_error=True,
        )  # fmt: skip
        np.testing.assert_array_equal(np.isnan(found), [True, False, True])
        np.testing.assert_array_equal(np.isnan(errors), [True, False, True])
        with pytest.raises(dkde.InputError, match="row 0: no row outside of its fold"):
            dkde.cross_validate([[0.0], [np.nan], [1.0]], H, folds=[0, 1, 0], nan="drop")

    def test_runs_go_on_and_are_verified(self, sides, tmp_path):
        query, train = tmp_path / "q.npy", tmp_path / "t.npy"
        np.save(query, sides[0])
        np.save(train, sides[1])
        output, calls = tmp_path / "r.zarr", []

        class Stopped(BaseException):
            pass

        def progress(done, total):
            calls.append(done)
            if len(calls) == 3:
                raise Stopped

        options = {"nan": "drop", "block_rows": 16, "panel_rows": 50, "output": output}
        with pytest.raises(Stopped):
            dkde.score(str(query), str(train), H, progress=progress, **options)
        with pytest.raises(dkde.DataSetError, match=r"was begun otherwise.*drop"):
            dkde.score(str(query), str(train), H, **{**options, "nan": "raise"})
        found = dkde.score(str(query), str(train), H, **options)
        expected = dkde.score(*sides, H, nan="drop", block_rows=16, panel_rows=50)
        np.testing.assert_array_equal(found.log_density, expected.log_density)
        assert int(found.n_missing_train) == int(expected.n_missing_train)
        assert dkde.verify(output)["blocks"] == 4
        reopened = xr.open_zarr(output)
        assert int(reopened.n_missing) == (~there(sides[0])).sum()

    def test_a_plan(self, sides):
        cost = dkde.plan(query=sides[0], train=sides[1], baseline=False, nan="drop")
        assert cost["pairs"] == 60 * 200

    @pytest.mark.parametrize("weights", [None, np.arange(200.0)])
    def test_samples_come_from_the_rest(self, sides, weights):
        train = sides[1]
        samples, sources = dkde.sample(
            train, 0.1, 500, random_state=0, nan="drop", weights=weights, return_sources=True
        )
        assert np.isfinite(samples).all()
        left = train[there(train)]
        assert {tuple(row) for row in sources} <= {tuple(row) for row in left}
        assert len(np.unique(sources, axis=0)) > 0.5 * len(left)

    def test_samples_of_a_label_and_of_components(self, sides):
        samples = dkde.sample(sides[1], "scott", 20, random_state=0, nan="drop", pca=2)
        assert np.isfinite(samples).all()


class TestEstimators:
    def test_kernel_density(self, sides):
        query, train = sides
        here, left = there(query), there(train)
        kde = dkde.KernelDensity(bandwidth="scott", covariance="diag", nan="drop").fit(train)
        other = dkde.KernelDensity(bandwidth="scott", covariance="diag").fit(train[left])
        assert kde.bandwidth_ == pytest.approx(other.bandwidth_)
        np.testing.assert_allclose(kde.score_samples(query)[here], other.score_samples(query[here]))
        assert np.isnan(kde.score_samples(query)[~here]).all()
        assert kde.score(query) == pytest.approx(other.score(query[here]))
        assert np.isfinite(kde.sample(30, random_state=0)).all()

    def test_kernel_density_cv(self, sides):
        train = sides[1]
        left = there(train)
        folds = np.arange(len(train)) % 5
        kde = dkde.KernelDensityCV(bandwidths=H, cv=folds, nan="drop").fit(train)
        other = dkde.KernelDensityCV(bandwidths=H, cv=folds[left]).fit(train[left])
        assert kde.bandwidth_ == other.bandwidth_
        assert kde.best_score_ == pytest.approx(other.best_score_)

    def test_scikit_learn_is_told(self, sides):
        assert dkde.KernelDensity(nan="drop").__sklearn_tags__().input_tags.allow_nan
        assert not dkde.KernelDensity().__sklearn_tags__().input_tags.allow_nan
        with pytest.raises(ValueError, match="NaN"):
            dkde.KernelDensity().fit(sides[1])
        broken = np.where(np.isnan(sides[1]), np.inf, sides[1])
        with pytest.raises(ValueError, match="infinity"):
            dkde.KernelDensity(nan="drop").fit(broken)


class TestRefusals:
    def test_the_first_is_named_and_the_remedy(self, sides):
        query, train = sides
        row = int((~there(train)).argmax())
        column = int(np.isnan(train[row]).argmax())
        message = (
            rf"^train: row {row}, column {column} is nan; densities need finite values: leave such "
            r"rows out \(nan=\"drop\"\) or fill them$"
        )
        with pytest.raises(dkde.InputError, match=message):
            dkde.score(query[there(query)], train, 1.0)

    @pytest.mark.parametrize("covariance", ["identity", "diag"])
    def test_the_variable_and_the_place_are_named(self, covariance):
        grid = xr.Dataset({n: (("cast", "level"), normal(30, 40)) for n in ("temp", "salt")})
        grid.salt[7, 11] = np.nan
        message = r"^train: row 291 \(cast 7, level 11\), salt is nan; densities need"
        for train in (grid, grid.chunk(cast=9)):
            with pytest.raises(dkde.InputError, match=message):
                dkde.score(normal(9, 2), train, 1.0, covariance=covariance)

    @pytest.mark.parametrize("covariance", ["identity", "diag", "full"])
    @pytest.mark.parametrize("side", ["query", "train"])
    def test_infinite_values_are_refused_always(self, sides, side, covariance):
        query, train = (array.copy() for array in sides)
        rows = query if side == "query" else train
        rows[17] = [np.nan, 1.0, -np.inf]
        with pytest.raises(dkde.InputError, match=f"^{side}: row 17, column 2 is -inf"):
            dkde.score(query, train, 1.0, nan="drop", covariance=covariance)

    def test_numbers_that_overflow_are_not_missing(self):
        train = normal(20, 2)
        train[4] = [1e300, np.nan]
        query = normal(5, 2, seed=1)
        query[2] = [1e200, 1.0]
        with pytest.raises(dkde.InputError, match="query: row 2 has values so large"):
            dkde.log_density(da.from_array(query), train, 1.0, nan="drop").compute()
        train[4] = np.nan
        found = dkde.log_density(query[3:], train, 1.0, nan="drop", covariance="diag")
        assert np.isfinite(found).all()

    @pytest.mark.parametrize("lazy", [False, True])
    def test_nothing_is_left(self, sides, lazy):
        nothing = np.full((30, 3), np.nan)
        query = sides[0]
        if lazy:
            query, nothing = (da.from_array(array, chunks=(9, 3)) for array in (query, nothing))
        with pytest.raises(dkde.InputError, match="no training row counts: all have missing"):
            dask.compute(dkde.log_density(query, nothing, 1.0, nan="drop"))
        with pytest.raises(dkde.InputError, match="no training row counts: all have missing"):
            dkde.log_density(query, nothing, "scott", nan="drop")

    def test_no_query_is_left(self, sides):
        nothing = np.full((5, 3), np.nan)
        assert np.isnan(dkde.log_density(nothing, sides[1], 1.0, nan="drop")).all()
        with pytest.raises(dkde.InputError, match="no row is left to score"):
            dkde.score(nothing, sides[1], 1.0, nan="drop")

    def test_weights_of_missing_rows_only(self, sides):
        train = sides[1]
        weights = (~there(train)).astype(float)
        for options in ({}, {"covariance": "diag"}):
            with pytest.raises(dkde.InputError, match="no training row counts"):
                dkde.log_density(sides[0], train, 1.0, weights=weights, nan="drop", **options)
        with pytest.raises(dkde.InputError, match=r"no training row counts|all weights are zero"):
            dkde.sample(train, 1.0, weights=weights, nan="drop")

    @pytest.mark.parametrize("nan", ["skip", None, 3])
    def test_what_is_no_choice(self, sides, nan):
        with pytest.raises(dkde.InputError, match=r"^nan is .*; choose one of: raise, drop$"):
            dkde.log_density(*sides, 1.0, nan=nan)
