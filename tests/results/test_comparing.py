"""Two results on the same rows: figures against a plain computation, and what is refused."""

import itertools
import json
import math

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from reference import log_density

import dkde

RNG = np.random.default_rng(8)
TRAIN, OTHER, QUERY = (RNG.standard_normal((n, 2)) for n in (30, 25, 40))


def rows(values=QUERY, label=True):
    coords = {"label": ("sample", np.arange(len(values)) % 3)} if label else {}
    return xr.DataArray(values, dims=("sample", "feature"), coords=coords)


def scored(train=TRAIN, bandwidth=0.5, query=None, **options):
    return dkde.score(rows() if query is None else query, train, bandwidth, **options)


@pytest.fixture
def npz(tmp_path):
    """A data set whose splits a and b train, and query is scored."""
    np.savez(tmp_path / "d.npz", a=TRAIN, b=OTHER, query=QUERY)
    store = tmp_path / "d.zarr"
    dkde.import_dataset(tmp_path / "d.npz", store)
    return str(store)


class TestFigures:
    def test_against_plain_loops(self):
        found = dkde.compare(scored(), scored(OTHER, 0.7))
        a = log_density(QUERY, TRAIN, [0.5])
        b = log_density(QUERY, OTHER, [0.7])
        plain = [x - y for x, y in zip(np.ravel(a).tolist(), np.ravel(b).tolist(), strict=True)]
        mean = math.fsum(plain) / len(plain)
        deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in plain) / (len(plain) - 1))
        assert found.difference.values == pytest.approx(plain, rel=1e-9)
        assert float(found.mean_difference) == pytest.approx(mean, rel=1e-9)
        assert float(found.standard_error) == pytest.approx(
            deviation / math.sqrt(len(plain)), rel=1e-9
        )
        assert float(found.share_a) == sum(d > 0 for d in plain) / len(plain)
        assert float(found.share_b) == sum(d < 0 for d in plain) / len(plain)
        assert float(found.share_tied) == 0
        assert int(found.n) == len(plain)
        assert found.attrs["bandwidth_a"] == 0.5
        assert found.attrs["bandwidth_b"] == 0.7
        assert found.attrs["mean_b"] == pytest.approx(np.mean(b), rel=1e-9)
        for number in range(3):
            of_class = plain[number::3]
            at = found.sel({"class": number})
            assert int(at.class_n) == len(of_class)
            assert float(at.class_mean_difference) == pytest.approx(np.mean(of_class), rel=1e-9)
            assert float(at.class_standard_error) == pytest.approx(
                np.std(of_class, ddof=1) / np.sqrt(len(of_class)), rel=1e-9
            )
            assert float(at.class_share_a) == np.mean(np.array(of_class) > 0)

    def test_the_bound_holds(self):
        """float32 and a loose tolerance: the difference to exact ones is within what is said."""
        wide = [np.tile(side, 60) for side in (TRAIN, OTHER, QUERY)]  # summed in float32
        train, other, query = wide
        query = rows(query)
        exact = scored(train, 2.0, query), scored(other, 2.0, query)
        loose = (
            scored(train, 2.0, query, precision="float32"),
            scored(other, 2.0, query, tol=1e-3),
        )
        found = dkde.compare(*loose)
        true = exact[0].log_density.values[0] - exact[1].log_density.values[0]
        off = np.abs(found.difference.values - true)
        assert (off <= found.difference_error.values + 1e-12).all()
        assert off.max() > 1e-12
        assert (
            abs(float(found.mean_difference) - true.mean())
            <= float(found.mean_difference_error) + 1e-12
        )
        errors = sum(result.log_density_error.values[0] for result in loose)
        assert found.difference_error.values == pytest.approx(errors, rel=1e-9)

    def test_against_itself_all_rows_are_tied(self):
        found = dkde.compare(scored(), scored())
        assert float(found.share_tied) == 1
        assert float(found.mean_difference) == 0
        assert float(found.standard_error) == 0

    def test_rows_of_zero_density(self, recwarn):
        query = rows(np.array([[0.0], [0.1], [5.0], [50.0]]), label=False)
        a = dkde.score(query, np.array([[0.0]]), 1.0, kernel="tophat")
        b = dkde.score(query, np.array([[0.0], [5.0]]), 1.0, kernel="tophat")
        found = dkde.compare(a, b)
        assert found.difference.values[2] == -np.inf
        assert np.isnan(found.difference.values[3])
        assert np.isnan(float(found.mean_difference))
        assert np.isnan(float(found.standard_error))
        assert (float(found.share_a), float(found.share_b), float(found.share_tied)) == (
            0.5, 0.25, 0.25,
        )  # fmt: skip
        assert (found.attrs["n_zero_density_a"], found.attrs["n_zero_density_b"]) == (2, 1)
        one_sided = dkde.compare(
            *(
                dkde.score(query[:3], train, 1.0, kernel="tophat")
                for train in ([[0.0]], [[0.0], [5]])
            )
        )
        assert float(one_sided.mean_difference) == -np.inf
        assert np.isnan(float(one_sided.standard_error))

    def test_one_row_has_no_standard_error(self, recwarn):
        found = dkde.compare(scored(query=rows()[:1]), scored(OTHER, query=rows()[:1]))
        assert np.isnan(float(found.standard_error))

    def test_rows_that_both_left_out(self):
        values = QUERY.copy()
        values[3] = np.nan
        some = rows(values)
        found = dkde.compare(scored(query=some, nan="drop"), scored(OTHER, query=some, nan="drop"))
        rest = np.delete(found.difference.values, 3)
        assert int(found.n) == 39
        assert float(found.mean_difference) == pytest.approx(rest.mean())
        assert float(found.share_a + found.share_b + found.share_tied) == pytest.approx(1)


class TestWhichRows:
    def test_test_rows_at_each_best_bandwidth(self):
        sides = {"valid": "valid[:50]", "test": "test[:60]", "source": "digits"}
        a = dkde.sweep(train="train", bandwidths=[1.0, 2.0, 4.0], **sides)
        b = dkde.sweep(train="train[:300]", bandwidths=[1.0, 3.0, 9.0], **sides)
        found = dkde.compare(a, b)
        expected = a.test_log_density.values - b.test_log_density.values
        assert np.array_equal(found.difference.values, expected)
        assert (found.attrs["split_a"], found.attrs["bandwidth_b"]) == ("test", 3.0)
        named = dkde.compare(a, b, bandwidth=1.0)
        expected = a.log_density.values[0] - b.log_density.values[0]
        assert np.array_equal(named.difference.values, expected)
        assert named.attrs["split_a"] == "valid"
        each = dkde.compare(a, b, bandwidth=(2.0, 9.0))
        assert (each.attrs["bandwidth_a"], each.attrs["bandwidth_b"]) == (2.0, 9.0)

    def test_a_sweep_against_a_score_of_its_test_rows(self):
        a = dkde.sweep(
            train="train", valid="valid", test="test", source="digits", bandwidths=[1.0, 2.0, 4.0]
        )
        b = dkde.score("test", "train", 3.0, source="digits")
        assert dkde.compare(a, b).attrs["split_b"] == "query"

    @pytest.mark.slow
    def test_by_selector_and_by_xarray(self, npz):
        tree = dkde.open_dataset(npz)
        part = tree["query"].to_dataset().isel(sample=slice(5, 15))
        a = dkde.score("query[5:15]", "a", 0.5, source=npz)
        b = dkde.score(part, "a", 0.5, source=npz)
        assert float(dkde.compare(a, b).share_tied) == 1
        c = dkde.score(part[{"sample": slice(None, None, -1)}], "a", 0.5, source=npz)
        with pytest.raises(dkde.InputError, match="source_row of their rows differ"):
            dkde.compare(a, c)

    def test_of_cross_validations(self):
        a, b = (
            dkde.cross_validate("all", [2.0, 4.0, 9.0], source="digits", pca=15, folds=n)
            for n in (5, 5)
        )
        assert float(dkde.compare(a, b).share_tied) == 1
        c = dkde.cross_validate("all", [2.0, 4.0, 9.0], source="digits", pca=15, folds=3)
        with pytest.warns(UserWarning, match="in different folds"):
            dkde.compare(a, c)

    def test_by_another_coordinate(self):
        named = rows().assign_coords(place=("sample", np.array(["x", "y"] * 20)))
        found = dkde.compare(scored(query=named), scored(OTHER, query=named), by="place")
        assert found["class"].values.tolist() == ["x", "y"]

    @pytest.mark.parametrize("name", ["n", "difference", "share_a", "class_n"])
    def test_coordinates_of_names_that_figures_have(self, name):
        named = rows().assign_coords({name: ("sample", np.arange(40) % 2)})
        found = dkde.compare(scored(query=named), scored(OTHER, query=named), by=name)
        assert found["class"].values.tolist() == [0, 1]
        assert int(found.n) == 40

    def test_rows_along_two_dims(self):
        a, b = (
            xr.DataArray(
                RNG.standard_normal((1, 2, 3)), dims=("bandwidth", "lat", "lon"),
                coords={"bandwidth": [0.1], "lat": [1.0, 2.0], "label": ("lat", [7, 8])},
                name="log_density",
            )
            for _ in range(2)
        )  # fmt: skip
        with pytest.warns(UserWarning, match="is not known whether|holds no bounds") as warned:
            found = dkde.compare(a, b)
        words = [str(warning.message) for warning in warned]
        assert any("is not known whether" in line for line in words)
        assert sum("holds no bounds on its errors" in line for line in words) == 2
        assert found.difference.dims == ("lat", "lon")
        assert found["class_n"].values.tolist() == [3, 3]
        won = float((found.difference > 0).mean())
        assert (float(found.share_a), float(found.share_tied)) == (won, 0)
        assert np.isnan(found.difference_error).all()
        with pytest.raises(dkde.InputError, match="lat of their rows differ"):
            dkde.compare(a, b.assign_coords(lat=[1.0, 3.0]))


TABLE = RNG.standard_normal((12, 3))
NAMES = ["a", "b", "c"]
POINTS = RNG.standard_normal((30, 3))


class TestTheSameRows:
    """Wherever they lie, in whatever format and order of columns: nothing is refused."""

    @pytest.fixture
    def kept(self, tmp_path, monkeypatch):
        """Scores of the same rows from sources of all kinds, by name."""
        monkeypatch.chdir(tmp_path)
        table, points = (pd.DataFrame(values, columns=NAMES) for values in (TABLE, POINTS))
        table.to_csv("x.csv", index=False, float_format="%.17g")
        table[["c", "a", "b"]].assign(d=1.0).to_csv("turned.csv", index=False, float_format="%.17g")
        table.to_xarray().to_netcdf("x.nc", engine="h5netcdf")
        points.to_csv("train.csv", index=False)
        np.save("x.npy", TABLE)
        for name in ("x.csv", "x.npy"):
            dkde.import_dataset(name, f"{name}.zarr")

        def score(query, **options):
            catalog = dkde.Catalog(features=options.pop("features", None))
            return dkde.score(query, "train.csv", 0.5, source=catalog, **options)

        with pytest.warns(UserWarning, match=r"left out: d \(train has no such feature\)"):
            turned = score("turned.csv")
        return {
            "csv": score("x.csv"),
            "elsewhere": score(str(tmp_path / "x.csv")),
            "turned": turned,
            "chosen": score("x.csv", features=NAMES),
            "npy": score("x.npy"),
            "imported": score("x.csv.zarr::train"),
            "imported without names": score("x.npy.zarr::train"),
            "in place": score("x.nc", features=NAMES),
            "kept": score("x.npy", output="kept.zarr"),
        }

    @pytest.mark.slow
    def test_of_all_kinds(self, kept, tmp_path, monkeypatch):
        for a, b in itertools.combinations(kept, 2):
            found = dkde.compare(kept[a], kept[b])
            assert abs(float(found.mean_difference)) < 1e-12, (a, b)
        monkeypatch.chdir("/")
        # Of a run it is known in which folder it began.
        assert float(dkde.compare(tmp_path / "kept.zarr", kept["elsewhere"]).share_tied) == 1

    @pytest.mark.slow
    def test_columns_in_another_order(self, kept):
        a, b = (
            dkde.score("x.csv", POINTS, 0.5, source=dkde.Catalog(features=names))
            for names in (NAMES, NAMES[::-1])
        )
        assert int(dkde.compare(a, b).n) == len(TABLE)

    @pytest.mark.parametrize(
        "make",
        [np.asfortranarray, lambda v: pd.DataFrame(v, columns=NAMES), lambda v: v.copy()],
    )
    def test_in_memory(self, make):
        a, b = (dkde.score(query, POINTS, 0.5) for query in (TABLE, make(TABLE)))
        assert float(dkde.compare(a, b).share_tied) == 1

    def test_columns_in_another_order_in_memory_cannot_be_told(self):
        """What was kept of them is their content, in their own order."""
        table, train = (pd.DataFrame(values, columns=NAMES) for values in (TABLE, POINTS))
        a, b = (dkde.score(query, train, 0.5) for query in (table, table[["c", "a", "b"]]))
        with pytest.warns(UserWarning, match="is not known whether"):
            assert float(dkde.compare(a, b).share_tied) == 1

    def test_the_same_many_columns_in_another_order(self, tmp_path):
        names = [f"c{number}" for number in range(1100)]
        rows = pd.DataFrame(RNG.standard_normal((6, 1100)), columns=names)
        rows.to_csv(tmp_path / "w.csv", index=False)
        a, b = (
            dkde.score(
                "train[:2]", "train[2:]", 9.0,
                source=dkde.Catalog(str(tmp_path / "w.csv"), features=order),
            )
            for order in (names, names[::-1])
        )  # fmt: skip
        assert abs(float(dkde.compare(a, b).mean_difference)) < 1e-9

    @pytest.mark.slow
    def test_of_data_sets_that_number_them_otherwise(self, npz, tmp_path):
        rows = dkde.open_dataset(npz)["query"].x.values[5:12]
        np.savez(tmp_path / "some.npz", query=rows)
        dkde.import_dataset(tmp_path / "some.npz", tmp_path / "some.zarr")
        a = dkde.score("query[5:12]", "a", 0.5, source=npz)
        b = dkde.score("query", rows + 1, 0.5, source=str(tmp_path / "some.zarr"))
        assert int(dkde.compare(a, b).n) == 7

    @pytest.mark.slow
    def test_of_one_lazy_split(self, npz):
        tree = dkde.open_dataset(npz)
        a, b = (dkde.score(tree["query"], tree[name], 0.5) for name in "ab")
        assert int(dkde.compare(a, b).n) == 40
        other = dkde.score(tree["query"]["x"] * 3, tree["a"], 0.5)
        with pytest.warns(UserWarning, match="is not known whether"):
            dkde.compare(a, other)

    def test_of_rows_that_cannot_be_told_those_of_the_same_role(self, recwarn):
        sides = [da.from_array(RNG.standard_normal((20, 3))) for _ in range(4)]
        a = dkde.sweep(train=POINTS, valid=sides[0], test=sides[1], bandwidths=[0.3, 0.6, 0.9])
        b = dkde.sweep(
            train=POINTS * 3, valid=sides[2], test=sides[3], bandwidths=[0.3, 0.6, 0.9, 3]
        )
        with pytest.warns(UserWarning, match="is not known whether"):
            found = dkde.compare(a, b, bandwidth=float(a.best_bandwidth))
        assert found.split_a == found.split_b

    @pytest.mark.slow
    def test_of_a_result_whose_provenance_is_not_whole(self, kept):
        a = kept["csv"]
        provenance = json.loads(a.attrs["provenance"])
        del provenance["score"]["query"]["parts"][0]["checksum"]
        with pytest.warns(UserWarning, match="is not known whether .*does not record"):
            dkde.compare(a.assign_attrs(provenance=json.dumps(provenance)), a)

    @pytest.mark.slow
    def test_what_cannot_be_told_is_said(self, kept):
        pairs = [
            (kept["npy"], dkde.score(TABLE, "train.csv", 0.5)),
            (kept["csv"], dkde.score(da.from_array(TABLE), "train.csv", 0.5)),
        ]
        for a, b in pairs:
            with pytest.warns(
                UserWarning, match=r"is not known whether .*\(the rows were arrays in"
            ):
                dkde.compare(a, b)

    def test_on_the_sphere(self, tmp_path):
        places = pd.DataFrame(TABLE[:, :2] * 30, columns=["lat", "lon"]).to_xarray()
        places.to_netcdf(tmp_path / "g.nc", engine="h5netcdf")
        places.to_zarr(tmp_path / "g.zarr", consolidated=False)
        a, b = (
            dkde.score(
                str(tmp_path / name), TABLE[5:, :2] * 30, "500km", kernel="vonmises_fisher",
                source=dkde.Catalog(features=["lat", "lon"]),
            )
            for name in ("g.nc", "g.zarr")
        )  # fmt: skip
        assert float(dkde.compare(a, b).share_tied) == 1


class TestRefused:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("query[:9]", "a has 10 query rows, and b 9 query rows"),
            ("query[1:11]", "the source_row of their rows differ"),
            ("a[:10]", "with other values"),
        ],
    )
    def test_other_rows(self, npz, query, words):
        a = dkde.score("query[:10]", "b", 0.5, source=npz)
        b = dkde.score(query, "b", 0.5, source=npz)
        with pytest.raises(dkde.InputError, match=words):
            dkde.compare(a, b)

    def test_other_rows_of_a_file(self):
        a, b = (dkde.score(q, "train", 2.0, source="digits") for q in ("test[:9]", "valid[:9]"))
        with pytest.raises(dkde.InputError, match="did not score the same rows"):
            dkde.compare(a, b)

    @pytest.mark.parametrize("kind", ["array", "dataset"])
    def test_other_rows_in_memory(self, kind):
        a, b = QUERY, QUERY[::-1]
        if kind == "dataset":
            a, b = (xr.Dataset({n: ("o", v[:, i]) for i, n in enumerate("uv")}) for v in (a, b))
        with pytest.raises(dkde.InputError, match="with other values"):
            dkde.compare(*(dkde.score(query, TRAIN, 0.5) for query in (a, b)))

    def test_other_columns_of_a_table(self, tmp_path):
        text = "\n".join(",".join(map(str, row)) for row in RNG.standard_normal((9, 4)))
        (tmp_path / "t.csv").write_text(f"a,b,c,d\n{text}\n")
        found = []
        for names in (["a", "b"], ["c", "d"]):
            catalog = dkde.Catalog(str(tmp_path / "t.csv"), features=names)
            output = tmp_path / f"{names[0]}.zarr"
            found.append(dkde.score("train[:5]", "train[5:]", 0.5, source=catalog, output=output))
        with pytest.raises(dkde.InputError, match="with other values"):
            dkde.compare(*found)
        with pytest.raises(dkde.DkdeError, match="query parts 0"):
            dkde.score("train[:5]", "train[5:]", 0.5, source=catalog, output=tmp_path / "a.zarr")

    def test_other_numbers_of_columns(self, tmp_path):
        pd.DataFrame(TABLE, columns=NAMES).to_csv(tmp_path / "t.csv", index=False)
        a, b = (
            dkde.score("train[:5]", "train[5:]", 0.5, source=dkde.Catalog(*catalog))
            for catalog in ((str(tmp_path / "t.csv"),), (str(tmp_path / "t.csv"), ["a", "b"]))
        )
        with pytest.raises(dkde.InputError, match="of 3 features and b of 2 features"):
            dkde.compare(a, b)

    @pytest.mark.slow
    def test_other_columns_of_many(self, tmp_path):
        names = [f"c{number}" for number in range(2400)]
        rows = pd.DataFrame(RNG.standard_normal((6, 2400)), columns=names)
        rows.to_csv(tmp_path / "w.csv", index=False)
        dkde.import_dataset(tmp_path / "w.csv", tmp_path / "w.zarr")
        a, b = (
            dkde.score(
                "train[:2]", "train[2:]", 9.0,
                source=dkde.Catalog(str(tmp_path / "w.zarr"), features=some),
            )
            for some in (names[:1200], names[1200:])
        )  # fmt: skip
        with pytest.raises(dkde.InputError, match="with other values"):
            dkde.compare(a, b)

    def test_other_ranges_of_a_file_in_place(self, tmp_path):
        points = xr.Dataset({name: ("obs", RNG.standard_normal(30)) for name in "uv"})
        points.to_netcdf(tmp_path / "t.nc")
        points.assign(u=points.u + 1).to_netcdf(tmp_path / "other.nc")
        points.to_netcdf(tmp_path / "copy.nc")
        (points + 2).to_netcdf(tmp_path / "train.nc")

        def at(query):
            return dkde.score(
                query, str(tmp_path / "train.nc"), 0.5, source=dkde.Catalog(features=["u", "v"])
            )

        a = at(f"{tmp_path}/t.nc[:10]")
        for query in ("t.nc[10:20]", "other.nc[:10]"):
            with pytest.raises(dkde.InputError, match="with other values"):
                dkde.compare(a, at(f"{tmp_path}/{query}"))
        assert float(dkde.compare(a, at(f"{tmp_path}/copy.nc[:10]")).share_tied) == 1

    def test_other_units(self):
        a = dkde.cross_validate("all", [1.0, 3.0, 9.0], source="digits", pca=5)
        b = dkde.cross_validate("all", [1.0, 3.0, 9.0], source="digits", pca=6)
        whole = dkde.cross_validate("all", [1.0, 2.0, 9.0], source="digits")
        with pytest.raises(dkde.InputError, match="of 5 principal components and b of 6"):
            dkde.compare(a, b)
        with pytest.raises(dkde.InputError, match="of 5 principal components and b of 64 features"):
            dkde.compare(a, whole)

    def test_no_densities(self, recwarn):
        none = scored(kernel="univariate_gaussian")
        with pytest.raises(dkde.InputError, match="is no density of 2 features"):
            dkde.compare(none, scored())
        with pytest.warns(UserWarning, match="differences are of scores"):
            dkde.compare(none, scored(OTHER, kernel="univariate_gaussian"))

    @pytest.mark.slow
    def test_several_bandwidths_and_no_best(self, npz):
        a, b = (dkde.score("query", "a", h, source=npz) for h in (0.5, [0.3, 0.5]))
        with pytest.raises(dkde.InputError, match="b has 2 bandwidths and no best one"):
            dkde.compare(a, b)
        assert float(dkde.compare(a, b, bandwidth=0.5).share_tied) == 1
        with pytest.raises(
            dkde.InputError, match=r"not scored at bandwidth 0\.4; they were scored at 0\.5"
        ):
            dkde.compare(a, b, bandwidth=0.4)

    @pytest.mark.slow
    def test_a_coordinate_that_is_not_there(self, npz):
        a = dkde.score("query", "a", 0.5, source=npz)
        with pytest.raises(dkde.InputError, match="no coordinate 'species' to compare by"):
            dkde.compare(a, a, by="species")


@pytest.mark.slow
def test_a_covariance_is_no_other_unit(npz):
    """Densities are in the data's own units whatever the bandwidth matrix."""
    a = dkde.score("query", "a", 0.5, source=npz, covariance="full")
    b = dkde.score("query", "a", 0.5, source=npz, covariance="diag")
    expected = a.log_density.values[0] - b.log_density.values[0]
    assert np.array_equal(dkde.compare(a, b).difference.values, expected)
