"""Pictures: exact pixels, and curves that stand whatever the numbers are."""

import os
import threading

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

import dkde
from dkde.drawing.curves import _value

GAP = 112


def sweep_result(mean, error=None, *, best=None, test=None):
    bandwidths = np.geomspace(0.1, 1.0, len(mean))
    variables = {
        "mean_log_likelihood": ("bandwidth", np.asarray(mean, float)),
        "standard_error": ("bandwidth", np.full(len(mean), 0.5) if error is None else error),
        "best_bandwidth": ((), bandwidths[1] if best is None else best),
    }
    if test is not None:
        variables |= {
            "test_mean_log_likelihood": ((), test),
            "test_standard_error": ((), np.nan if np.isinf(test) else 0.4),
        }
    return xr.Dataset(variables, {"bandwidth": bandwidths})


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of a drawn sweep."""
    from matplotlib.figure import Figure

    def draw(result, name="s.png"):
        figures = []
        save = Figure.savefig
        monkeypatch.setattr(
            Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
        )
        dkde.plot_sweep(result, tmp_path / name)
        return figures[0].axes[0]

    return draw


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


class TestSweep:
    def test_best_and_test_are_named(self, drawn):
        axes = drawn(sweep_result([-200, -154, -180], test=-156.0))
        assert legend(axes) == [
            "validation",
            "best at 0.316228: −154.00 ± 0.50 nats",
            "test there: −156.00 ± 0.40 nats",
        ]
        assert axes.get_xscale() == "log"
        assert "nats" in axes.get_ylabel()
        assert "bandwidth" in axes.get_xlabel()

    def test_the_test_rows_do_not_hide_the_best(self, drawn):
        axes = drawn(sweep_result([-200, -154, -180], test=-154.0))
        markers = {line.get_marker(): line for line in axes.get_lines()}
        assert markers["D"].get_markerfacecolor() == "none"

    def test_a_link_stays_and_a_pipe_is_written_into(self, tmp_path):
        (tmp_path / "there.png").write_text("old")
        link, pipe = tmp_path / "s.png", tmp_path / "p.png"
        link.symlink_to(tmp_path / "there.png")
        dkde.plot_sweep(sweep_result([-3, -2, -3]), link)
        assert link.is_symlink()
        assert (tmp_path / "there.png").read_bytes().startswith(b"\x89PNG")
        os.mkfifo(pipe)
        got = []
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
        reader.start()
        dkde.plot_pictures("train", pipe, rows=2, columns=2, source="digits")
        reader.join(timeout=30)
        assert got[0].startswith(b"\x89PNG")
        assert pipe.is_fifo()

    def test_no_density_and_no_number(self, drawn):
        result = sweep_result([-np.inf, -3.0, np.nan, -4.0], [np.nan, np.nan, np.nan, 0.2])
        axes = drawn(result)
        assert legend(axes)[-1].startswith("−∞")
        assert np.isfinite(axes.get_ylim()).all()

    def test_a_test_set_of_no_density(self, drawn):
        assert legend(drawn(sweep_result([-3, -2, -3], test=-np.inf)))[-1] == "test there: −∞ nats"

    def test_one_bandwidth(self, drawn):
        result = sweep_result([-3.0], best=0.1)
        assert legend(drawn(result))[0] == "validation"

    def test_an_unordered_grid_is_one_curve(self, drawn):
        result = sweep_result([-200, -154, -180]).isel(bandwidth=[2, 0, 1])
        x = drawn(result).get_lines()[0].get_xdata()
        assert (np.diff(x) > 0).all()

    @pytest.mark.slow
    def test_a_cross_validation(self, drawn, tmp_path):
        options = {"source": "digits", "pca": 5, "output": tmp_path / "s.zarr", "restart": True}
        for folds, label in ((4, "cross-validation, 4 folds"), ("loo", "leave one out")):
            result = dkde.cross_validate("valid", [4, 1, 2, 8], folds=folds, refine=True, **options)
            stored = xr.open_zarr(tmp_path / "s.zarr")
            for each in (result, stored):
                axes = drawn(each)
                assert legend(axes)[0] == label
                best = float(result.best_bandwidth)
                assert best not in (1, 2, 4, 8)
                assert legend(axes)[1].startswith(f"best at {best:g}: ")
                curve = axes.get_lines()[0].get_xdata()
                np.testing.assert_array_equal(curve, np.sort([1, 2, 4, 8, best]))

    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
    def test_formats(self, tmp_path, suffix):
        path = tmp_path / f"s.{suffix}"
        path.write_text("old")
        dkde.plot_sweep(sweep_result([-3, -2, -3]), path)
        assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
        assert list(tmp_path.iterdir()) == [path]

    def test_from_a_stored_result(self, tmp_path):
        sides = {"train": "train", "valid": "valid", "source": "digits"}
        dkde.sweep(**sides, bandwidths=[1, 2, 4], output=tmp_path / "s.zarr")
        dkde.plot_sweep(xr.open_zarr(tmp_path / "s.zarr"), tmp_path / "s.png")
        assert (tmp_path / "s.png").exists()

    def test_refused(self, tmp_path):
        result = sweep_result([-3, -2, -3])
        with pytest.raises(dkde.InputError, match=r"s\.gif: pictures are written as"):
            dkde.plot_sweep(result, tmp_path / "s.gif")
        with pytest.raises(dkde.DataSetError, match="there is no folder"):
            dkde.plot_sweep(result, tmp_path / "none" / "s.png")
        with pytest.raises(dkde.InputError, match="has no best_bandwidth"):
            dkde.plot_sweep(result.drop_vars("best_bandwidth"), tmp_path / "s.png")
        assert not list(tmp_path.iterdir())

    def test_values_have_the_digits_of_their_error(self):
        assert _value(-1.23456, 0.00123) == "−1.2346 ± 0.0012"
        assert _value(12345.6, 250.0) == "12346 ± 250"
        assert _value(np.nan, np.nan) == "undefined"


def save_pictures(folder, pictures, **options):
    np.save(folder / "x.npy", pictures.reshape(len(pictures), -1))
    dkde.import_dataset(folder / "x.npy", folder / "x.zarr", **options)
    return str(folder / "x.zarr")


def read(path, scale):
    """The pixels of a PNG, enlarged squares taken back to one pixel each."""
    pixels = np.rint(imread(path)[..., :3] * 255).astype(np.uint8)
    small = pixels[::scale, ::scale]
    np.testing.assert_array_equal(small.repeat(scale, axis=0).repeat(scale, axis=1), pixels)
    return small


class TestPictures:
    def test_grey_pixels_are_exact(self, tmp_path):
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)
        pictures[0, 0, :2] = 0, 255
        source = save_pictures(tmp_path, pictures, image_shape=(5, 4), scale=1 / 256)
        path = tmp_path / "p.png"
        n = dkde.plot_pictures("train", path, rows=3, columns=3, source=source)
        assert n == 7
        tiled = read(path, round(1000 / 16))
        assert tiled.shape == (3 * 6 + 1, 3 * 5 + 1, 3)
        np.testing.assert_array_equal(tiled[1:6, 6:10], pictures[1][..., None].repeat(3, -1))
        np.testing.assert_array_equal(tiled[13:18, 1:5], pictures[6][..., None].repeat(3, -1))
        # Gaps and the places of pictures that are not there.
        assert (tiled[0] == GAP).all()
        assert (tiled[:, 5] == GAP).all()
        assert (tiled[13:18, 6:] == GAP).all()

    @pytest.mark.parametrize("layout", ["CHW", "HWC"])
    def test_colours(self, tmp_path, layout):
        rng = np.random.default_rng(1)
        pictures = rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
        pictures[0, 0, 0] = 0, 255, 9
        stored = np.moveaxis(pictures, -1, 1) if layout == "CHW" else pictures
        source = save_pictures(tmp_path, stored, image_shape=stored.shape[1:], layout=layout)
        dkde.plot_pictures("train", tmp_path / "p.png", rows=1, columns=4, source=source)
        tiled = read(tmp_path / "p.png", round(1000 / 25))
        for i, picture in enumerate(pictures):
            np.testing.assert_array_equal(tiled[1:7, 6 * i + 1 : 6 * i + 6], picture)

    def test_one_scale_for_all(self, tmp_path):
        pictures = np.array([[0, 100], [50, 200]], np.uint8).reshape(2, 1, 2)
        source = save_pictures(tmp_path, pictures, image_shape=(1, 2))
        path = tmp_path / "p.png"
        dkde.plot_pictures("train[:1]", path, rows=1, columns=1, source=source)
        # White is the data set's 200, not the 100 of this picture.
        assert read(path, round(1000 / 4))[1, 1:3, 0].tolist() == [0, 128]

    def test_nan_is_black(self, tmp_path):
        pictures = np.array([[np.nan, 0.0, 1.0]]).reshape(1, 1, 3)
        source = save_pictures(tmp_path, pictures, image_shape=(1, 3))
        dkde.plot_pictures("train", tmp_path / "p.png", rows=1, columns=1, source=source)
        assert read(tmp_path / "p.png", 200)[1, 1:4, 0].tolist() == [0, 0, 255]

    def test_large_pictures_keep_their_size(self, tmp_path):
        path = tmp_path / "p.png"
        dkde.plot_pictures("train", path, rows=2, columns=200, source="digits")
        assert imread(path).shape[:2] == (2 * 9 + 1, 200 * 9 + 1)

    def test_refused(self, tmp_path):
        path = tmp_path / "p.png"
        np.save(tmp_path / "x.npy", np.zeros((3, 4)))
        with pytest.raises(dkde.InputError, match="--image-shape"):
            dkde.plot_pictures(str(tmp_path / "x.npy"), path)
        with pytest.raises(dkde.InputError, match="both are at least 1"):
            dkde.plot_pictures("train", path, rows=0, source="digits")
        with pytest.raises(dkde.InputError, match=r"written as \.png files"):
            dkde.plot_pictures("train", tmp_path / "p.pdf", source="digits")
        np.save(tmp_path / "y.npy", np.zeros((3, 4, 16)))
        with pytest.raises(dkde.InputError, match="several shapes"):
            dkde.plot_pictures(f"train + {tmp_path / 'y.npy'}", path, source="digits")
        assert not path.exists()


class TestSamples:
    def draw(self, folder, real, samples, **options):
        path = folder / "p.png"
        assert dkde.plot_samples(real, samples, path, **options) == len(samples)
        return path

    def test_real_rows_a_blank_row_and_samples(self, tmp_path):
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (9, 5, 4), dtype=np.uint8)
        pictures[8, 0, :2] = 0, 255
        source = save_pictures(tmp_path, pictures, image_shape=(5, 4), scale=1 / 256)
        samples = rng.integers(0, 256, (4, 20)) / 256
        path = self.draw(tmp_path, "train[:5]", samples, columns=3, source=source)
        tiled = read(path, round(1000 / 16))
        # Two rows of real ones, a blank one, and two of samples.
        assert tiled.shape == (5 * 6 + 1, 3 * 5 + 1, 3)
        np.testing.assert_array_equal(tiled[1:6, 6:10, 0], pictures[1])
        np.testing.assert_array_equal(tiled[7:12, 6:10, 0], pictures[4])
        assert (tiled[7:12, 11:] == GAP).all()
        assert (tiled[12:19] == GAP).all()
        below = np.rint(samples.reshape(-1, 5, 4) * 256)
        np.testing.assert_array_equal(tiled[19:24, 11:15, 0], below[2])
        np.testing.assert_array_equal(tiled[25:30, 1:5, 0], below[3])
        assert (tiled[25:30, 6:] == GAP).all()

    def test_arrays_are_like_rows_and_values_are_clipped(self, tmp_path):
        pictures = np.array([[0, 100], [50, 200]], np.uint8).reshape(2, 1, 2)
        source = save_pictures(tmp_path, pictures, image_shape=(1, 2))
        real, samples = np.array([[100.0, 150.0]]), np.array([[-70.0, 300.0], [np.nan, 200.0]])
        path = self.draw(tmp_path, real, samples, like="train", source=source)
        tiled = read(path, round(1000 / 7))
        assert tiled.shape == (7, 7, 3)  # no wider than there are samples
        assert tiled[1, 1:3, 0].tolist() == [128, 191]
        assert tiled[5, [1, 2, 4, 5], 0].tolist() == [0, 255, 0, 255]

    def test_colours(self, tmp_path):
        pictures = np.random.default_rng(1).integers(0, 256, (4, 3, 6, 5), dtype=np.uint8)
        pictures[0, 0, 0, :2] = 0, 255
        source = save_pictures(tmp_path, pictures, image_shape=(3, 6, 5), layout="CHW")
        path = self.draw(tmp_path, "train", pictures.reshape(4, -1), columns=4, source=source)
        tiled = read(path, round(1000 / 25))
        np.testing.assert_array_equal(tiled[:8], tiled[14:])
        np.testing.assert_array_equal(tiled[1:7, 7:12], np.moveaxis(pictures[1], 0, -1))

    def test_so_many_rows_of_each(self, tmp_path):
        path = tmp_path / "p.png"
        n = dkde.plot_samples("train", "valid", path, rows=2, columns=3, source="digits")
        assert n == 6
        assert read(path, round(1000 / 28)).shape == (5 * 9 + 1, 3 * 9 + 1, 3)

    def test_refused(self, tmp_path):
        path, samples = tmp_path / "p.png", np.zeros((2, 64))
        with pytest.raises(dkde.InputError, match=r"written as \.png files"):
            dkde.plot_samples("train", samples, tmp_path / "p.svg", source="digits")
        with pytest.raises(dkde.InputError, match="both are at least 1"):
            dkde.plot_samples("train", samples, path, columns=0, source="digits")
        with pytest.raises(dkde.InputError, match="not known to be pictures"):
            dkde.plot_samples(samples, samples, path)
        with pytest.raises(dkde.InputError, match="have 64 features, the samples 63 and"):
            dkde.plot_samples("train", samples[:, 1:], path, source="digits")
        assert not path.exists()
        rows = dkde.Catalog("digits").rows("train")
        dkde.check_picture(path, pictures=rows)
        np.save(tmp_path / "x.npy", np.zeros((3, 4)))
        with pytest.raises(dkde.InputError, match="--image-shape"):
            dkde.check_picture(path, pictures=dkde.Catalog(str(tmp_path / "x.npy")).rows("train"))
