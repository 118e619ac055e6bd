"""``dkde sample``: new rows, as a data set and as a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import dkde

H = ("--bandwidth", "1", "--seed", "0")


def split(store, name):
    return dkde.open_dataset(store)[name]


class TestDataSet:
    def test_holds_what_the_library_draws(self, run, folder):
        result = run("sample", "digits", *H, "-n", 9, "-o", "s.zarr")
        assert result.stdout == ""
        assert result.stderr == "9 samples in s.zarr::samples\n"
        samples, sources = dkde.sample(
            "train", 1.0, 9, random_state=0, source="digits", return_sources=True
        )
        np.testing.assert_array_equal(split("s.zarr", "samples")["x"], samples)
        np.testing.assert_array_equal(split("s.zarr", "sources")["x"], sources)

    def test_options_reach_the_library(self, run, folder):
        options = ["--kernel", "tophat", "--covariance", "diag", "--singular", "drop"]
        options += ["--covariance-scale", 0.5, "--label", 7, "--train", "train[:500]"]
        with pytest.warns(UserWarning, match="features that vary"):
            expected = dkde.sample(
                "train[:500]", "scott", 5, kernel="tophat", covariance="diag", singular="drop",
                covariance_scale=0.5, label=7, random_state=3, source="digits",
            )  # fmt: skip
        arguments = ["--bandwidth", "scott", "--seed", 3, "-n", 5, *options]
        result = run("sample", "digits", *arguments, "-o", "s.zarr")
        assert "Warning: the density is one on" in result.stderr
        samples = split("s.zarr", "samples")
        np.testing.assert_array_equal(samples["x"], expected)
        assert set(samples["label"].values) == {7}

    def test_is_one_like_any_other(self, run, folder):
        run("sample", "digits", "--bandwidth", 2, "--seed", 0, "-n", 200, "-o", "s.zarr")
        described = json.loads(run("info", "s.zarr", "--json").stdout)
        assert list(described["splits"]) == ["samples", "sources"]
        assert described["splits"]["samples"]["image_shape"] == [8, 8]
        assert "drawn with" in run("info", "s.zarr").stdout
        run("show", "s.zarr", "--split", "samples", "-o", "x.png")
        assert Path("x.png").read_bytes().startswith(b"\x89PNG")
        arguments = ["--train", "s.zarr::samples", "--bandwidths", "1,3,9", "--no-plot", "--json"]
        assert json.loads(run("sweep", "digits", *arguments).stdout)["best_bandwidth"] == 3.0

    def test_without_pictures(self, run, npz):
        run("sample", npz, *H, "--pca", 2, "-o", "s.zarr")
        assert split("s.zarr", "samples")["x"].shape == (44, 3)

    def test_replaced_if_so_said(self, run, refused, npz):
        run("sample", npz, *H, "-o", "s.zarr")
        assert "--overwrite" in refused("sample", npz, *H, "-o", "s.zarr")
        run("sample", npz, *H, "-o", "s.zarr", "-n", 3, "--overwrite")
        assert split("s.zarr", "samples").sizes["sample"] == 3


def pictures(path, columns):
    """The pictures of 8 x 8 in a tiling, (rows, columns, 8, 8), 0 to 255."""
    pixels = np.rint(imread(path)[..., 0] * 255)
    scale = round(1000 / (columns * 9 + 1))
    small = pixels[::scale, ::scale][1:, 1:]
    return small.reshape(-1, 9, columns, 9)[:, :8, :, :8].transpose(0, 2, 1, 3)


@pytest.fixture(scope="module")
def digits():
    rows = dkde.Catalog("digits").rows("all")
    values = rows.read(0, rows.n_rows, decode=True)
    grey = np.rint(values.astype(float) / 16 * 255).reshape(-1, 8, 8)
    return grey, rows.coordinates()["label"]


class TestPicture:
    def test_of_scikit_learns_example(self, run, folder, digits):
        arguments = ["--train", "all", "--pca", 15, "--bandwidth", 3.79269019073225, "--seed", 0]
        result = run("sample", "digits", *arguments, "--plot", "s.png")
        assert result.stderr == "s.png: real rows above, 44 samples below\n"
        tiles = pictures("s.png", 11)
        assert tiles.shape == (9, 11, 8, 8)
        np.testing.assert_array_equal(tiles[:4].reshape(-1, 8, 8), digits[0][:44])
        assert len(np.unique(tiles[4])) == 1
        samples, sources = dkde.sample(
            "all", 3.79269019073225, 44, pca=15, random_state=0, source="digits",
            return_sources=True,
        )  # fmt: skip
        expected = np.rint(np.clip(samples / 16, 0, 1) * 255).reshape(-1, 8, 8)
        np.testing.assert_array_equal(tiles[5:].reshape(-1, 8, 8), expected)
        run("sample", "digits", *arguments, "--plot", "s.png", "--above", "sources")
        above = pictures("s.png", 11)[:4].reshape(-1, 64)
        np.testing.assert_array_equal(above, np.rint(sources / 16 * 255))

    def test_of_a_label(self, run, folder, digits):
        grey, labels = digits
        arguments = ["--train", "all", "--label", 7, "-n", 10, "--columns", 5]
        run("sample", "digits", *H, *arguments, "--plot", "s.png", "-o", "s.zarr")
        tiles = pictures("s.png", 5)
        assert tiles.shape == (5, 5, 8, 8)
        np.testing.assert_array_equal(tiles[:2].reshape(-1, 8, 8), grey[labels == 7][:10])
        assert Path("s.zarr").is_dir()

    def test_many_are_not_all_drawn(self, run, folder):
        result = run("sample", "digits", *H, "-n", 300, "--columns", 10, "--plot", "s.png")
        assert result.stderr == "s.png: real rows above, 200 of 300 samples below\n"
        assert len(pictures("s.png", 10)) == 41


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "say --output STORE, --plot FILE, or both"),
            (("--plot", "s.svg"), "s.svg: pictures are written as .png files"),
            (("--plot", "none/s.png"), "there is no folder"),
            (("--output", "none/s.zarr"), "there is no folder"),
            (("--output", "a", "--plot", "a"), "--output and --plot are one place"),
            (("-o", "s", "--bandwidth", "1,2"), "--bandwidth '1,2' is not one number"),
            (("-o", "s", "--bandwidth", "0"), "--bandwidth: bandwidth 0 must be"),
            (("-o", "s", "--bandwidth", "scot"), "write 0.2, or scott or silverman"),
            (("-o", "s", "--label", "77"), "no training row has the label 77"),
            (("-o", "s", "--kernel", "foo"), "'--kernel'"),
            (("-o", "s", "--kernel", "univariate_gaussian"), "is no density in 64 dimensions"),
            (("-o", "s", "--covariance", "none.npy"), "--covariance none.npy: there is no"),
            (("-o", "s", "--covariance", "diag"), "use --singular drop"),
            (("-o", "s", "--covariance-scale", "-1"), "'--covariance-scale'"),
            (("-o", "s", "--pca", "65"), "pca is 65"),
            (("-o", "s", "-n", "0"), "'-n'"),
            (("-o", "s", "--seed", "-1"), "'--seed'"),
            (("--plot", "s.png", "--columns", "0"), "'--columns'"),
            (("-o", "s", "--metric", "euclidean"), "--metric"),
        ],
    )
    def test_options(self, refused, folder, arguments, words):
        assert words in refused("sample", "digits", *H, *arguments)

    def test_rows_that_are_no_pictures(self, refused, npz):
        line = refused("sample", npz, *H, "--plot", "s.png", "-o", "s.zarr")
        assert "not known to be pictures" in line

    def test_labels_that_are_not_there(self, refused, npz):
        line = refused("sample", npz, *H, "--label", 7, "-o", "s.zarr")
        assert "have no labels" in line
