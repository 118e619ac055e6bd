"""The public functions: every form of input, every word of refusal."""

import json
import subprocess
import sys
import time

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from PIL import Image

import dkde

H = [0.7, 2.0]


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(7)
    return rng.standard_normal((40, 5)) + 100, rng.standard_normal((90, 5)) + 100


@pytest.fixture(scope="module")
def expected(sides):
    return reference.log_density(*sides, H)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    store = tmp_path_factory.mktemp("digits") / "digits.zarr"
    dkde.import_dataset("digits", store)
    return str(store)


def refuse_to_compute(*arguments, **keywords):
    raise AssertionError("something was computed while the graph was built")


class TestForms:
    def test_numpy_in_numpy_out(self, sides, expected):
        result = dkde.log_density(*sides, H)
        assert type(result) is np.ndarray
        np.testing.assert_allclose(result, expected, rtol=1e-9)

    def test_a_scalar_bandwidth_has_no_axis(self, sides, expected):
        result = dkde.log_density(*sides, H[0])
        np.testing.assert_allclose(result, expected[0], rtol=1e-9)

    def test_nested_lists_are_arrays(self):
        assert dkde.log_density([[0.0]], [[0.0]], 1.0) == pytest.approx([-0.918938533])

    def test_dask_in_lazy_dask_out(self, sides, expected):
        query, train = (da.from_array(side, chunks=(17, 2)) for side in sides)
        with dask.config.set(scheduler=refuse_to_compute):
            result = dkde.log_density(query, train, H)
            scalar = dkde.log_density(query, train, H[1])
        assert isinstance(result, da.Array)
        np.testing.assert_allclose(result.compute(), expected, rtol=1e-9)
        np.testing.assert_allclose(scalar.compute(), expected[1], rtol=1e-9)

    def test_xarray_keeps_dims_and_coordinates(self, sides, expected):
        query = xr.DataArray(
            sides[0],
            dims=("time", "feature"),
            coords={"time": np.arange(40) * 10, "place": ("time", list("ab") * 20)},
        )
        with dask.config.set(scheduler=refuse_to_compute):
            result = dkde.log_density(query.chunk(time=9), sides[1], H)
        assert result.dims == ("bandwidth", "time")
        assert result.chunks is not None
        np.testing.assert_allclose(result, expected, rtol=1e-9)
        np.testing.assert_array_equal(result.time, query.time)
        np.testing.assert_array_equal(result.place, query.place)
        np.testing.assert_array_equal(result.bandwidth, H)
        np.testing.assert_allclose(dkde.log_density(query, sides[1], H[0]), expected[0])

    def test_the_feature_dim_may_come_first(self, sides, expected):
        query = xr.DataArray(sides[0].T, dims=("feature", "sample"))
        np.testing.assert_allclose(dkde.log_density(query, sides[1], H), expected, rtol=1e-9)

    @pytest.mark.slow
    def test_an_opened_split_is_not_loaded(self, digits):
        tree = dkde.open_dataset(digits)
        with dask.config.set(scheduler=refuse_to_compute):
            lazy = dkde.log_density(tree["test"], tree["train"], H)
        direct = dkde.log_density("test", "train", H, source=digits)
        np.testing.assert_allclose(lazy, direct, rtol=1e-9)
        np.testing.assert_array_equal(lazy.label, tree["test"].label)
        np.testing.assert_array_equal(direct.label, tree["test"].label)

    @pytest.mark.slow
    def test_plain_xarray_without_chunks_is_not_loaded(self, digits):
        test, train = (xr.open_zarr(digits, group=g, chunks=None).x for g in ("test", "train"))
        with dask.config.set(scheduler=refuse_to_compute):
            lazy = dkde.log_density(test, train, H)
        direct = dkde.log_density("test", "train", H, source=digits)
        np.testing.assert_allclose(lazy, direct, rtol=1e-9)

    def test_zarr_arrays_are_decoded(self, tmp_path):
        stored = np.random.default_rng(1).integers(0, 255, (30, 4), dtype=np.uint8)
        array = zarr.create_array(tmp_path / "x", data=stored)
        array.attrs.update(scale_factor=0.5, add_offset=-3.0)
        result = dkde.log_density(array, array, H).compute()
        values = stored * 0.5 - 3.0
        np.testing.assert_allclose(result, reference.log_density(values, values, H), rtol=1e-9)


class TestWeightsAndGroups:
    def test_in_numpy_and_in_dask(self, sides):
        rng = np.random.default_rng(3)
        weights = rng.random(90) * (rng.random(90) > 0.4)
        groups, train_groups = rng.integers(0, 3, 40), rng.integers(0, 3, 90)
        expected = reference.log_density(
            *sides, H, weights=weights, query_groups=groups, train_groups=train_groups
        )
        keywords = {"weights": weights, "groups": groups, "train_groups": train_groups}
        now = dkde.log_density(*sides, H, **keywords)
        lazy = {name: da.from_array(values, chunks=13) for name, values in keywords.items()}
        later = dkde.log_density(da.from_array(sides[0], chunks=11), sides[1], H, **lazy)
        np.testing.assert_allclose(now, expected, rtol=1e-9)
        np.testing.assert_allclose(later.compute(), expected, rtol=1e-9)

    def test_row_numbers_as_groups_leave_one_out(self, sides):
        rows = np.arange(90)
        result = dkde.log_density(sides[1], sides[1], H, groups=rows, train_groups=rows)
        for left_out in (0, 57):
            rest = np.delete(sides[1], left_out, axis=0)
            alone = dkde.log_density(sides[1][left_out : left_out + 1], rest, H)
            np.testing.assert_allclose(result[:, left_out], alone[:, 0], rtol=1e-9)

    def test_a_query_for_which_no_pair_counts(self):
        result = dkde.log_density(
            [[0.0], [1.0]], [[0.0], [2.0]], 1.0, groups=[1, 2], train_groups=[1, 1]
        )
        assert np.isnan(result[0])
        assert np.isfinite(result[1])

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"weights": np.ones(5)}, r"weights have shape \(5,\); one for each of 90 rows"),
            ({"weights": -np.ones(90)}, "the weight of row 0 is -1"),
            ({"weights": np.full(90, np.nan)}, "the weight of row 0 is nan"),
            ({"weights": np.zeros(90)}, "all weights are zero"),
            ({"groups": np.ones(40, int)}, "one of them is missing"),
            ({"groups": np.ones(40), "train_groups": np.ones(90)}, "must be integers"),
        ],
    )
    def test_refusals(self, sides, keywords, message):
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(*sides, H, **keywords)


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "train", "message"),
        [
            (np.zeros((3, 64)), np.zeros((3, 784)), "train has 784 features and query"),
            (np.zeros(3), np.zeros((3, 1)), r"query has shape \(3,\); it must have two dim"),
            (np.zeros((0, 2)), np.zeros((3, 2)), "there is nothing in it"),
            (np.zeros((3, 2)), np.zeros((3, 2), complex), "train is of dtype complex128"),
            (np.zeros((3, 2)), np.array([["a", "b"]]), "train is of dtype <U1"),
            (np.zeros((3, 2)), [[0, 1], [np.nan, 3]], "train: row 1, column 0 is nan"),
            ([[0, 1], [2, -np.inf]], np.zeros((3, 2)), "query: row 1, column 1 is -inf"),
            ([[0.0, 1e200]], np.zeros((3, 2)), "so large that their squares overflow"),
        ],
    )
    def test_sides(self, query, train, message):
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(query, train, 1.0)

    @pytest.mark.parametrize("bandwidth", [0, -1, np.nan, np.inf, [], [1, 1], "wide", [[1.0]]])
    def test_bandwidths(self, sides, bandwidth):
        with pytest.raises(dkde.InputError, match="bandwidth"):
            dkde.log_density(*sides, bandwidth)

    @pytest.mark.parametrize(
        "option", [{"kernel": "gauss"}, {"metric": "cosine"}, {"precision": "float16"}]
    )
    def test_options_name_what_there_is(self, sides, option):
        with pytest.raises(dkde.InputError, match=r"is not known; choose"):
            dkde.log_density(*sides, 1.0, **option)

    def test_dask_arrays_of_unknown_length(self, sides):
        array = da.from_array(sides[0], chunks=7)
        with pytest.raises(dkde.InputError, match="compute_chunk_sizes"):
            dkde.log_density(array[array[:, 0] > 100], sides[1], 1.0)

    def test_masked_values_are_missing_values(self, sides, tmp_path):
        masked = np.ma.masked_array(sides[1], mask=np.zeros_like(sides[1], bool))
        dkde.log_density(sides[0], masked, 1.0)
        masked[7, 3] = np.ma.masked
        with pytest.raises(dkde.InputError, match="train: row 7, column 3 is masked"):
            dkde.log_density(sides[0], masked, 1.0)
        array = zarr.create_array(tmp_path / "x", data=sides[1])
        array.attrs["_FillValue"], array[7, 3] = -9.0, -9.0
        with pytest.raises(dkde.InputError, match="train: row 7, column 3 is nan"):
            dkde.score(sides[0], array, 1.0)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint64])
    def test_integers_that_float64_cannot_hold(self, dtype):
        large = np.array([[2**62], [2**62 + 1000]], dtype)
        with pytest.raises(dkde.InputError, match="float64 cannot tell all integers apart"):
            dkde.log_density(large, large, 1000.0)
        small = (large - 2**62).astype(dtype)
        expected = reference.log_density(small, small, [1000.0])[0]
        np.testing.assert_allclose(dkde.log_density(small, small, 1000.0), expected, rtol=1e-9)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda q, t: dkde.log_density([[1.0], [1.0, 2.0]], t, 1.0), "cannot be made an array"),
            (lambda q, t: dkde.log_density(q, t, 10**400), "is not a number"),
            (lambda q, t: dkde.log_density(q, t, 1.0, block_rows="3"), "block_rows is '3'"),
            (lambda q, t: dkde.log_density(q, t, 1.0, panel_rows=0), "panel_rows is 0"),
            (lambda q, t: dkde.log_density(q, t, 1.0, source=5), "source is 5"),
            (lambda q, t: dkde.log_density(q, t, 1.0, weights=np.ones(90, complex)), "real numb"),
            (
                lambda q, t: dkde.log_density(
                    q, t, 1.0, groups=np.zeros(40, np.uint64), train_groups=np.ones(90, int)
                ),
                "groups must be integers",
            ),
            (lambda q, t: dkde.log_density(q.astype(np.longdouble), t, 1.0), "at most 64 bits"),
        ],
    )
    def test_arguments(self, sides, call, message):
        with pytest.raises(dkde.InputError, match=message):
            call(*sides)

    def test_lazy_weights_that_are_all_zero(self, sides):
        weights = da.zeros(90, chunks=20)
        with pytest.raises(dkde.InputError, match="all weights are zero"):
            dkde.log_density(*sides, 1.0, weights=weights)

    def test_warnings_point_at_the_callers_line(self, sides):
        with pytest.warns(UserWarning, match="on one scale") as caught:
            dkde.score(sides[0], sides[1] * 100, 1.0)
        assert caught[0].filename == __file__

    def test_a_tree_wants_a_split(self, digits):
        tree = dkde.open_dataset(digits)
        with pytest.raises(dkde.InputError, match="take one of its splits: train, valid, test"):
            dkde.log_density(tree, tree["train"], 1.0)

    def test_an_infinite_value_in_a_lazy_side_is_found_where_it_is(self, sides):
        train = sides[1].copy()
        train[63, 2] = np.inf
        lazy = dkde.log_density(da.from_array(sides[0]), da.from_array(train, chunks=8), 1.0)
        with pytest.raises(dkde.InputError, match="train: row 63, column 2 is inf"):
            lazy.compute()


class TestCoordinates:
    def test_a_multiindex_is_kept_and_can_be_stored(self, sides, tmp_path):
        query = xr.DataArray(
            sides[0],
            dims=("place", "feature"),
            coords={"lat": ("place", np.arange(40.0)), "lon": ("place", np.arange(40) % 7)},
        ).set_index(place=["lat", "lon"])
        lazy = dkde.log_density(query, sides[1], H)
        assert lazy.indexes["place"].equals(query.indexes["place"])
        result = dkde.score(query, sides[1], H, output=tmp_path / "r.zarr")
        np.testing.assert_array_equal(result.lat, np.arange(40.0))
        with xr.open_zarr(tmp_path / "r.zarr") as stored:
            xr.testing.assert_equal(stored.load(), result)

    def test_text_times_and_scalars_are_stored(self, sides, tmp_path):
        query = xr.DataArray(
            sides[0],
            dims=("time", "feature"),
            coords={
                "time": np.datetime64("2020-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D"),
                "name": ("time", np.array(list("ab") * 20, object)),
                "ship": "Calypso",
            },
        )
        result = dkde.score(query, sides[1], H, output=tmp_path / "r.zarr")
        with xr.open_zarr(tmp_path / "r.zarr") as stored:
            np.testing.assert_array_equal(stored.time, query.time)
            assert stored.name.values.tolist() == list("ab") * 20
            assert str(stored.ship.values) == "Calypso"
        assert result.time.dims == ("time",)

    def test_objects_are_left_out_with_a_word(self, sides):
        query = xr.DataArray(
            sides[0], dims=("s", "feature"), coords={"c": ("s", [{}] * 40), "n": ("s", range(40))}
        )
        with pytest.warns(UserWarning, match="'c' holds objects"):
            result = dkde.score(query, sides[1], H)
        assert "n" in result.coords

    @pytest.mark.parametrize("name", ["bandwidth", "log_density"])
    def test_names_that_the_result_needs_are_refused_before_any_work(
        self, sides, name, monkeypatch
    ):
        monkeypatch.setattr("dkde.engine.eager_run.run", refuse_to_compute)
        query = xr.DataArray(sides[0], dims=("s", "feature"), coords={name: ("s", range(40))})
        with pytest.raises(dkde.InputError, match=rf"coordinate '{name}'"):
            dkde.score(query, sides[1], H)


class TestSweep:
    @pytest.mark.slow
    def test_everything_is_in_the_result(self, digits, tmp_path):
        result = dkde.sweep(
            train="train",
            valid="valid",
            test="test",
            source=digits,
            bandwidths=[1.0, 2.0, 4.0],
            output=tmp_path / "r.zarr",
        )
        scores = dkde.log_density("valid", "train", [1.0, 2.0, 4.0], source=digits)
        np.testing.assert_array_equal(result.log_density, scores)
        np.testing.assert_allclose(result.mean_log_likelihood, scores.mean("sample"))
        np.testing.assert_allclose(
            result.standard_error, scores.std("sample", ddof=1) / np.sqrt(scores.sizes["sample"])
        )
        assert float(result.best_bandwidth) == 2.0
        test = dkde.log_density("test", "train", 2.0, source=digits)
        np.testing.assert_array_equal(result.test_log_density, test)
        assert float(result.test_mean_log_likelihood) == pytest.approx(float(test.mean()))
        assert result.test_label.dims == ("test_sample",)
        assert result.log_density.attrs["units"] == "1"
        provenance = json.loads(result.attrs["provenance"])
        assert provenance["versions"]["dkde"]
        assert provenance["test"]["plan"]["pairs"] == 360 * 1078
        assert provenance["valid"]["train"]["parts"][0]["checksum"].startswith("sha256:")
        with xr.open_zarr(tmp_path / "r.zarr") as stored:
            xr.testing.assert_identical(stored.load(), result)

    def test_arrays_without_a_test_set(self, sides):
        result = dkde.sweep(train=sides[1], valid=sides[0], bandwidths=[0.1, 0.5, 5.0])
        assert float(result.best_bandwidth) == 0.5
        assert "test_log_density" not in result

    def test_the_default_grid_holds_the_best_bandwidth(self, digits, sides):
        for result in (
            dkde.sweep(train="train", valid="valid", source=digits),
            dkde.sweep(train=sides[1] * 1e4, valid=sides[0] * 1e4),
        ):
            grid, best = result.bandwidth.values, float(result.best_bandwidth)
            assert grid.min() < best < grid.max()

    def test_a_best_value_at_the_edge_is_warned_about(self, digits):
        with pytest.warns(UserWarning, match=r"the best bandwidth, 3\.5, is the least"):
            dkde.sweep(train="train", valid="valid", source=digits, bandwidths=[4, 3.5])

    @pytest.mark.parametrize(
        "pair",
        [
            lambda x, tree, store: (x[:30], x[20:]),
            lambda x, tree, store: (x, x[::-1]),
            lambda x, tree, store: (da.from_array(x), da.from_array(x)),
            lambda x, tree, store: (tree["train"], tree["train"]),
            lambda x, tree, store: (tree["train"].x, tree["train"].x),
            lambda x, tree, store: (tree["train"], "train[5:9]"),
            lambda x, tree, store: (tree["train"].isel(sample=slice(9)), "train[5:90]"),
            lambda x, tree, store: (zarr.open_array(f"{store}/train/x", mode="r"), "train"),
        ],
    )
    def test_shared_rows_are_seen_in_every_form(self, digits, pair):
        x = np.random.default_rng(0).random((60, 64))
        train, valid = pair(x, dkde.open_dataset(digits), digits)
        with pytest.raises(dkde.InputError, match="share rows"):
            dkde.sweep(train=train, valid=valid, source=digits)

    def test_rows_apart_are_let_through(self, digits):
        x = np.random.default_rng(0).random((60, 64))
        tree = dkde.open_dataset(digits)
        grid = [0.1, 1.0, 2.0, 3000.0]
        dkde.sweep(train=x[::2], valid=x[1::2], bandwidths=grid)
        head, tail = (tree["train"].isel(sample=s) for s in (slice(500), slice(500, None)))
        dkde.sweep(train=head, valid=tail, bandwidths=grid)
        dkde.sweep(train=head, valid="train[500:]", source=digits, bandwidths=grid)

    def test_shared_rows_are_refused(self, digits, sides):
        with pytest.raises(dkde.InputError, match=r"share rows.*dkde cv"):
            dkde.sweep(train="train", valid="train[1000:]", source=digits)
        valid = np.zeros((2, 64))
        with pytest.raises(dkde.InputError, match=r"test .* share rows"):
            dkde.sweep(train="all", valid=valid, test="test", source=digits)
        with pytest.raises(dkde.InputError, match="share rows"):
            dkde.sweep(train=sides[0], valid=sides[0])

    def test_unlike_scales_are_warned_about(self, digits):
        tree = dkde.open_dataset(digits)
        with pytest.warns(UserWarning, match="are both on one scale"):
            dkde.sweep(
                train=tree["train"].x.values / 255, valid="valid", source=digits, bandwidths=[1]
            )

    def test_a_fine_axis_is_on_the_scale_of_the_rows(self):
        rows = np.random.default_rng(0).normal(size=(300, 1))
        axis = np.linspace(-4, 4, 20_001)[:, None]
        dkde.log_density(axis, rows, 1.0)  # its first thousand rows are a twentieth of it
        message = r"train go from -\d.*, those of query from -400 to 400; are both on one scale"
        with pytest.warns(UserWarning, match=message):
            dkde.log_density(100 * axis, rows, 1.0)

    def test_an_output_that_is_no_result_is_refused_before_any_work(
        self, digits, tmp_path, monkeypatch
    ):
        (tmp_path / "r.zarr").mkdir()
        (tmp_path / "r.zarr" / "notes.txt").write_text("mine")
        monkeypatch.setattr("dkde.engine.eager_run.run", refuse_to_compute)
        with pytest.raises(dkde.DataSetError, match="is there already"):
            dkde.sweep(train="train", valid="valid", source=digits, output=tmp_path / "r.zarr")

    def test_one_row_has_no_standard_error(self, digits):
        result = dkde.score("test[:1]", "train", 2.0, source=digits)
        assert np.isnan(result.standard_error).all()
        assert np.isfinite(result.mean_log_likelihood).all()

    def test_progress_ends_at_all_pairs(self, digits):
        calls = []
        dkde.score("test", "train", 2.0, source=digits, progress=lambda *c: calls.append(c))
        assert calls[-1] == (360 * 1078, 360 * 1078)


def test_a_hundred_million_rows_plan_and_build_in_two_seconds(tmp_path):
    array = zarr.create_array(tmp_path / "x", shape=(10**8, 16), chunks=(2**16, 16), dtype="f4")
    opened = xr.DataArray(da.from_zarr(array), dims=("sample", "feature"))
    queries = da.zeros((10**6, 16), chunks=(2**14, 16))
    with dask.config.set(scheduler=refuse_to_compute):
        for train in (array, opened, da.zeros((10**8, 16), chunks=(2**16, 16))):
            start = time.perf_counter()
            dkde.log_density(queries, train, H)
            assert time.perf_counter() - start < 2


def test_public_names_are_what_they_say():
    assert sorted(dkde.__all__) == list(dkde.__all__)
    for name in dkde.__all__:
        assert getattr(dkde, name).__doc__, name


def test_importing_is_quick_and_loads_nothing_heavy():
    code = "import sys, dkde; print(sorted({'numba', 'dask', 'xarray'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


class TestLabels:
    """What a data set knows of its rows goes along with their densities."""

    @pytest.fixture
    def store(self, tmp_path):
        rng = np.random.default_rng(0)
        arrays = {
            f"{name}{end}": values
            for name, n in (("train", 30), ("valid", 12), ("test", 9))
            for end, values in (("", rng.standard_normal((n, 2))), ("_labels", np.arange(n) % 4))
        }
        np.savez(tmp_path / "d.npz", **arrays)
        dkde.import_dataset(tmp_path / "d.npz", tmp_path / "d.zarr", shuffle_seed=1)
        return str(tmp_path / "d.zarr")

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["selector", "xarray"])
    def test_of_every_kind_of_result(self, store, form):
        tree = dkde.open_dataset(store)

        def rows(split):
            return split if form == "selector" else tree[split].to_dataset()

        bandwidths = [0.1, 1.0, 9.0]
        swept = dkde.sweep(
            train=rows("train"), valid=rows("valid"), test=rows("test"), bandwidths=bandwidths,
            source=store,
        )  # fmt: skip
        scored = dkde.score(rows("test"), rows("train"), 1.0, source=store)
        validated = dkde.cross_validate(rows("train"), bandwidths, source=store)
        found = [(swept, "", "valid"), (swept, "test_", "test"), (scored, "", "test")]
        found += [(validated, "", "train")]
        if form == "xarray":
            found += [(dkde.log_density(rows("test"), rows("train"), 1.0), "", "test")]
        for result, prefix, split in found:
            for name in ("label", "source_row"):
                coordinate = result.coords[f"{prefix}{name}"]
                assert np.array_equal(coordinate.values, tree[split][name].values)

    @pytest.mark.slow
    def test_names_of_classes_go_along(self, tmp_path):
        """A folder of pictures for each class: to results, tables, comparisons and pages."""
        rng = np.random.default_rng(1)
        for split, n in (("train", 6), ("test", 3)):
            for name in ("cat", "polar bear"):
                folder = tmp_path / "pictures" / split / name
                folder.mkdir(parents=True)
                for i in range(n):
                    pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i}.png")
        store = str(tmp_path / "p.zarr")
        dkde.import_dataset(tmp_path / "pictures", store)
        results = [
            dkde.score(query, "train", 0.5, source=store, output=tmp_path / f"{i}.zarr")
            for i, query in enumerate(["test", dkde.open_dataset(store)["test"]])
        ]
        for i, result in enumerate([*results, xr.open_zarr(tmp_path / "0.zarr")]):
            label = result["label"]
            assert label.attrs["flag_meanings"] == "cat polar_bear", i
            assert np.asarray(label.attrs["flag_values"]).tolist() == [0, 1]
        dkde.export(tmp_path / "0.zarr", tmp_path / "o.csv")
        lines = (tmp_path / "o.csv").read_text().splitlines()
        assert lines[0].startswith("split,sample,label,label_name,source_row,bandwidth,")
        assert [line.split(",")[3] for line in lines[1:]] == ["cat"] * 3 + ["polar_bear"] * 3
        compared = dkde.compare(*results)
        assert compared["class_name"].values.tolist() == ["cat", "polar_bear"]
        dkde.report(tmp_path / "0.zarr", tmp_path / "r.html")
        assert "label 1 (polar_bear)" in (tmp_path / "r.html").read_text()
