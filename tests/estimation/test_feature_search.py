"""A bandwidth for each feature, found along one after the other."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr

import dkde

GRID = np.geomspace(0.02, 2, 9)


def rows(n=150, seed=0):
    """Return two narrow peaks along a, and a broad one along b."""
    rng = np.random.default_rng(seed)
    peaks = np.repeat([-2.0, 2.0], [n // 2, n - n // 2]) + rng.normal(0, 0.2, n)
    return pd.DataFrame({"a": peaks, "b": rng.normal(0, 3, n)})


def mean_at(data, bandwidths, folds="loo", **options):
    """Return the mean log-likelihood of rows left out, at bandwidths by name."""
    found = dkde.cross_validate(
        data, [1.0], folds=folds, covariance=dict(zip(data, bandwidths, strict=True)),
        **options,
    )  # fmt: skip
    return float(found.mean_log_likelihood[0])


@pytest.fixture(scope="module")
def found():
    return dkde.cross_validate(rows(), GRID, folds="loo", per_feature=True)


@pytest.mark.slow
def test_it_is_the_best_of_a_grid_in_the_plane(found):
    scales = rows().std().to_numpy()
    choices = [scales * h for h in product(GRID, GRID)]
    means = [mean_at(rows(), h) for h in choices]
    np.testing.assert_allclose(found.feature_bandwidth, choices[int(np.argmax(means))])
    assert float(found.feature_mean_log_likelihood) == pytest.approx(max(means), rel=1e-9)
    assert found.feature.values.tolist() == ["a", "b"]
    # Narrow peaks, and a broad one: no common factor gives both their bandwidths.
    a, b = found.feature_bandwidth.values / scales
    assert b > 4 * a
    assert float(found.feature_mean_log_likelihood) > float(found.mean_log_likelihood.max()) + 0.1
    assert found.sizes["evaluation"] < len(choices) / 2


@pytest.mark.slow
def test_what_was_tried_is_recorded(found):
    data = rows().to_numpy()
    numbers = np.arange(len(data))
    assert len(np.unique(found.tried_bandwidth.values.round(12), axis=0)) == len(
        found.tried_bandwidth
    )
    for i in (0, 9, found.sizes["evaluation"] - 1):
        h = found.tried_bandwidth.values[i]
        expected = reference.log_density(data / h, data / h, [1.0], None, numbers, numbers)
        mean = float(found.tried_mean_log_likelihood[i])
        assert mean == pytest.approx(expected.mean() - np.log(h).sum(), rel=1e-9)
    assert float(found.tried_mean_log_likelihood.max()) == float(found.feature_mean_log_likelihood)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("options", [{}, {"kernel": "epanechnikov"}, {"support": {"b": (-20, 20)}}])
def test_a_refined_one_is_an_optimum_along_each_feature(options):
    data = rows(100)
    found = dkde.cross_validate(
        data, np.geomspace(0.1, 3, 5), per_feature=True, refine=True, shuffle=True,
        random_state=0, **options,
    )  # fmt: skip
    best = found.feature_bandwidth.values
    folds = found.held_out_in.values
    here = mean_at(data, best, folds, **options)
    assert float(found.feature_mean_log_likelihood) == pytest.approx(here, rel=1e-9)
    for i, factor in product(range(2), (1 / 1.03, 1.03)):
        beside = best.copy()
        beside[i] *= factor
        assert mean_at(data, beside, folds, **options) < here


@pytest.mark.slow
def test_least_squares():
    data = rows(80)
    found = dkde.cross_validate(
        data, GRID, folds="loo", per_feature=True, criterion="least_squares"
    )
    scales = data.std().to_numpy()
    scores = {}
    for h in product(GRID, GRID):
        one = dkde.cross_validate(
            data, [1.0], folds="loo", criterion="least_squares",
            covariance=dict(zip("ab", scales * h, strict=True)),
        )  # fmt: skip
        scores[h] = float(one.least_squares[0])
    np.testing.assert_allclose(found.feature_bandwidth, scales * min(scores, key=scores.get))


@pytest.mark.slow
def test_of_a_product_of_kernels():
    rng = np.random.default_rng(1)
    n = 150
    data = pd.DataFrame(
        {
            "lat": rng.normal(10, 8, n),
            "lon": 179 + rng.normal(0, 8, n),
            "depth": np.concatenate([rng.normal(20, 1, 75), rng.normal(60, 1, 75)]),
        }
    )
    kernel = {("lat", "lon"): "vonmises_fisher", "depth": "gaussian"}
    scales = {("lat", "lon"): "900km", "depth": 20.0}
    found = dkde.cross_validate(
        data, GRID, folds="loo", per_feature=True, kernel=kernel, covariance=scales
    )
    assert found.feature.values.tolist() == ["lat,lon", "depth"]
    km, depth = found.feature_bandwidth.values
    assert found.feature_bandwidth.attrs["comment"] == "lat,lon in km"
    best = -np.inf
    for a, b in product(GRID, GRID):
        one = dkde.cross_validate(
            data, [1.0], folds="loo", kernel=kernel,
            covariance={"lat,lon": f"{900 * a}km", "depth": 20 * b},
        )  # fmt: skip
        if (mean := float(one.mean_log_likelihood[0])) > best:
            best, expected = mean, (900 * a, 20 * b)
    np.testing.assert_allclose((km, depth), expected)
    assert km / 900 > 2 * depth / 20


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_is_verified(tmp_path, found):
    rows().to_parquet(tmp_path / "rows.parquet")
    output = tmp_path / "cv.zarr"
    call = {"folds": "loo", "per_feature": True, "output": output, "block_rows": 40}
    done = []

    def stop(now, of):
        done.append(now)
        if len(done) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dkde.cross_validate(str(tmp_path / "rows.parquet"), GRID, progress=stop, **call)
    again = dkde.finish(output)
    np.testing.assert_array_equal(again.tried_bandwidth, found.tried_bandwidth)
    np.testing.assert_array_equal(again.feature_bandwidth, found.feature_bandwidth)
    assert dkde.verify(output)["exact"]
    assert again.feature_bandwidth.attrs["in_words"] in dkde.summary(output)._repr_html_()


def test_the_estimator(found):
    data = rows()
    model = dkde.KernelDensityCV(bandwidths=GRID, cv="loo", per_feature=True).fit(data)
    best = dict(zip("ab", found.feature_bandwidth.values.tolist(), strict=True))
    assert model.feature_bandwidths_ == best
    assert model.bandwidth_ == 1
    np.testing.assert_allclose(np.sqrt(np.diag(model.covariance_)), list(best.values()))
    assert model.best_score_ == pytest.approx(float(found.feature_mean_log_likelihood))
    plain = dkde.KernelDensity(bandwidth=best).fit(data)
    np.testing.assert_allclose(model.score_samples(data), plain.score_samples(data))
    assert "bandwidth" in dkde.summary(model)._repr_html_()
    assert model.tried_["bandwidths"].shape == found.tried_bandwidth.shape
    model.set_params(per_feature=False).fit(data)
    assert not hasattr(model, "feature_bandwidths_")


def test_an_end_of_the_grid_is_named():
    with pytest.warns(UserWarning, match=r"the last that was tried \(along a 1\.0"):
        dkde.cross_validate(rows(), [0.5, 0.8, 1.2], per_feature=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pca": 1}, "principal components mix these"),
        ({"bandwidths": [1.0]}, "at least two bandwidths"),
        ({"covariance": "full"}, "a full covariance has none"),
        ({"covariance": [[1, 0.5], [0.5, 1]]}, "is a matrix"),
        ({"kernel": "univariate_gaussian"}, "is no density of several features"),
        ({"kernel": "vonmises_fisher"}, "one bandwidth for a latitude and a longitude"),
    ],
)
def test_what_has_no_bandwidth_for_each_feature(options, words):
    with pytest.raises(dkde.InputError, match=words):
        dkde.cross_validate(rows(20), **({"bandwidths": GRID, "per_feature": True} | options))


def test_a_dim_with_a_name_that_the_result_needs():
    data = xr.Dataset.from_dataframe(rows(20).rename_axis("feature"))
    with pytest.raises(dkde.InputError, match="'feature', a name that the result needs"):
        dkde.cross_validate(data, GRID, per_feature=True)


def test_a_feature_that_does_not_vary():
    data = rows(20).assign(c=1.0)
    with (
        pytest.warns(UserWarning, match="2 of 3 features"),
        pytest.raises(dkde.InputError, match="c does not vary"),
    ):
        dkde.cross_validate(data, GRID, per_feature=True, singular="drop")
