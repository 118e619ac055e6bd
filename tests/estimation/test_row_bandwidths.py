"""Bandwidths of training rows' own: given, or from a pilot density."""

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import reference
import xarray as xr

import dkde
from dkde.engine import eager_run
from dkde.errors import InputError

Array = npt.NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore:.*(one scale|share rows|may be radians)")
RNG = np.random.default_rng(0)
ROWS, QUERY = RNG.normal(size=(150, 2)), RNG.normal(size=(12, 2))
SCALES, WEIGHTS = np.exp(RNG.normal(size=150)), RNG.uniform(size=150) + 0.01
TABLE = pd.DataFrame({"x": ROWS[:, 0], "y": ROWS[:, 1], "s": SCALES, "w": WEIGHTS})
KERNELS = ["gaussian", "exponential", "tophat", "epanechnikov", "triweight", "linear", "cosine"]
H = [0.2, 1.0]


def check(found: Any, right: Array, tol: float = 1e-9, slack: Any = 0.0) -> None:
    """Check log-densities, and the bounds on their errors, within a slack."""
    values, errors = map(np.asarray, found)
    assert np.array_equal(np.isnan(values), np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where((values == right) | np.isnan(right), 0.0, np.abs(values - right))
        size = np.where(np.isfinite(right), np.abs(right), 0.0)
    assert (apart <= tol * np.maximum(1, size)).all()
    assert (apart <= np.nan_to_num(errors) + 1e-15 * (1 + size) + slack).all()


def factors(rows: Array, h: float, alpha: float, weights: Array | None = None, **how: Any) -> Array:
    """Factors as their formula is written."""
    logs = reference.log_density(rows, rows, [h], weights, **how)[0]
    return np.exp(-alpha * (logs - np.average(logs, weights=weights)))


@pytest.mark.sampled(20)
@pytest.mark.parametrize("seed", range(40))
def test_scales_are_as_the_formula_is_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, n = int(rng.choice([1, 2, 3, 6, 20])), int(rng.choice([1, 40, 300]))
    offset, unit = float(rng.choice([0.0, 1e4])), float(rng.choice([1.0, 1e-6, 1e6]))
    train, query = (offset + unit * rng.normal(size=(k, d)) for k in (n, 7))
    scales = np.exp(float(rng.choice([0.1, 1.0, 4.0])) * rng.normal(size=n))
    h = unit * np.array([0.1, 2.0])
    options: dict[str, Any] = {"kernel": str(rng.choice([*KERNELS, "univariate_gaussian"]))}
    if options["kernel"] == "univariate_gaussian":
        options["metric"] = str(rng.choice(["euclidean", "manhattan", "chebyshev"]))
    weights, groups = None, {}
    if seed % 2:
        weights = np.exp(rng.uniform(-400, 100, n)) * (rng.uniform(size=n) > 0.1)
        weights[0] = 1.0
    if seed % 3:
        of_train = rng.integers(0, int(rng.choice([3, n + 1])), n)
        groups = {"groups": np.arange(7), "train_groups": of_train}
    cut = {"panel_rows": 90, "block_rows": 3} if seed % 4 == 0 else {}
    found = dkde.log_density(
        query, train, h, weights=weights, bandwidth_scale=scales, return_error=True,
        **options, **groups, **cut,
    )  # fmt: skip
    right = reference.log_density(
        query, train, h, weights, groups.get("groups"), groups.get("train_groups"),
        scales=scales, **options,
    )  # fmt: skip
    check(found, right)


def test_scales_of_very_many_features_may_be_small() -> None:
    rng = np.random.default_rng(0)
    train, scales = rng.normal(size=(60, 96)), np.exp(rng.uniform(-12, 0, 60))
    found = dkde.log_density(
        train[:5] + 1e-3, train, [0.1, 3.0], bandwidth_scale=scales, return_error=True
    )
    check(found, reference.log_density(train[:5] + 1e-3, train, [0.1, 3.0], scales=scales))


def test_distances_over_scales_beyond_all_numbers_are_refused() -> None:
    with pytest.raises(InputError, match=r"below -1\.8e308"):
        dkde.log_density([[1e120]], [[0.0], [1.0]], 1e-10, bandwidth_scale=[1e-100, 1e-100])


@pytest.mark.parametrize(
    ("theirs", "kernel"),
    [("epa", "epanechnikov"), ("exponential", "exponential"), ("tri", "linear")],
)
def test_densities_are_those_of_kdepy(theirs: str, kernel: str) -> None:
    naive = pytest.importorskip(
        "KDEpy", reason="KDEpy is not installed; it is a peer and not needed"
    ).NaiveKDE
    # Its bandwidths are standard deviations.
    for name, mine, rows, query in (
        (theirs, kernel, ROWS[:, :1], QUERY[:, :1]), ("gaussian", "gaussian", ROWS, QUERY)
    ):  # fmt: skip
        fitted = naive(kernel=name, bw=0.5 * SCALES).fit(rows, weights=WEIGHTS)
        h = 0.5 if name == "gaussian" else 0.5 / np.sqrt(fitted.kernel.var)
        options: dict[str, Any] = {"bandwidth_scale": SCALES, "weights": WEIGHTS, "kernel": mine}
        found = np.exp(dkde.log_density(query, rows, h, **options))
        np.testing.assert_allclose(found, fitted.evaluate(query), rtol=1e-10, atol=1e-13)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("support", [[(0, 1), None], [dkde.Periodic(1.0), None]])
@pytest.mark.parametrize("kernel", ["gaussian", "triweight"])
def test_images_are_those_that_the_widest_rows_need(support: Any, kernel: str) -> None:
    rng = np.random.default_rng(4)
    train, query = rng.uniform(size=(30, 2)), rng.uniform(size=(5, 2))
    scales = np.exp(rng.normal(size=30))
    periodic = isinstance(support[0], dkde.Periodic)
    images = [(1, k) for k in range(-40, 41)]
    if not periodic:
        images = [(sign, 2 * k) for k in range(-20, 21) for sign in (1, -1)]
    moved = [np.column_stack([s * train[:, 0] + t, train[:, 1]]) for s, t in images]

    def sums(stretch: float) -> Array:
        return reference.log_density(
            query, np.concatenate(moved), [0.05 * stretch, 0.3 * stretch],
            scales=np.tile(scales, len(images)), kernel=kernel,
        ) + np.log(len(images))  # fmt: skip

    right = sums(1.0)
    # Of kernels of compact support, bounds are those at a bandwidth within rounding.
    slack = np.abs(sums(1 + 1e-6) - right) * 4e-9 if kernel == "triweight" else 0.0
    found = dkde.log_density(
        query, train, [0.05, 0.3], support=support, kernel=kernel, bandwidth_scale=scales,
        return_error=True,
    )  # fmt: skip
    check(found, right, slack=slack)


@pytest.mark.parametrize("atol", [1e-6, 1e-2])
def test_an_absolute_tolerance_holds_for_rows_of_small_scales(atol: float) -> None:
    query = np.concatenate([QUERY, QUERY + 8])
    right = reference.log_density(query, ROWS, H, scales=SCALES)
    values, errors = dkde.log_density(
        query, ROWS, H, bandwidth_scale=SCALES, atol=atol, return_error=True
    )
    assert (np.abs(np.exp(values) - np.exp(right)) <= atol + 1e-9 * np.exp(right)).all()
    assert (np.abs(values - right) <= errors + 1e-14).all()


class TestWays:
    RIGHT = reference.log_density(QUERY, ROWS, H, WEIGHTS, scales=SCALES)

    def test_names_are_of_variables_beside_the_features(self, tmp_path: Path) -> None:
        TABLE.to_parquet(tmp_path / "rows.parquet")
        TABLE.to_csv(tmp_path / "rows.csv", index=False)
        grid = xr.Dataset({name: ("time", TABLE[name].to_numpy()) for name in TABLE})
        for train in (TABLE, grid, str(tmp_path / "rows.parquet"), str(tmp_path / "rows.csv")):
            found = dkde.log_density(QUERY, train, H, weights="w", bandwidth_scale="s")
            np.testing.assert_allclose(found, self.RIGHT, rtol=1e-12, atol=1e-12)

    def test_lazy_rows_have_lazy_scales(self) -> None:
        query, train, scales, weights = (
            da.from_array(each, chunks=(40, *each.shape[1:]))
            for each in (QUERY, ROWS, SCALES, WEIGHTS)
        )
        found = dkde.log_density(query, train, H, weights=weights, bandwidth_scale=scales)
        np.testing.assert_allclose(found.compute(), self.RIGHT, rtol=1e-12, atol=1e-12)

    def test_conditions_and_missing_scales_leave_rows_out(self) -> None:
        kept = TABLE.x.to_numpy() > 0
        right = reference.log_density(QUERY, ROWS[kept], H, scales=SCALES[kept])
        found = dkde.log_density(
            QUERY, TABLE, H, features=["x", "y"], where={"train": "x > 0"}, bandwidth_scale=SCALES
        )
        np.testing.assert_allclose(found, right, rtol=1e-12)
        missing = TABLE.assign(s=np.where(kept, TABLE.s, np.nan)).drop(columns="w")
        found = dkde.log_density(QUERY, missing, H, bandwidth_scale="s", nan="drop")
        np.testing.assert_allclose(found, right, rtol=1e-12)
        with pytest.raises(InputError, match=r"bandwidth scale of row \d+ is missing"):
            dkde.log_density(
                QUERY, missing, H, bandwidth_scale="s", outside="drop", support={"x": (-9, 9)}
            )

    def test_folds_leave_rows_out(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = dkde.cross_validate(ROWS, H, folds="loo", bandwidth_scale=SCALES)
        own = np.arange(150)
        right = reference.log_density(ROWS, ROWS, H, None, own, own, scales=SCALES)
        np.testing.assert_allclose(found.log_density, right, rtol=1e-12, atol=1e-12)

    @pytest.mark.slow
    def test_results_are_computed_again(self, tmp_path: Path) -> None:
        place, store = str(tmp_path / "rows.parquet"), tmp_path / "r.zarr"
        TABLE.to_parquet(place)
        call = {"bandwidth_scale": "s", "features": ["x", "y"], "output": store}
        kept = dkde.score(place, place, H, **call)
        checked = dkde.verify(store)
        assert checked["blocks"] == 1
        assert checked["exact"]
        right = reference.log_density(ROWS, ROWS, H, scales=SCALES)
        np.testing.assert_allclose(kept.log_density, right, rtol=1e-12)
        assert "bandwidth_scale" not in kept
        with pytest.raises(dkde.DkdeError, match="content train scales was"):
            dkde.score(place, place, H, **call | {"bandwidth_scale": "w"})

    def test_estimators_are_fitted_with_them(self) -> None:
        density = dkde.KernelDensity(bandwidth=1.0, features=["x", "y"], where="x > 0")
        density.fit(TABLE, sample_weight=WEIGHTS, bandwidth_scale="s")
        kept = TABLE.x.to_numpy() > 0
        right = reference.log_density(QUERY, ROWS[kept], [1.0], WEIGHTS[kept], scales=SCALES[kept])[
            0
        ]
        frame = pd.DataFrame(QUERY, columns=["x", "y"])
        np.testing.assert_allclose(density.score_samples(frame), right, rtol=1e-12)

    def test_samples_have_the_noise_of_their_rows(self) -> None:
        rows = np.repeat([[0.0], [1000.0]], 10, axis=0)
        scales = np.repeat([0.1, 5.0], 10)
        drawn, sources = dkde.sample(
            rows, 2.0, 20_000, bandwidth_scale=scales, random_state=0, return_sources=True
        )
        noise = (drawn - sources)[:, 0]
        assert noise[sources[:, 0] == 0].std() == pytest.approx(0.2, rel=0.03)
        assert noise[sources[:, 0] > 0].std() == pytest.approx(10.0, rel=0.03)

    def test_a_plan_says_that_they_are_pairs(self) -> None:
        cost = dkde.plan(query=QUERY, train=ROWS, bandwidths=[1.0], bandwidth_scale=SCALES)
        assert cost["method"].startswith("pairs of near leaves")


class TestAdaptive:
    @pytest.mark.sampled(6)
    @pytest.mark.parametrize("kernel", ["gaussian", "exponential", "biweight"])
    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_factors_follow_from_a_pilot(self, kernel: str, alpha: float) -> None:
        right = np.concatenate([
            reference.log_density(
                QUERY, ROWS, [h], WEIGHTS, kernel=kernel,
                scales=factors(ROWS, h, alpha, WEIGHTS, kernel=kernel),
            )
            for h in H
        ])  # fmt: skip
        options: dict[str, Any] = {"kernel": kernel, "adaptive": alpha, "weights": WEIGHTS}
        check(dkde.log_density(QUERY, ROWS, H, return_error=True, **options), right)
        result = dkde.score(QUERY, ROWS, H, **options)
        check((result.log_density, result.log_density_error), right)
        lazy = dkde.log_density(da.from_array(QUERY), ROWS, H, return_error=True, **options)
        check([each.compute() for each in lazy], right)
        known = [factors(ROWS, h, alpha, WEIGHTS, kernel=kernel) for h in H]
        np.testing.assert_allclose(result.bandwidth_scale, known, rtol=1e-9)
        means = np.average(np.log(result.bandwidth_scale), weights=WEIGHTS, axis=1)
        np.testing.assert_allclose(means, 0, atol=1e-12)

    @pytest.mark.parametrize("tol", [1e-3, 1e-6])
    def test_bounds_hold_where_the_pilot_is_not_exact(self, tol: float) -> None:
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(2000, 2))
        exact = dkde.log_density(rows[:50] + 1, rows, 0.3, adaptive=1.0, tol=1e-12)
        found = dkde.log_density(rows[:50] + 1, rows, 0.3, adaptive=1.0, tol=tol, return_error=True)
        check(found, exact, tol)

    def test_rows_that_do_not_count_have_no_factor(self) -> None:
        weights = np.where(np.arange(150) < 50, 0.0, WEIGHTS)
        result = dkde.score(QUERY, ROWS, 1.0, adaptive=0.5, weights=weights)
        assert np.isnan(result.bandwidth_scale[:50]).all()
        right = factors(ROWS[50:], 1.0, 0.5, weights[50:])
        np.testing.assert_allclose(result.bandwidth_scale[50:], right, rtol=1e-9)

    def test_estimators_compute_the_pilot_as_they_are_fitted(self) -> None:
        density = dkde.KernelDensity(bandwidth=0.5, adaptive=0.5).fit(ROWS)
        known = factors(ROWS, 0.5, 0.5)
        np.testing.assert_allclose(density.bandwidth_scale_, known, rtol=1e-9)
        right = reference.log_density(QUERY, ROWS, [0.5], scales=known)[0]
        np.testing.assert_allclose(density.score_samples(QUERY), right, rtol=1e-9)
        drawn = density.sample(5, random_state=3)
        np.testing.assert_allclose(drawn, dkde.sample(ROWS, 0.5, 5, adaptive=0.5, random_state=3))
        density.set_params(adaptive=None).fit(ROWS)
        assert not hasattr(density, "bandwidth_scale_")

    def test_thresholds_are_of_rows_that_count_in_the_pilot(self) -> None:
        density = dkde.KernelDensity(bandwidth=0.5, adaptive=0.5).fit(ROWS)
        logs = density.score_samples(ROWS)
        assert density.threshold(0.1, leave_one_out=False) == np.sort(logs)[15]
        with pytest.raises(InputError, match="not done with adaptive"):
            density.threshold(0.1)

    def test_a_sweep_scores_the_test_rows_with_the_factors_of_the_best(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = dkde.sweep(
                train=ROWS, valid=QUERY, test=QUERY + 0.1, bandwidths=[0.2, 1.0], adaptive=0.5
            )
        best = float(result.best_bandwidth)
        right = reference.log_density(QUERY + 0.1, ROWS, [best], scales=factors(ROWS, best, 0.5))[0]
        np.testing.assert_allclose(result.test_log_density, right, rtol=1e-9)

    def test_maps_have_them_too(self) -> None:
        found = dkde.density_map(
            ROWS[:, :1], 0.3, adaptive=0.5, cells=400, margin=20, levels=[50], levels_from="sample"
        )
        assert float(found.mass) == pytest.approx(1, abs=1e-6)
        at = found.x.values[200:203, None]
        right = reference.log_density(
            at, ROWS[:, :1], [0.3], scales=factors(ROWS[:, :1], 0.3, 0.5)
        )[0]
        np.testing.assert_allclose(found.log_density[0, 200:203], right, rtol=1e-9)

    def test_a_run_goes_on_after_its_pilot(self, tmp_path: Path, monkeypatch: Any) -> None:
        np.save(tmp_path / "rows.npy", ROWS)
        place, store = str(tmp_path / "rows.npy"), tmp_path / "r.zarr"
        expected = dkde.score(QUERY, ROWS, H, adaptive=0.5)
        names: list[str] = []
        compute = eager_run.compute

        def failing(*given: Any, name: str = "", **options: Any) -> Any:
            if name == "score-2" and "stopped" not in names:
                names.append("stopped")
                raise KeyboardInterrupt
            done = options["skip"]
            names.append(f"{name}: {len(done)}")
            return compute(*given, name=name, **options)

        monkeypatch.setattr(eager_run, "compute", failing)
        np.save(tmp_path / "query.npy", QUERY)
        call = (str(tmp_path / "query.npy"), place, H)
        with pytest.raises(KeyboardInterrupt):
            dkde.score(*call, adaptive=0.5, output=store)
        assert not dkde.status(store)["complete"]
        found = dkde.score(*call, adaptive=0.5, output=store)
        xr.testing.assert_equal(found.log_density, expected.log_density)
        assert names == [
            "pilot: 0", "score: 0", "stopped", "pilot: 1", "score: 1", "score-2: 0"
        ]  # fmt: skip
        monkeypatch.setattr(eager_run, "compute", compute)
        assert dkde.verify(store, blocks=0)["unverified"] == ("bandwidth_scale",)
        assert dkde.verify(store, blocks="all")["unverified"] == ()


class TestRefusals:
    @pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
    def test_scales_that_are_no_positive_numbers(self, wrong: float) -> None:
        scales = np.where(np.arange(150) == 7, wrong, SCALES)
        with pytest.raises(InputError, match="the bandwidth scale of row 7 is"):
            dkde.log_density(QUERY, ROWS, 1.0, bandwidth_scale=scales)
        lazy = dkde.log_density(
            da.from_array(QUERY), ROWS, 1.0, bandwidth_scale=da.from_array(scales)
        )
        with pytest.raises(InputError, match="the bandwidth scale of row 7 is"):
            lazy.compute()

    @pytest.mark.parametrize("alpha", [0, -0.5, 1.5, np.nan, "x", True])
    def test_powers_that_are_none(self, alpha: Any) -> None:
        with pytest.raises(InputError, match="above 0, and at most 1"):
            dkde.log_density(QUERY, ROWS, 1.0, adaptive=alpha)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"bandwidth_scale": np.ones(3)}, "one for each of 150"),
            ({"bandwidth_scale": np.ones(150), "adaptive": 0.5}, "leave out one of them"),
            ({"bandwidth_scale": np.ones(150), "kernel": "vonmises_fisher"}, "changes its shape"),
            ({"adaptive": 0.5, "kernel": "vonmises_fisher"}, "changes its shape"),
        ],
    )
    def test_what_does_not_go_together(self, options: Any, words: str) -> None:
        with pytest.raises(InputError, match=words):
            dkde.log_density(QUERY, ROWS, 1.0, **options)

    def test_many_features_and_least_squares(self) -> None:
        wide = np.ones((5, 97))
        for options in ({"bandwidth_scale": np.ones(5)}, {"adaptive": 0.5}):
            with pytest.raises(InputError, match="up to 96"):
                dkde.log_density(wide, wide, 1.0, **options)
        with pytest.raises(InputError, match="one bandwidth for all rows"):
            dkde.cross_validate(ROWS, H, bandwidth_scale=SCALES, criterion="least_squares")
