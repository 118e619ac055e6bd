"""Estimators that are fitted to rows which come in parts: the density is that of all rows."""

import pickle
from unittest.mock import Mock

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import dkde
from dkde.errors import InputError

KERNELS = ("gaussian", "epanechnikov", "exponential")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("seed", range(12))
def test_parts_are_fitted_as_all_rows_are(seed):
    rng = np.random.default_rng(seed)
    n_features, scale = int(rng.integers(1, 8)), 10.0 ** rng.integers(-3, 4)
    parts = [
        rng.normal(size=(int(n), n_features)) * scale + 5 * scale for n in rng.integers(1, 60, 4)
    ]
    query = rng.normal(size=(20, n_features)) * scale + 5 * scale
    options = {"bandwidth": 1.5 * scale, "kernel": KERNELS[seed % len(KERNELS)]}
    weights = [rng.exponential(size=len(part)) if rng.random() < 0.5 else None for part in parts]
    model = dkde.KernelDensity(**options)
    for part, own in zip(parts, weights, strict=True):
        lazy = da.from_array(part, chunks=(7, n_features)) if rng.random() < 0.3 else part
        model.partial_fit(lazy, sample_weight=own)
        model.score_samples(query)  # nothing that it keeps may be of the rows before
    everything = np.concatenate([
        np.ones(len(part)) if own is None else own for part, own in zip(parts, weights, strict=True)
    ])  # fmt: skip
    expected = reference.log_density(
        query, np.concatenate(parts), [options["bandwidth"]], everything, kernel=options["kernel"]
    )[0]
    for each in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(each.score_samples(query), expected, rtol=1e-9, atol=1e-9)


def test_a_rule_stays_as_the_first_rows_have_it():
    rng = np.random.default_rng(0)
    first, more = rng.normal(size=(60, 2)), 3 * rng.normal(size=(90, 2))
    model = dkde.KernelDensity(bandwidth="scott", covariance="full").partial_fit(first)
    alone = dkde.KernelDensity(bandwidth="scott", covariance="full").fit(first)
    with pytest.warns(UserWarning, match=r"stays as it was derived from the first 60") as said:
        model.partial_fit(more)
    assert len(said) == 2
    assert model.bandwidth_ == alone.bandwidth_
    np.testing.assert_array_equal(model.covariance_, alone.covariance_)
    both = dkde.KernelDensity(bandwidth=alone.bandwidth_, covariance=alone.covariance_)
    both.fit(np.concatenate([first, more]))
    np.testing.assert_allclose(model.score_samples(first), both.score_samples(first), rtol=1e-9)
    assert len(np.unique(model.sample(500, random_state=0), axis=0)) == 500


def test_weights_may_be_a_column():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(50, 3)), columns=["a", "b", "w"]).abs()
    model = dkde.KernelDensity(bandwidth=0.5)
    model.partial_fit(table[:20], sample_weight="w")
    model.partial_fit(table[["w", "a", "b"]][20:], sample_weight="w")
    whole = dkde.KernelDensity(bandwidth=0.5).fit(table, sample_weight="w")
    asked = table[["a", "b"]]
    np.testing.assert_allclose(model.score_samples(asked), whole.score_samples(asked), rtol=1e-9)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernel": "tophat"}, "kernel was 'gaussian'.* and is 'tophat'"),
        ({"bandwidth": 2.0}, "bandwidth was 1.0"),
        ({"covariance": [1.0, 2.0]}, "covariance was"),
        ({"where": "a > 0"}, "takes no condition"),
    ],
)
def test_other_parameters_are_refused(changed, words):
    rows = np.random.default_rng(2).normal(size=(9, 2))
    model = dkde.KernelDensity().fit(rows)
    before = model.score_samples(rows)
    model.set_params(**changed)
    with pytest.raises(InputError, match=words):
        model.partial_fit(rows)
    model.set_params(**dkde.KernelDensity().get_params())
    np.testing.assert_array_equal(model.score_samples(rows), before)


def test_other_features_are_refused_and_the_fit_stays():
    rows = np.random.default_rng(3).normal(size=(9, 2))
    model = dkde.KernelDensity().fit(rows)
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(np.ones((4, 3)))
    assert np.isfinite(model.score_samples(rows)).all()
    with pytest.raises(NotFittedError):
        clone(model).score_samples(rows)


def test_an_adaptive_density_takes_no_parts():
    rows = np.random.default_rng(4).normal(size=(9, 2))
    model = dkde.KernelDensity(adaptive=0.5).fit(rows)
    with pytest.raises(InputError, match="adaptive"):
        model.partial_fit(rows)


def test_unusual_rows_are_those_of_all():
    rows = np.random.default_rng(5).normal(size=(80, 2))
    parts = dkde.KernelDensityOutlier(contamination=0.1, bandwidth=0.5)
    parts.partial_fit(rows[:30]).partial_fit(rows[30:])
    whole = dkde.KernelDensityOutlier(contamination=0.1, bandwidth=0.5).fit(rows)
    assert parts.offset_ == pytest.approx(whole.offset_, rel=1e-9)
    assert parts.training_log_density_.shape == (80,)


def _filled_anew(form, part, buffer):
    """The rows in the one array that all calls are given."""
    buffer[:] = part
    if form == "frame":
        return pd.DataFrame(buffer, columns=["a", "b"], copy=False)
    if form == "places":
        return xr.DataArray(buffer, dims=("row", "feature"), coords={"feature": ["lat", "lon"]})
    dataset = {name: ("row", buffer[:, k]) for k, name in enumerate("ab")}
    return {"array": buffer, "view": buffer.T.T[::-1][::-1], "dataset": xr.Dataset(dataset)}[form]


def _beside(form, weights, scales, own_weights, own_scales):
    """Weights, and scales where the kernel takes any, in the arrays that all calls are given."""
    weights[:], scales[:] = own_weights, own_scales
    beside = {"sample_weight": weights, "bandwidth_scale": scales}
    return {"sample_weight": weights} if form == "places" else beside


@pytest.mark.parametrize("form", ["array", "view", "frame", "dataset", "places"])
def test_an_array_may_be_filled_anew_for_each_call(form):
    rng = np.random.default_rng(6)
    parts, query = 20 * rng.normal(size=(3, 20, 2)), 20 * rng.normal(size=(9, 2))
    weights, scales = rng.exponential(size=(3, 20)), rng.uniform(0.5, 2.0, size=(3, 20))
    buffers = np.empty((20, 2)), np.empty(20), np.empty(20)
    options = {"bandwidth": 9.0}
    if form == "places":
        options = {"bandwidth": 0.3, "kernel": "vonmises_fisher", "lat": "lat", "lon": "lon"}
        query = _filled_anew(form, query, np.empty_like(query))
    elif form in ("frame", "dataset"):
        query = _filled_anew(form, query, np.empty_like(query))
    model = dkde.KernelDensity(**options)
    for part, weight, scale in zip(parts, weights, scales, strict=True):
        X = _filled_anew(form, part, buffers[0])
        beside = _beside(form, buffers[1], buffers[2], weight, scale)
        model.partial_fit(X, **beside)
    for buffer in buffers:
        buffer[:] = 0.5
    whole = dkde.KernelDensity(**options)
    rows = parts.reshape(-1, 2)
    whole.fit(
        _filled_anew(form, rows, np.empty_like(rows)),
        **_beside(form, np.empty(60), np.empty(60), weights.ravel(), scales.ravel()),
    )
    expected = np.asarray(whole.score_samples(query))
    np.testing.assert_allclose(np.asarray(model.score_samples(query)), expected, rtol=1e-9)


def test_unusual_rows_are_those_of_an_array_filled_anew():
    parts = np.random.default_rng(7).normal(size=(2, 30, 2))
    buffer, model = np.empty((30, 2)), dkde.KernelDensityOutlier(bandwidth=0.5)
    for part in parts:
        buffer[:] = part
        model.partial_fit(buffer)
    whole = dkde.KernelDensityOutlier(bandwidth=0.5).fit(parts.reshape(-1, 2))
    np.testing.assert_allclose(model.training_log_density_, whole.training_log_density_, rtol=1e-9)


def test_the_memory_of_rows_that_were_fitted_is_warned_of():
    rows = np.random.default_rng(8).normal(size=(20, 2))
    model = dkde.KernelDensity().fit(rows[:10])
    model.partial_fit(rows[10:]).partial_fit(rows[10:])
    with pytest.warns(UserWarning, match="lies in the memory of rows that fit was given"):
        model.partial_fit(rows[5:])


def test_rows_that_are_mapped_from_a_file_stay_there(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(9).normal(size=(20, 2)))
    for mode, stays in (("r", True), ("c", False)):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        model = dkde.KernelDensity().partial_fit(mapped[:12]).partial_fit(mapped[12:])
        for part in model._train.rows.parts:
            assert np.shares_memory(part.source.array, mapped) == stays


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_a_call_that_fails_adds_no_rows(error, monkeypatch):
    rows = np.random.default_rng(10).normal(size=(60, 2))
    model = dkde.KernelDensityOutlier(novelty=True, bandwidth=0.5).partial_fit(rows[:30])
    before, found = dict(vars(model)), model.decision_function(rows)
    with monkeypatch.context() as patched:
        patched.setattr(model, "_training_densities", Mock(side_effect=error))
        with pytest.raises(error):
            model.partial_fit(rows[30:])
    assert vars(model) == before
    np.testing.assert_array_equal(model.decision_function(rows), found)
    whole = dkde.KernelDensityOutlier(bandwidth=0.5).fit(rows)
    assert model.partial_fit(rows[30:]).offset_ == pytest.approx(whole.offset_, rel=1e-9)


def test_names_of_weights_are_forgotten_where_a_call_fails():
    table = pd.DataFrame(np.random.default_rng(11).random((9, 3)), columns=["a", "b", "w"])
    model = dkde.KernelDensity().partial_fit(table[["a", "b"]])
    with pytest.raises(ValueError, match="now missing:\n- b"):
        model.partial_fit(table[["a", "w"]], sample_weight="w")
    assert model._beside == ()


@pytest.mark.parametrize(("units", "are_one"), [
    (("m", "km"), False), (("m", "m "), True), ((None, "km"), True),
    (("degrees", "degrees_north"), True), (("degrees_north", "degrees_east"), False),
])  # fmt: skip
def test_other_units_are_refused_and_the_fit_stays(units, are_one):
    rng = np.random.default_rng(12)
    first, second = (
        xr.Dataset({
            "lat": ("row", rng.normal(size=9), {} if unit is None else {"units": unit}),
            "b": ("row", rng.normal(size=9)),
        })
        for unit in units
    )  # fmt: skip
    # The first rows have no units.
    model = dkde.KernelDensity().partial_fit(first.to_dataframe()).partial_fit(first)
    if are_one:
        model.partial_fit(second)
    else:
        words = f"X: lat is in {units[1]}, and in the rows before in {units[0]}; convert it"
        with pytest.raises(InputError, match=words):
            model.partial_fit(second)
    assert model._train.rows.n_rows == (27 if are_one else 18)
