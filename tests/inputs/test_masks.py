"""A mask is a missing value, in whatever holds it."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
import zarr

import dkde

H = 4.0
N = 40


def normal(*shape, seed=0):
    return 10 * np.abs(np.random.default_rng(seed).standard_normal(shape))


QUERY = normal(6, 2, seed=9)


def rows_of(dtype):
    """Rows in their dtype, two of them masked in part; what is masked must not be looked at."""
    values = normal(N, 2).astype(dtype)
    mask = np.zeros((N, 2), bool)
    mask[[7, 30], [1, 0]] = True
    values[mask] = 99
    return np.ma.masked_array(values, mask)


def dataset(array):
    return xr.Dataset({name: ("s", array[:, i]) for i, name in enumerate("ab")})


CONTAINERS = {
    "numpy": lambda rows: rows,
    "dask": lambda rows: da.from_array(rows, chunks=(9, 2)),
    "xarray": lambda rows: xr.DataArray(rows, dims=("s", "feature")),
    "xarray of dask": lambda rows: xr.DataArray(
        da.from_array(rows, chunks=(9, 1)), dims=("s", "feature")
    ),
    "dataset": dataset,
    "dataset of dask": lambda rows: dataset(da.from_array(rows, chunks=(9, 2))),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i2", "u1"])
class TestFeatures:
    @pytest.mark.sampled(4)
    def test_are_left_out(self, container, dtype):
        rows = rows_of(dtype)
        left = np.asarray(rows.data[~rows.mask.any(axis=1)], float)
        truth = np.asarray(reference.log_density(QUERY, left, [H]), float)[0]
        given = CONTAINERS[container](rows)
        found = dkde.log_density(QUERY, given, H, nan="drop")
        np.testing.assert_allclose(found, truth, rtol=1e-9)
        scored = np.asarray(dkde.log_density(given, QUERY, H, nan="drop"))
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(scored)), [7, 30])

    @pytest.mark.sampled(3)
    def test_are_refused(self, container, dtype):
        given = CONTAINERS[container](rows_of(dtype))
        with pytest.raises(dkde.InputError, match=r"train: row 7, (column 1|b) is (masked|nan);"):
            dkde.log_density(QUERY, given, H)
        with pytest.raises(dkde.InputError, match=r"query: row 7, (column 1|b) is (masked|nan);"):
            np.asarray(dkde.log_density(given, QUERY, H))


MARKS = {"masked": np.ma.masked, "None": None, "NA": pd.NA}
LISTS = {
    "rows": lambda rows: list(rows),
    "tuples": lambda rows: tuple(map(tuple, rows)),
    "one array": lambda rows: [rows[:9].tolist()[i] for i in range(9)] + list(rows[9:]),
    **{
        name: lambda rows, mark=mark: [
            [mark if gone else v.item() for v, gone in zip(row.data, row.mask, strict=True)]
            for row in rows
        ]
        for name, mark in MARKS.items()
    },
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("dtype", ["f8", "i8"])
class TestLists:
    def test_rows_are_refused_or_left_out(self, kind, dtype, tmp_path):
        rows = rows_of(dtype)
        given = LISTS[kind](rows)
        with pytest.raises(dkde.InputError, match=r"train: row 7, column 1 is (masked|nan);"):
            dkde.log_density(QUERY, given, H)
        left = np.asarray(rows.data[~rows.mask.any(axis=1)], float)
        truth = np.asarray(reference.log_density(QUERY, left, [H]), float)[0]
        np.testing.assert_allclose(dkde.log_density(QUERY, given, H, nan="drop"), truth, rtol=1e-9)
        with pytest.raises(dkde.InputError, match=r"X: row 7, column 1 is masked;"):
            dkde.KernelDensity(bandwidth=H).fit(given)
        model = dkde.KernelDensity(bandwidth=H, nan="drop").fit(given)
        np.testing.assert_allclose(model.score_samples(QUERY), truth, rtol=1e-9)
        with pytest.raises(dkde.InputError, match="holds masked values"):
            dkde.import_rows([given], tmp_path / "never.zarr")


@pytest.mark.parametrize("mark", MARKS)
def test_single_values_in_lists(mark):
    rows, weights = normal(N, 2), [MARKS[mark], *range(1, N)]
    with pytest.raises(dkde.InputError, match="the weight of row 0 is masked"):
        dkde.log_density(QUERY, rows, H, weights=weights)
    truth = reference.log_density(QUERY, rows[1:], [H], weights=np.arange(1.0, N))
    found = dkde.score(QUERY, rows, H, weights=weights, nan="drop")
    np.testing.assert_allclose(found.log_density, np.asarray(truth, float), rtol=1e-9)
    with pytest.raises(dkde.InputError, match="train groups: row 0 has a missing value"):
        dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=weights)
    with pytest.raises(dkde.InputError, match="folds: row 0 has a missing value"):
        dkde.cross_validate(rows, [H, 2.0], folds=weights)


def test_integers_that_float64_would_round_beside_a_missing_value_in_a_list():
    with pytest.raises(dkde.InputError, match=r"beyond 2\*\*53"):
        dkde.log_density(QUERY[:, :1], [[2**60 + 1], [None], [4.5]], H, nan="drop")


def masked_weights(dtype="f8"):
    values = np.random.default_rng(1).integers(1, 5, N).astype(dtype)
    mask = np.arange(N) < 3
    values[mask] = 100
    return np.ma.masked_array(values, mask)


def opened(values, dtype, mark=None, scale=None, version=3):
    """An opened Zarr array that says how it is to be decoded."""
    stored = np.asarray(values, float) if scale is None else np.asarray(values, float) / scale
    if mark is not None:
        stored = np.ma.filled(np.ma.masked_array(stored, np.ma.getmaskarray(values)), mark)
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=stored.shape, dtype=dtype, chunks=(7,) * stored.ndim,
        zarr_format=version,
    )  # fmt: skip
    array[:] = stored.astype(dtype)
    said = {"_FillValue": mark, "scale_factor": scale}
    array.attrs.update({key: value for key, value in said.items() if value is not None})
    return array


WEIGHTS = {
    "Zarr": lambda: opened(masked_weights(), "f8", mark=-9.0),
    "Zarr of version 2": lambda: opened(masked_weights(), "f4", mark=-9.0, version=2),
    "Zarr, scaled integers": lambda: opened(masked_weights(), "i2", mark=-9, scale=0.5),
    "numpy": masked_weights,
    "integers": lambda: masked_weights("i8"),
    "NaN": lambda: masked_weights().filled(np.nan),
    "dask": lambda: da.from_array(masked_weights(), chunks=7),
    "dask integers": lambda: da.from_array(masked_weights("i4"), chunks=7),
    "xarray": lambda: xr.DataArray(masked_weights(), dims="sample"),
    "xarray of dask": lambda: xr.DataArray(da.from_array(masked_weights(), chunks=7), dims="s"),
    "pandas": lambda: pd.Series(masked_weights().filled(np.nan)),
    "nullable": lambda: pd.Series(masked_weights().filled(np.nan)).convert_dtypes(),
    "nullable floats": lambda: pd.array(masked_weights().filled(np.nan), dtype="Float64"),
}


# Of these it is known that they were masked.
MASKED = ("numpy", "integers", "dask", "dask integers", "nullable", "nullable floats")


@pytest.mark.parametrize("kind", WEIGHTS)
class TestWeights:
    def test_are_refused(self, kind):
        said = "masked" if kind in MASKED else "nan"
        message = rf"^train: the weight of row 0 is {said}; .* out \("
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(QUERY, normal(N, 2), H, weights=WEIGHTS[kind]())

    def test_their_rows_are_left_out(self, kind):
        rows, plain = normal(N, 2), np.asarray(masked_weights().data, float)
        truth = reference.log_density(QUERY, rows[3:], [H], weights=plain[3:])
        found = dkde.score(QUERY, rows, H, weights=WEIGHTS[kind](), nan="drop")
        np.testing.assert_allclose(found.log_density, np.asarray(truth, float), rtol=1e-9)
        assert int(found.n_missing_train) == 3
        drawn = dkde.sample(rows, H, 50, weights=WEIGHTS[kind](), nan="drop", random_state=0)
        assert np.isfinite(drawn).all()

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(("bandwidth", "covariance"), [("scott", "diag"), (H, "full")])
    def test_so_are_they_of_rules_and_covariances(self, kind, bandwidth, covariance):
        rows, plain = normal(N, 2), np.asarray(masked_weights().data, float)
        found = dkde.log_density(
            QUERY, rows, bandwidth, covariance=covariance, weights=WEIGHTS[kind](), nan="drop"
        )
        expected = dkde.log_density(
            QUERY, rows[3:], bandwidth, covariance=covariance, weights=plain[3:]
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("version", [2, 3])
def test_scaled_weights_of_an_opened_array(version):
    rows, weights = normal(N, 2), np.arange(N) / 4
    given = opened(weights, "i2", scale=0.25, version=version)
    given.attrs["add_offset"] = 1.0
    truth = reference.log_density(QUERY, rows, [H], weights=weights + 1)
    found = dkde.score(QUERY, rows, H, weights=given)
    np.testing.assert_allclose(found.log_density, np.asarray(truth, float), rtol=1e-9)
    model = dkde.KernelDensity(bandwidth=H).fit(rows, sample_weight=given)
    np.testing.assert_allclose(model.score_samples(QUERY), found.log_density[0], rtol=1e-12)


class TestEstimators:
    @pytest.mark.parametrize("kind", ["numpy", "NaN", "dask", "nullable", "Zarr"])
    def test_weights(self, kind):
        rows, plain = normal(N, 2), np.asarray(masked_weights().data, float)
        said = "masked" if kind in MASKED else "nan"
        with pytest.raises(dkde.InputError, match=f"the weight of row 0 is {said};"):
            dkde.KernelDensity().fit(rows, sample_weight=WEIGHTS[kind]()).score_samples(QUERY)
        found = dkde.KernelDensity(nan="drop").fit(rows, sample_weight=WEIGHTS[kind]())
        expected = dkde.KernelDensity().fit(rows[3:], sample_weight=plain[3:])
        np.testing.assert_allclose(found.score_samples(QUERY), expected.score_samples(QUERY))

    def test_features(self):
        rows = rows_of("f8")
        for estimator in (dkde.KernelDensity(), dkde.KernelDensityCV(bandwidths=[1.0, 5.0, 30.0])):
            with pytest.raises(dkde.InputError, match="X: row 7, column 1 is masked"):
                estimator.fit(rows)
        found = dkde.KernelDensity(nan="drop").fit(rows)
        expected = dkde.KernelDensity().fit(rows.data[~rows.mask.any(axis=1)])
        np.testing.assert_array_equal(found.score_samples(QUERY), expected.score_samples(QUERY))
        with pytest.raises(dkde.InputError, match="X: row 7, column 1 is masked"):
            expected.score_samples(rows)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.score_samples(rows))), [7, 30])


class TestWhatCannotBeMissing:
    @pytest.mark.parametrize("kind", ["numpy", "dask", "nullable"])
    def test_groups(self, kind):
        groups = np.ma.masked_array(np.arange(N), mask=np.arange(N) == 4)
        given = {
            "numpy": groups,
            "dask": da.from_array(groups, chunks=9),
            "nullable": pd.array(np.where(groups.mask, pd.NA, groups.data), dtype="Int64"),
        }[kind]
        rows = normal(N, 2)
        with pytest.raises(dkde.InputError, match=r"^train groups: row 4 has a missing value"):
            dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=given)

    @pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
    def test_groups_of_an_opened_array(self, key):
        rows, groups = normal(N, 2), opened(np.arange(N), "i8")
        groups.attrs[key] = 4
        with pytest.raises(dkde.InputError, match=r"^train groups: row 4 has a missing value"):
            dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=groups)
        groups.attrs[key] = -1
        found = dkde.log_density(rows, rows, H, groups=groups, train_groups=groups)
        expected = dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=np.arange(N))
        np.testing.assert_array_equal(found, expected)
        groups.attrs["scale_factor"] = 0.5
        message = r"^train groups must be integers; .* with a scale_factor of 0.5, so they are not"
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=groups)
        groups.attrs.update(scale_factor=1.0, add_offset=3)
        message = r"^train groups must be integers; .* with an add_offset of 3, so they are not"
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=groups)

    @pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
    @pytest.mark.parametrize(
        ("dtype", "is_unsigned", "stored", "mark"),
        [
            ("i1", "true", -1, 255),
            ("i1", "true", -1, "255"),
            ("i1", "true", -1, -1),
            ("<i2", "true", -2, 65534),
            ("u1", "false", 255, -1),
            ("u1", "false", 255, 255),
        ],
    )
    def test_groups_marked_in_the_other_sign(self, key, dtype, is_unsigned, stored, mark):
        rows, numbers = normal(N, 2), np.arange(N)
        numbers[4] = stored
        groups = opened(numbers, dtype)
        groups.attrs.update({key: mark, "_Unsigned": is_unsigned})
        with pytest.raises(dkde.InputError, match=r"^train groups: row 4 has a missing value"):
            dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=groups)
        with pytest.raises(dkde.InputError, match=r"^query groups: row 4 has a missing value"):
            dkde.log_density(rows, rows, H, groups=groups, train_groups=np.arange(N))
        with pytest.raises(dkde.InputError, match=r"^folds: row 4 has a missing value"):
            dkde.cross_validate(rows, [H, 2.0], folds=groups)

    def test_folds_of_opened_and_lazy_arrays(self):
        rows, folds = normal(N, 2), np.arange(N) % 4
        masked = np.ma.masked_array(folds, mask=np.arange(N) == 4)
        plain = dkde.cross_validate(rows, [2.0, H, 50.0], folds=folds)
        for given in (opened(masked, "i8", mark=-1), da.from_array(masked, chunks=9)):
            with pytest.raises(dkde.InputError, match=r"^folds: row 4 has a missing value"):
                dkde.cross_validate(rows, [2.0, H, 50.0], folds=given)
        for given in (opened(folds, "i4", mark=-1), da.from_array(folds, chunks=9)):
            found = dkde.cross_validate(rows, [2.0, H, 50.0], folds=given)
            np.testing.assert_array_equal(found.log_density, plain.log_density)

    def test_nullable_groups_without_any(self):
        rows, groups = normal(N, 2), pd.array(np.arange(N), dtype="Int64")
        found = dkde.log_density(rows, rows, H, groups=groups, train_groups=np.arange(N))
        expected = dkde.log_density(rows, rows, H, groups=np.arange(N), train_groups=np.arange(N))
        np.testing.assert_array_equal(found, expected)

    def test_folds(self):
        folds = np.ma.masked_array(np.arange(N) % 4, mask=np.arange(N) == 4)
        with pytest.raises(dkde.InputError, match=r"^folds: row 4 has a missing value"):
            dkde.cross_validate(normal(N, 2), [H, 2.0], folds=folds)
        with pytest.raises(dkde.InputError, match=r"^folds: row 4 has a missing value"):
            dkde.KernelDensityCV(bandwidths=[H, 2.0], cv=folds).fit(normal(N, 2))

    def test_bandwidths_and_covariances(self):
        rows, masked = normal(N, 2), np.ma.masked_array([1.0, 2.0], mask=[0, 1])
        with pytest.raises(dkde.InputError, match="bandwidth nan must be"):
            dkde.log_density(rows, rows, masked)
        with pytest.raises(dkde.InputError, match="covariance has values that are not finite"):
            dkde.log_density(rows, rows, H, covariance=masked)

    def test_integers_that_float64_would_round(self):
        rows = np.ma.masked_array([[2**60 + 1], [3], [4]], mask=[[0], [1], [0]])
        with pytest.raises(dkde.InputError, match=r"^train: some values are masked, and others"):
            dkde.log_density(QUERY[:, :1], rows, H, nan="drop")


class TestIntegersStoredWithTheOtherSign:
    VALUES = 6 * np.arange(N) + 3
    WIDE = np.array([[3.0], [131.0], [237.0]])

    def signed(self, values, **attributes):
        array = zarr.create_array({}, shape=values.shape, dtype="i1", chunks=values.shape)
        array[:] = values.astype("u1").view("i1")
        array.attrs.update(_Unsigned="true", **attributes)
        return array

    @pytest.mark.parametrize("scale", [1.0, 0.5])
    def test_rows(self, scale):
        values = self.VALUES[:, None]
        expected = dkde.log_density(scale * self.WIDE, scale * values, H)
        found = dkde.log_density(scale * self.WIDE, self.signed(values, scale_factor=scale), H)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_rows_by_their_path(self, tmp_path):
        array = zarr.create_array(tmp_path / "a.zarr", shape=(N, 1), dtype="i1", chunks=(9, 1))
        array[:] = self.VALUES.astype("u1").view("i1")[:, None]
        array.attrs["_Unsigned"] = "true"
        expected = dkde.log_density(self.WIDE, self.VALUES[:, None], H)
        found = dkde.log_density(self.WIDE, str(tmp_path / "a.zarr"), H)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize("mark", [{}, {"_FillValue": 255}, {"_FillValue": "255"}])
    def test_weights_and_rows_with_a_mark(self, mark):
        values = self.VALUES.copy()
        values[5] = 255
        left = values != 255 if mark else np.full(N, True)
        rows = normal(N, 2)
        expected = dkde.log_density(QUERY, rows[left], H, weights=values[left])
        weights = self.signed(values, **mark)
        found = dkde.log_density(QUERY, rows, H, weights=weights, nan="drop")
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        expected = dkde.log_density(self.WIDE, values[left, None], H)
        train = self.signed(values[:, None], **mark)
        found = dkde.log_density(self.WIDE, train, H, nan="drop")
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_groups(self):
        rows = normal(N, 2)
        expected = dkde.log_density(rows, rows, H, groups=self.VALUES, train_groups=self.VALUES)
        found = dkde.log_density(
            rows, rows, H, groups=self.signed(self.VALUES), train_groups=self.VALUES
        )
        np.testing.assert_array_equal(found, expected)
