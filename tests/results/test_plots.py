"""Plots on axes: they return them, take styles, and write nothing unasked."""

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure

import dkde

PLACES = np.random.default_rng(0).normal(size=(40, 2)) * [12, 15] + [20, 10]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    """No display, an empty folder, and no figures left open."""
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".zarr", ".png")]


@pytest.fixture(scope="module")
def swept():
    return dkde.cross_validate(PLACES, [4.0, 8.0, 16.0], folds=4)


@pytest.fixture(scope="module")
def mapped():
    lat = ("lat", np.linspace(-40, 60, 11), {"units": "degrees_north"})
    lon = ("lon", np.linspace(-30, 60, 13), {"units": "degrees_east"})
    grid = xr.Dataset(coords={"lat": lat, "lon": lon})
    return dkde.score(grid[["lat", "lon"]], PLACES, ["500km", "900km"], kernel="vonmises_fisher")


def test_curves_on_own_axes_and_on_given_ones(swept, tmp_path):
    axes = dkde.plot_sweep(swept)
    assert pyplot.gcf() is axes.get_figure()
    mine = Figure().add_subplot()
    assert dkde.plot_sweep(swept, mine) is mine
    assert dkde.plot_sweep({"a": swept, "b": swept}, ax=mine) is mine
    assert list(tmp_path.iterdir()) == []
    # A file leaves the session's figures alone.
    n_figures = len(pyplot.get_fignums())
    dkde.plot_sweep(swept, path="s.png")
    dkde.plot_sweep(swept, "t.png")
    assert {path.name for path in tmp_path.iterdir()} == {"s.png", "t.png"}
    assert len(pyplot.get_fignums()) == n_figures


def test_styles_are_matplotlibs(swept):
    axes = dkde.plot_sweep(swept, c="black", lw=3, label="mine")
    line = axes.get_lines()[0]
    assert (line.get_color(), line.get_linewidth()) == ("black", 3)
    assert axes.get_legend().get_texts()[0].get_text() == "mine"


def test_names_are_no_formulas(swept):
    axes = dkde.plot_sweep({"_first": swept, "$\\frac{x$ y$": swept})
    axes.get_figure().canvas.draw()
    labels = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert labels[0].startswith("_first: best at")
    assert len(labels) == 2


def test_curves_refused(swept, mapped):
    with pytest.raises(dkde.InputError, match="ax is int"):
        dkde.plot_sweep(swept, 3)
    with pytest.raises(dkde.InputError, match="two paths"):
        dkde.plot_sweep(swept, "a.png", path="b.png")
    with pytest.raises(dkde.InputError, match="no results"):
        dkde.plot_sweep({})
    with pytest.raises(dkde.InputError, match=r"^B has no best_bandwidth"):
        dkde.plot_sweep([swept, mapped])
    best = mapped.assign(best_bandwidth=500.0)
    with pytest.raises(dkde.InputError, match="in km and units of the data"):
        dkde.plot_sweep([swept, best])


def test_maps(mapped, tmp_path):
    axes = dkde.plot_map(mapped, bandwidth=900)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lon (degrees_east)", "lat (degrees_north)")
    mesh = axes.collections[0]
    np.testing.assert_allclose(
        mesh.get_array().reshape(11, 13), mapped.log_density.sel(bandwidth=900)
    )
    # The colours end below the highest, and the bar says so.
    assert mesh.get_clim()[1] - mesh.get_clim()[0] == pytest.approx(15)
    assert "sr-1" in axes.get_figure().axes[1].get_ylabel()
    styled = dkde.plot_map(mapped, cmap="magma", vmin=-3)
    assert styled.collections[0].get_clim()[0] == -3
    dkde.plot_map(mapped, path="m.png")
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.slow
def test_maps_of_other_grids():
    rows = xr.Dataset(
        {"x": ("x", np.arange(5.0)), "t": ("t", np.arange(3.0)), "y": ("y", np.arange(4.0))}
    )
    train = np.random.default_rng(1).normal(size=(20, 3))
    found = dkde.log_density(rows.set_coords(rows.data_vars)[["x", "t", "y"]], train, 1.0)
    axes = dkde.plot_map(found)
    assert (axes.get_ylabel(), axes.get_xlabel(), axes.get_title()) == ("t", "y", "x = 0")
    with pytest.raises(dkde.InputError, match="a map is of two dims or more"):
        dkde.plot_map(dkde.score(train[:4] + 0.1, train, 1.0))


@pytest.mark.slow
def test_a_map_of_no_density_and_of_missing_ones():
    values = np.array([[0.0, -np.inf, np.nan], [-1.0, -2.0, -np.inf]])
    for shown in (values, np.full((2, 3), -np.inf), np.full((2, 3), np.nan)):
        array = xr.DataArray(shown, dims=("y", "x"), coords={"bandwidth": 1.0}, name="log_density")
        axes = dkde.plot_map(array)
        axes.get_figure().canvas.draw()
        drawn = axes.collections[0].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn).reshape(2, 3), np.isnan(shown))


@pytest.mark.slow
def test_pictures_of_a_split_and_of_rows_of_it(tmp_path):
    dkde.import_dataset("digits", tmp_path / "d.zarr")
    split = dkde.open_dataset(tmp_path / "d.zarr")["test"]
    axes = dkde.plot_pictures(split.isel(sample=[3, 1, 5]), columns=3, cmap="gray")
    shown = axes.get_images()[0].get_array()[..., 0]
    scale = shown.shape[1] // 28
    small = shown[::scale, ::scale]
    for i, number in enumerate((3, 1, 5)):
        pixels = split["x"].isel(sample=number).values.reshape(8, 8)
        np.testing.assert_array_equal(
            small[1:9, 9 * i + 1 : 9 * i + 9], np.rint(pixels / 16 * 255).astype(np.uint8)
        )
    assert dkde.plot_pictures(split, tmp_path / "p.png", rows=2, columns=2) == 4
    mine = Figure().add_subplot()
    assert dkde.plot_pictures(split, mine) is mine
    assert dkde.plot_samples("train", split["x"], ax=mine, source=str(tmp_path / "d.zarr")) is mine
    with pytest.raises(dkde.InputError, match="leave out the path"):
        dkde.plot_pictures(split, tmp_path / "p.png", ax=mine)
    with pytest.raises(dkde.InputError, match="not known to be pictures"):
        dkde.plot_pictures(split.isel(feature=slice(5)).to_dataset().drop_attrs())
