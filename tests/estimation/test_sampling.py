"""New rows from a density: their law, where they come from, and what is read for them."""

import io
import os

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import zarr
from scipy.stats import chisquare, kstest
from sklearn.decomposition import PCA

import dkde
from dkde.stores.store import Records, open_store

KERNELS = (*reference.COMPACT, "gaussian", "exponential")
DIMENSIONS = (1, 2, 3, 15)
# Seeds are fixed: a test that passes once passes always.
LEAST_P = 1e-3


def radius_law(kernel, d):
    """The distribution function of a sample's distance in bandwidths, by summing the kernel."""
    longest = {"gaussian": np.sqrt(d) + 9, "exponential": d + 12 * np.sqrt(d) + 30}.get(kernel, 1)
    # Midpoints: for d = 1 too every cell counts in full.
    edges = np.linspace(0, longest, 200_001)
    r = (edges[1:] + edges[:-1]) / 2
    profile = {
        "gaussian": lambda u: np.exp(-(u**2) / 2),
        "exponential": lambda u: np.exp(-u),
    } | reference.COMPACT
    mass = r ** (d - 1) * profile[kernel](r.astype(np.float64))
    law = np.concatenate([[0], np.cumsum(mass.astype(np.float64))])
    return lambda u: np.interp(u, edges, law / law[-1])


def training(d, n_rows=40, seed=31):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, d)) @ rng.normal(size=(d, d)) + 5


def matrix_of(covariance, rows):
    d = rows.shape[1]
    found = np.atleast_2d(np.cov(rows, rowvar=False))
    if isinstance(covariance, np.ndarray):
        return covariance
    return {"identity": np.eye(d), "diag": np.diag(np.diag(found)), "full": found}[covariance]


def given_matrix(d):
    root = np.random.default_rng(d).normal(size=(d, d)) + np.eye(d)
    return root @ root.T


def whitened(noise, matrix):
    return np.linalg.solve(np.linalg.cholesky(matrix), noise.T).T


def rows_picked(sources, train):
    """The number of the training row that each source is."""
    order = np.lexsort(train.T[::-1])
    number = {row.tobytes(): i for i, row in zip(order, train[order], strict=True)}
    return np.array([number[row.tobytes()] for row in sources])


class TestLaw:
    @pytest.mark.sampled(7)
    @pytest.mark.parametrize("covariance", ["identity", "diag", "full", "given"])
    @pytest.mark.parametrize("d", DIMENSIONS)
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_radii_are_the_kernels(self, kernel, d, covariance):
        train = training(d)
        given_or_name = given_matrix(d) if covariance == "given" else covariance
        samples, sources = dkde.sample(
            train, 0.7, 4000, kernel=kernel, covariance=given_or_name, random_state=2,
            return_sources=True,
        )  # fmt: skip
        steps = whitened(samples - sources, matrix_of(given_or_name, train)) / 0.7
        radii = np.linalg.norm(steps, axis=1)
        assert kstest(radii, radius_law(kernel, d)).pvalue > LEAST_P
        # No direction is preferred: with unit vectors u, mean 0 and d E[u u'] = 1.
        directions = steps / radii[:, None]
        noise = 5 / np.sqrt(4000)
        np.testing.assert_allclose(directions.mean(axis=0) * np.sqrt(d), 0, atol=noise)
        np.testing.assert_allclose(d * directions.T @ directions / 4000, np.eye(d), atol=2 * noise)

    def test_a_law_that_is_none_of_theirs_is_told_apart(self):
        """What the tests above would find wrong: two laws that are near each other."""
        samples, sources = dkde.sample(
            training(3), 1.0, 4000, kernel="cosine", random_state=2, return_sources=True
        )
        radii = np.linalg.norm(samples - sources, axis=1)
        assert kstest(radii, radius_law("epanechnikov", 3)).pvalue < LEAST_P
        assert kstest(radii, radius_law("cosine", 2)).pvalue < LEAST_P

    def test_in_one_dimension_the_univariate_gaussian_is_the_gaussian(self):
        options = {"random_state": 3, "covariance": "full"}
        np.testing.assert_array_equal(
            dkde.sample(training(1), 0.5, 50, kernel="univariate_gaussian", **options),
            dkde.sample(training(1), 0.5, 50, kernel="gaussian", **options),
        )

    @pytest.mark.parametrize("covariance", ["identity", "full"])
    def test_gaussian_samples_have_the_covariance_that_they_should(self, covariance):
        train = training(3)
        samples = dkde.sample(train, 0.5, 60_000, covariance=covariance, random_state=4)
        expected = np.cov(train, rowvar=False, bias=True)
        expected = expected + 0.25 * matrix_of(covariance, train)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        actual = np.cov(samples, rowvar=False)
        np.testing.assert_allclose(actual / scale, expected / scale, atol=0.03)
        np.testing.assert_allclose(samples.mean(axis=0), train.mean(axis=0), atol=0.1)

    def test_a_rule_is_its_number(self):
        train = training(2)
        np.testing.assert_array_equal(
            dkde.sample(train, "scott", 9, covariance="full", random_state=1),
            dkde.sample(train, 40 ** (-1 / 6), 9, covariance="full", random_state=1),
        )

    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_dropped_features_stay_as_they_are(self, covariance):
        train = np.insert(training(3), 1, 0.1, axis=1)
        with pytest.warns(UserWarning, match="dropped: 1"):
            samples, sources = dkde.sample(
                train, 0.7, 4000, covariance=covariance, singular="drop", random_state=5,
                return_sources=True,
            )  # fmt: skip
        assert (samples[:, 1] == 0.1).all()
        others = [0, 2, 3]
        steps = whitened((samples - sources)[:, others], matrix_of(covariance, train[:, others]))
        radii = np.linalg.norm(steps, axis=1) / 0.7
        assert kstest(radii, radius_law("gaussian", 3)).pvalue > LEAST_P

    def test_samples_stay_in_the_subspace_of_the_training_rows(self):
        rng = np.random.default_rng(6)
        spanning = rng.normal(size=(2, 5))
        train = rng.normal(size=(50, 2)) @ spanning
        with pytest.warns(UserWarning, match="2 of 5 axes"):
            samples = dkde.sample(train, 1.0, 100, covariance="full", singular="drop")
        off = np.linalg.svd(spanning)[2][2:]
        np.testing.assert_allclose(samples @ off.T, 0, atol=1e-12)
        assert np.linalg.matrix_rank(samples - samples.mean(axis=0)) == 2


class TestCovarianceScale:
    @pytest.mark.parametrize("options", [{}, {"covariance": "full"}, {"kernel": "tophat"}])
    def test_zero_gives_training_rows(self, options):
        train = training(3)
        samples, sources = dkde.sample(
            train, 2.0, 30, covariance_scale=0, return_sources=True, random_state=0, **options
        )
        np.testing.assert_array_equal(samples, sources)
        assert {*map(bytes, samples)} <= {*map(bytes, train)}

    @pytest.mark.parametrize("options", [{}, {"covariance": "full"}, {"kernel": "tophat"}])
    def test_four_doubles_the_noise(self, options):
        one, four = (
            np.subtract(
                *dkde.sample(
                    training(3), 1.0, 30, covariance_scale=scale, return_sources=True,
                    random_state=0, **options,
                )
            )
            for scale in (1, 4)
        )  # fmt: skip
        np.testing.assert_allclose(four, 2 * one, rtol=1e-9, atol=1e-12)
        assert (one != 0).all()


class TestPicking:
    def test_sources_are_training_rows_each_as_often(self):
        train = training(2, 8)
        _, sources = dkde.sample(train, 1.0, 8000, random_state=0, return_sources=True)
        counts = np.bincount(rows_picked(sources, train), minlength=8)
        assert chisquare(counts).pvalue > LEAST_P

    @pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_as_often_as_their_weights_say(self, scale, lazy):
        train = training(2, 8)
        weights = np.array([0, 1, 2, 3, 0, 5, 0.25, 0])
        given_weights = da.from_array(weights * scale, chunks=3) if lazy else weights * scale
        _, sources = dkde.sample(
            train, 1.0, 8000, weights=given_weights, random_state=0, return_sources=True
        )
        counts = np.bincount(rows_picked(sources, train), minlength=8)
        counting = weights > 0
        assert (counts[~counting] == 0).all()
        expected = weights[counting] / weights.sum() * 8000
        assert chisquare(counts[counting], expected).pvalue > LEAST_P

    def test_one_row_that_counts_is_always_picked(self):
        train = training(2, 8)
        weights = np.zeros(8)
        weights[5] = 1e-200
        _, sources = dkde.sample(train, 1.0, 20, weights=weights, return_sources=True)
        np.testing.assert_array_equal(sources, np.broadcast_to(train[5], (20, 2)))

    def test_by_label(self):
        samples = dkde.sample("train", 1.0, 40, source="digits", label=3, covariance_scale=0)
        catalog = dkde.Catalog("digits")
        rows = catalog.rows("train")
        labels, values = rows.coordinates()["label"], rows.read(0, rows.n_rows, decode=True)
        threes = {*map(bytes, values[labels == 3].astype(float))}
        others = {*map(bytes, values[labels != 3].astype(float))}
        assert {*map(bytes, samples)} <= threes - others

    @pytest.mark.slow
    def test_by_label_of_an_opened_split_and_with_weights(self, tmp_path):
        dkde.import_dataset("digits", tmp_path / "digits.zarr")
        split = dkde.open_dataset(tmp_path / "digits.zarr")["train"]
        labels = split.label.values
        weights = np.zeros(len(labels))
        weights[np.flatnonzero(labels == 3)[4]] = 2
        weights[np.flatnonzero(labels == 5)] = 1
        _, sources = dkde.sample(split, 1.0, 9, label=3, weights=weights, return_sources=True)
        only = split.x.values[np.flatnonzero(labels == 3)[4]]
        np.testing.assert_array_equal(sources, np.broadcast_to(only, (9, 64)))


class TestSeeds:
    @pytest.mark.parametrize(
        "make",
        [lambda: 7, lambda: np.int64(7), lambda: np.random.RandomState(7),
         lambda: np.random.default_rng(7)],
    )  # fmt: skip
    @pytest.mark.parametrize("kernel", ["gaussian", "cosine", "epanechnikov"])
    def test_one_seed_gives_the_same_samples(self, make, kernel):
        a, b = (
            dkde.sample(training(3), 1.0, 20, kernel=kernel, random_state=make()) for _ in range(2)
        )
        np.testing.assert_array_equal(a, b)

    def test_a_generator_goes_on(self):
        rng = np.random.default_rng(7)
        a, b = (dkde.sample(training(3), 1.0, 20, random_state=rng) for _ in range(2))
        assert (a != b).all()

    def test_seeds_tell_samples_apart(self):
        a, b = (dkde.sample(training(3), 1.0, 20, random_state=seed) for seed in (1, 2))
        assert (a != b).all()

    @pytest.mark.parametrize("form", ["dask", "zarr"])
    def test_the_form_of_the_rows_does_not_count(self, form, tmp_path):
        train = training(3)
        lazy = (
            da.from_array(train, chunks=(7, 3))
            if form == "dask"
            else zarr.create_array(tmp_path / "x", data=train, chunks=(7, 3))
        )
        options = {"covariance": "full", "random_state": 5}
        np.testing.assert_allclose(
            dkde.sample(lazy, 1.0, 20, **options),
            dkde.sample(train, 1.0, 20, **options),
            rtol=1e-12,
        )


class TestPrincipalComponents:
    def test_samples_lie_in_the_affine_subspace(self):
        train = training(6)
        model = PCA(2, svd_solver="full").fit(train)
        samples, sources = dkde.sample(train, 0.7, 4000, pca=2, random_state=1, return_sources=True)
        components = model.transform(samples)
        np.testing.assert_allclose(model.inverse_transform(components), samples, atol=1e-10)
        rows_picked(sources, train)  # the training rows themselves, not what is left of them
        radii = np.linalg.norm(components - model.transform(sources), axis=1) / 0.7
        assert kstest(radii, radius_law("gaussian", 2)).pvalue > LEAST_P

    def test_the_covariance_is_that_of_the_components(self):
        train = training(6)
        model = PCA(3, svd_solver="full").fit(train)
        samples, sources = dkde.sample(
            train, 0.7, 4000, pca=3, covariance="full", random_state=1, return_sources=True
        )
        steps = model.transform(samples) - model.transform(sources)
        radii = np.linalg.norm(steps / np.sqrt(model.explained_variance_), axis=1) / 0.7
        assert kstest(radii, radius_law("gaussian", 3)).pvalue > LEAST_P

    def test_of_a_label_they_are_found_from_all_rows(self):
        samples = dkde.sample("train", 1.0, 9, source="digits", pca=5, label=3, random_state=0)
        rows = dkde.Catalog("digits").rows("train")
        model = PCA(5, svd_solver="full").fit(rows.read(0, rows.n_rows, decode=True).astype(float))
        back = model.inverse_transform(model.transform(samples))
        np.testing.assert_allclose(back, samples, atol=1e-9)


class TestReading:
    def test_only_the_chunks_of_the_rows_picked_are_computed(self):
        seen = []

        def see(block, block_info=None):
            if block_info and block.size:
                seen.append(block_info[0]["chunk-location"][0])
            return block

        train = np.arange(2000.0).reshape(1000, 2)
        lazy = da.from_array(train, chunks=(10, 2)).map_blocks(see, dtype=float, meta=train[:0])
        _, sources = dkde.sample(lazy, 1.0, 3, random_state=0, return_sources=True)
        wanted = {int(row) // 2 // 10 for row in sources[:, 0]}
        assert sorted(seen) == sorted(wanted)

    def test_a_row_that_is_not_finite_is_named(self):
        train = np.ones((5, 2))
        train[3, 1] = np.inf
        weights = [0, 0, 0, 1, 0]
        with pytest.raises(dkde.InputError, match="training row 3 has values that are not finite"):
            dkde.sample(da.from_array(train), 1.0, weights=weights)


class TestRefusals:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"kernel": "univariate_gaussian"}, "'univariate_gaussian' is no density in 3 dimens"),
            ({"n_samples": 0}, "n_samples is 0; it must be a whole number, at least 1"),
            ({"n_samples": 2.5}, "n_samples is 2.5"),
            ({"bandwidth": [1.0, 2.0]}, "samples need one bandwidth, and 2 are given"),
            ({"bandwidth": "wide"}, "bandwidth 'wide' is neither a number nor a rule"),
            ({"bandwidth": 0}, "bandwidth 0 must be a positive"),
            (
                {"covariance_scale": -1},
                "covariance_scale is -1; it must be finite and not",
            ),
            ({"covariance_scale": np.nan}, "covariance_scale is nan"),
            ({"covariance_scale": "1"}, "covariance_scale is '1'"),
            ({"random_state": "seed"}, "random_state 'seed' is no seed and no generator"),
            ({"kernel": "gauss"}, "kernel 'gauss' is not known"),
            ({"label": 3}, "label is 3, and the training rows have no labels"),
            ({"pca": 9}, "pca is 9; 40 rows of 3 features have 1 to 3 principal components"),
            ({"weights": np.zeros(40)}, "all weights are zero"),
            ({"weights": da.zeros(40, chunks=7)}, "all weights are zero"),
            ({"weights": np.ones(3)}, r"weights have shape \(3,\)"),
        ],
    )
    def test_arguments(self, keywords, message):
        with pytest.raises(dkde.InputError, match=message):
            dkde.sample(training(3), **({"bandwidth": 1.0} | keywords))

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_seeds_out_of_range(self, seed):
        with pytest.raises(dkde.InputError, match=f"random_state {seed}"):
            dkde.sample(training(3), 1.0, random_state=seed)

    def test_a_label_that_no_row_has(self):
        message = "no training row has the label 11; labels are: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"
        with pytest.raises(dkde.InputError, match=message):
            dkde.sample("train", 1.0, source="digits", label=11)


class TestOutput:
    def test_it_is_a_data_set(self, tmp_path):
        path = tmp_path / "new.zarr"
        samples, sources = dkde.sample(
            "train", 1.5, 44, source="digits", random_state=0, output=path, return_sources=True,
            pca=5, kernel="epanechnikov", covariance="diag", covariance_scale=2,
        )  # fmt: skip
        described = dkde.describe(path)
        assert set(described["splits"]) == {"samples", "sources"}
        for name in ("samples", "sources"):
            split = described["splits"][name]
            assert (split["rows"], split["features"]) == (44, 64)
            assert split["image_shape"] == [8, 8]
            assert split["labels"]["label"] > 1
        assert described["source_format"] == "samples"
        assert described["import_options"] == {
            "kernel": "epanechnikov", "bandwidth": 1.5, "covariance": "diag",
            "covariance_scale": 2, "pca": 5,
        }  # fmt: skip
        tree = dkde.open_dataset(path)
        np.testing.assert_array_equal(tree["samples"].x, samples)
        np.testing.assert_array_equal(tree["sources"].x, sources)
        rows = dkde.Catalog("digits").rows("train")
        group = zarr.open_group(path, mode="r")
        picked = group["picked/row"][:]
        np.testing.assert_array_equal(rows.read(0, rows.n_rows, decode=True)[picked], sources)
        labels = rows.coordinates()["label"][picked]
        for name in ("samples", "sources"):
            np.testing.assert_array_equal(tree[name].label, labels)
        assert group["pca/components"].shape == (5, 64)
        assert group["pca/mean"].shape == (64,)
        assert group["pca/variance"].shape == (5,)

    def test_it_can_be_scored_under(self, tmp_path):
        path = tmp_path / "new.zarr"
        samples = dkde.sample(training(3), 0.5, 30, random_state=0, output=path)
        actual = dkde.log_density(f"{path}::samples", training(3), 0.5).compute()
        np.testing.assert_allclose(actual, dkde.log_density(samples, training(3), 0.5), rtol=1e-9)

    def test_what_is_there_stays_until_it_may_be_overwritten(self, tmp_path):
        path = tmp_path / "new.zarr"
        dkde.sample(training(3), 0.5, 30, output=path)
        with pytest.raises(dkde.DataSetError, match="exists already"):
            dkde.sample(training(3), 0.5, 20, output=path)
        assert dkde.describe(path)["splits"]["samples"]["rows"] == 30
        dkde.sample(training(3), 0.5, 20, output=path, overwrite=True)
        assert dkde.describe(path)["splits"]["samples"]["rows"] == 20


def test_training_rows_are_not_overwritten(tmp_path):
    store = tmp_path / "samples.zarr"
    dkde.sample("train", 1.0, 5, source="digits", output=store)
    with pytest.raises(dkde.DataSetError, match="lies in it"):
        dkde.sample(f"{store}::samples", 1.0, 5, output=store, overwrite=True)
    assert dkde.describe(store)["splits"]["samples"]["rows"] == 5


def test_numpy_numbers_are_numbers(tmp_path):
    dkde.sample(
        "train", 1.0, 5, source="digits", output=tmp_path / "s.zarr",
        covariance_scale=np.float32(0.5), pca=np.int64(3), label=np.int64(7),
    )  # fmt: skip
    with pytest.raises(dkde.InputError, match=r"pca is 2\.5"):
        dkde.sample("train", 1.0, 5, source="digits", pca=2.5)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("samples.npy", False),
        ("samples.csv", True),
        *(
            pytest.param(name, named, marks=pytest.mark.slow)
            for name, named in [
                ("samples.csv", False), ("samples.parquet", False), ("samples.parquet", True),
            ]
        ),
    ],
)  # fmt: skip
def test_samples_as_a_file_serve_as_rows(tmp_path, monkeypatch, name, named):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(30, 2))
    train = pd.DataFrame(rows, columns=["a", "b"]) if named else rows
    drawn = dkde.sample(train, 0.5, 7, random_state=1, output=name)
    assert os.listdir() == [name]
    expected = dkde.log_density(drawn, rows, 1.0)
    found = dkde.log_density(name, train, 1.0)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    with pytest.raises(dkde.DataSetError, match=r"is there already; .* replace it \(overwrite\)"):
        dkde.sample(train, 0.5, 7, output=name)
    again = dkde.sample(train, 0.5, 3, random_state=2, output=name, overwrite=True)
    assert dkde.Catalog().rows(name).n_rows == len(again)
    assert os.listdir() == [name]
    with pytest.raises(dkde.DataSetError, match="is the source of the samples"):
        dkde.sample(name, 0.5, 7, output=name, overwrite=True)


def test_samples_have_no_other_file(tmp_path):
    with pytest.raises(dkde.InputError, match=r"is the name of a .json file"):
        dkde.sample(np.ones((3, 1)), 0.5, output=tmp_path / "samples.json")


@pytest.mark.slow
def test_samples_in_a_bucket(bucket):
    drawn = dkde.sample(np.ones((3, 1)), 0.5, 4, random_state=0, output=f"{bucket}/samples.npy")
    kept = Records(open_store(bucket), bucket).get("samples.npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(kept)), drawn)


def test_samples_are_exported(tmp_path):
    train = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 2)), columns=["a", "b"])
    store = tmp_path / "samples.zarr"
    drawn = dkde.sample(train, 0.5, 4, random_state=0, output=store)
    dkde.export(store, tmp_path / "s.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), drawn)
    dkde.export(store, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().startswith("a,b\n")
    found = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(found, drawn)
    with pytest.raises(dkde.DataSetError, match="is there already"):
        dkde.export(store, tmp_path / "s.csv")
    with pytest.raises(dkde.InputError, match=r"samples are exported as \.npy, \.csv, \.parquet"):
        dkde.export(store, tmp_path / "s.nc")
    dkde.import_dataset(str(tmp_path / "s.npy"), tmp_path / "d.zarr")
    with pytest.raises(dkde.InputError, match=r"d\.zarr: is a data set without samples"):
        dkde.export(tmp_path / "d.zarr", tmp_path / "d.csv")
