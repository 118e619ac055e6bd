"""Rows added to a finished result: the same numbers as of all rows at once, within both bounds."""

import json

import numpy as np
import pandas as pd
import pytest
import reference
import zarr

import dkde
from dkde.estimation.judging import Judge

N_SEEDS = 12
KERNELS = ("gaussian", "epanechnikov", "exponential", "tophat")


def table(rng, n_rows, n_features, *, scale, offset, of_fold=3):
    """A table of features with a weight, of which some are zero, and a fold for each row."""
    values = rng.normal(size=(n_rows, n_features)) * scale + offset
    found = pd.DataFrame(values, columns=[f"x{i}" for i in range(n_features)])
    weights = rng.exponential(size=n_rows) * (rng.random(n_rows) > 0.1)
    weights[0] = 1.0
    return found.assign(w=weights, fold=rng.integers(0, of_fold, n_rows))


def written(name, frame):
    frame.to_csv(name, index=False)
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(seed):
    """The options of a call, and the parts of rows on both sides."""
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(1, 7))
    scale, offset = 10.0 ** rng.integers(-3, 3), 10.0 ** rng.integers(0, 3)
    sizes = rng.integers(4, 60, 3), rng.integers(3, 40, 3)
    train, query = (
        [table(rng, int(n), n_features, scale=scale, offset=offset * scale) for n in each]
        for each in sizes
    )
    features = [f"x{i}" for i in range(n_features)]
    options = {
        "kernel": KERNELS[seed % len(KERNELS)], "features": features,
        "weights": "w" if rng.random() < 0.5 else None,
        "block_rows": int(rng.integers(2, 50)), "panel_rows": int(rng.integers(2, 50)),
    }  # fmt: skip
    # Compact kernels leave some densities zero, under one part or under both.
    return rng, train, query, options, scale * np.array([0.6, 1.5, 4.0])


def expected(query, train, bandwidths, options, **groups):
    features = options["features"]
    weights = None if options.get("weights") is None else train["w"].to_numpy()
    return reference.log_density(
        query[features].to_numpy(), train[features].to_numpy(), bandwidths, weights,
        kernel=options["kernel"], **groups,
    )  # fmt: skip


def check(found, values, prefix=""):
    """Hold log-densities against the oracle's, within their bounds."""
    logs = found[f"{prefix}log_density"].values
    errors = found[f"{prefix}log_density_error"].values
    np.testing.assert_array_equal(np.isneginf(logs), np.isneginf(values))
    np.testing.assert_array_equal(np.isnan(logs), np.isnan(values))
    there = np.isfinite(values)
    off = np.abs(logs[there] - values[there])
    assert (off <= errors[there] + 1e-13 * np.abs(values[there])).all()
    assert (errors[there] <= 1e-9 * np.maximum(1, np.abs(values[there]))).all()


def extension_of(result):
    return json.loads(result.attrs["provenance"])["extended"]


@pytest.mark.sampled(12)
@pytest.mark.filterwarnings("ignore:weights 'w' apply")
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_a_score_extended_twice_is_that_of_all_rows(seed):
    _, train, query, options, bandwidths = drawn(seed)
    names = [written(f"t{i}.csv", each) for i, each in enumerate(train)]
    asked = [written(f"q{i}.csv", each) for i, each in enumerate(query)]
    dkde.score(asked[0], names[0], bandwidths, **options, output="R.zarr")
    dkde.extend("R.zarr", train=names[1], query=asked[1])
    steps = [{"train": names[2]}, {"query": asked[2]}]
    for step in steps if seed % 2 else steps[::-1]:
        found = dkde.extend("R.zarr", **step)
    check(found, expected(pd.concat(query), pd.concat(train), bandwidths, options))
    together = dkde.score("+".join(asked), "+".join(names), bandwidths, **options)
    for name in ("mean_log_likelihood", "standard_error", "bits_per_dimension"):
        np.testing.assert_allclose(found[name], together[name], rtol=1e-9, equal_nan=True)
    assert set(found.variables) == set(together.variables)
    verified = dkde.verify("R.zarr", blocks="all")
    assert verified["reason"] is None
    assert verified["verified"] == verified["of"]
    assert "rows were added" in verified["elsewhere"]
    assert len(extension_of(found)["runs"]) == 4


@pytest.mark.sampled(12)
@pytest.mark.filterwarnings("ignore:weights 'w' apply", "ignore:.*best bandwidth", "ignore:.*rows")
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_an_extended_sweep_is_that_of_all_rows(seed):
    _, train, query, options, bandwidths = drawn(seed)
    test = query[2]
    names = [written(f"t{i}.csv", each) for i, each in enumerate(train)]
    asked = [written(f"q{i}.csv", each) for i, each in enumerate(query)]
    written("test.csv", test)
    bandwidths = 8 * bandwidths
    first = {"train": names[0], "valid": asked[0], "test": "test.csv"}
    dkde.sweep(**first, bandwidths=bandwidths, **options, output="R.zarr")
    found = dkde.extend("R.zarr", train=names[1], query=asked[1])
    query, train = pd.concat(query[:2]), pd.concat(train[:2])
    check(found, expected(query, train, bandwidths, options))
    best = float(found.best_bandwidth)
    check(found, expected(test, train, [best], options)[0], "test_")
    together = dkde.sweep(
        train="+".join(names[:2]), valid="+".join(asked[:2]), test="test.csv",
        bandwidths=bandwidths, **options,
    )  # fmt: skip
    assert best == float(together.best_bandwidth)
    assert dkde.verify("R.zarr", blocks="all")["reason"] is None


@pytest.mark.sampled(12)
@pytest.mark.filterwarnings("ignore:.*best bandwidth", "ignore:.*rows")
@pytest.mark.parametrize("folds", ["loo", "fold"])
@pytest.mark.parametrize("seed", range(N_SEEDS // 2))
def test_an_extended_cross_validation_is_that_of_all_rows(seed, folds):
    _, train, _, options, bandwidths = drawn(seed)
    options["kernel"] = ("gaussian", "exponential")[seed % 2]
    names = [written(f"t{i}.csv", each) for i, each in enumerate(train)]
    dkde.cross_validate(names[0], bandwidths, folds=folds, **options, output="R.zarr")
    for name in names[1:]:
        found = dkde.extend("R.zarr", train=name)
    rows = pd.concat(train, ignore_index=True)
    groups = np.arange(len(rows)) if folds == "loo" else rows["fold"].to_numpy()
    alone = {"query_groups": groups, "train_groups": groups}
    check(found, expected(rows, rows, bandwidths, options, **alone))
    together = dkde.cross_validate("+".join(names), bandwidths, folds=folds, **options)
    np.testing.assert_allclose(
        found.fold_log_likelihood, together.fold_log_likelihood, rtol=1e-8, atol=1e-8
    )
    assert float(found.best_bandwidth) == float(together.best_bandwidth)
    assert dkde.verify("R.zarr", blocks="all")["reason"] is None


@pytest.mark.filterwarnings("ignore:.*best bandwidth", "ignore:.*rows")
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("bound", [1e-3, np.inf])
def test_wide_bounds_of_an_extended_result_are_damage(precision, bound):
    rng = np.random.default_rng(1)
    for name, n_rows in {"t": 30, "v": 8, "s": 6, "more": 5}.items():
        np.save(f"{name}.npy", rng.normal(size=(n_rows, 2)))
    rows = {"train": "t.npy", "valid": "v.npy", "test": "s.npy"}
    dkde.sweep(**rows, bandwidths=[0.5, 1.0, 2.0], precision=precision, output="R.zarr")
    found = dkde.extend("R.zarr", train="more.npy")
    dkde.verify("R.zarr", blocks="all")
    for prefix in ("", "test_"):
        errors = zarr.open_array(f"R.zarr/{prefix}log_density_error", mode="r+")
        errors[..., 0] = bound
        with pytest.raises(dkde.DataSetError, match=f"the bounds {prefix}log_density_error are"):
            dkde.verify("R.zarr")
        errors[...] = found[f"{prefix}log_density_error"].values
    dkde.verify("R.zarr", blocks="all")


@pytest.mark.slow
def test_wider_bounds_of_an_extended_score_are_damage():
    rng = np.random.default_rng(1)
    for name, n_rows in {"t": 30, "q": 8, "more": 5}.items():
        np.save(f"{name}.npy", rng.normal(size=(n_rows, 2)))
    dkde.score("q.npy", "t.npy", 0.5, output="R.zarr")
    dkde.extend("R.zarr", query="more.npy")
    zarr.open_array("R.zarr/log_density_error", mode="r+")[0, 0] = 1e-3
    words = "log_density_error are up to .*, above its tolerance of 1e-09; the result is damaged"
    with pytest.raises(dkde.DataSetError, match=words):
        dkde.verify("R.zarr")


def test_an_infinite_bound_hides_no_value_that_is_known():
    judge = Judge("R.zarr", ["rows were added"], anywhere=False)
    again, stored = np.array([[-2.0, -3.0]]), np.array([[-np.inf, -3.0]])
    errors, bounds = np.full((1, 2), 1e-9), np.array([[np.inf, 1e-9]])
    with pytest.raises(dkde.DataSetError, match="beyond the bounds"):
        judge.is_exact("rows", "log_density", (again, errors), (stored, bounds))


@pytest.mark.slow
def test_labels_that_added_rows_lack_are_left_out_with_a_warning():
    rng = np.random.default_rng(0)
    for name, n_rows in (("t", 30), ("q", 8)):
        values, label = rng.normal(size=(n_rows, 2)), np.arange(n_rows) % 3
        np.savez(f"{name}.npz", x=values, x_label=label)
        dkde.import_dataset(f"{name}.npz", f"{name}.zarr")
    np.save("asked.npy", rng.normal(size=(5, 2)))
    first = dkde.score("q.zarr", "t.zarr", 1.0, output="R.zarr")
    assert "label" in first.coords
    with pytest.warns(UserWarning, match="the added rows have no label, source_row, which"):
        found = dkde.extend("R.zarr", query="asked.npy")
    assert "label" not in found.coords
    assert found.sizes["sample"] == 13
