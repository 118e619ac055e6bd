"""Densities of results: values, names, units, and what float64 does not hold."""

import numpy as np
import pytest
import xarray as xr

import dkde
from dkde.errors import InputError
from dkde.estimation.density_units import inverse_product


@pytest.fixture(scope="module")
def quakes():
    rng = np.random.default_rng(0)
    x, y, t = rng.normal(size=(3, 40))
    return xr.Dataset(
        {
            "x": ("event", x, {"units": "km"}),
            "y": ("event", y, {"units": "km"}),
            "when": ("event", t, {"units": "days since 1970-01-01"}),
        }
    )


def held_out(rows, **options):
    return dkde.score(rows.isel(event=slice(20)), rows.isel(event=slice(20, None)), 1.0, **options)


def test_values_name_units_and_label(quakes):
    result = held_out(quakes)
    found = dkde.density(result)
    np.testing.assert_allclose(found, np.exp(result.log_density))
    assert found.name == "density"
    assert found.dims == result.log_density.dims
    assert found.attrs == {"long_name": "probability density", "units": "km-2 day-1"}
    notes = result.log_density.attrs
    assert notes["units"] == "1"
    assert notes["comment"] == "natural logarithm of a density in km-2 day-1"
    assert np.exp(result.log_density).name == "log_density"


def test_of_a_path_and_of_lazy_log_densities(quakes, tmp_path):
    result = held_out(quakes, output=tmp_path / "r.zarr")
    xr.testing.assert_identical(dkde.density(tmp_path / "r.zarr").load(), dkde.density(result))
    rows = quakes.isel(event=slice(20)), quakes.isel(event=slice(20, None))
    lazy = dkde.density(dkde.log_density(*rows, 1.0))
    assert lazy.chunks is not None
    assert lazy.attrs["units"] == "km-2 day-1"
    np.testing.assert_allclose(lazy, dkde.density(result)[0], rtol=1e-12)


def test_units_where_axes_are_mixed(quakes):
    found = dkde.cross_validate(quakes, [1.0], pca=2)
    assert "units" not in dkde.density(found).attrs  # km and days in one component
    found = dkde.cross_validate(quakes[["x", "y"]], [1.0], pca=1)
    assert dkde.density(found).attrs["units"] == "km-1"
    assert dkde.density(held_out(quakes, covariance="full")).attrs["units"] == "km-2 day-1"


def test_an_estimator_and_the_sphere_name_units(quakes):
    fitted = dkde.KernelDensity().fit(quakes)
    assert fitted.score_samples(quakes).attrs["density_units"] == "km-2 day-1"
    places = np.random.default_rng(1).uniform(-60, 60, (9, 2))
    found = dkde.score(places[:4], places[4:], 0.5, kernel="vonmises_fisher")
    assert dkde.density(found).attrs["units"] == "sr-1"


def test_what_float64_does_not_hold():
    rows = np.array([[0.0] * 200, [1.0] * 200])
    large = dkde.score(rows, rows[1:] + 1e-9, [1e-3])
    with pytest.warns(UserWarning, match="1 densities are too large for float64 and are inf; 1 "):
        found = dkde.density(large)
    assert found.values.tolist() == [[0.0, np.inf]]
    with pytest.warns(UserWarning, match="too small for float64 and are 0"):
        relative = dkde.density(large, relative=True)
    assert relative.values.tolist() == [[0.0, 1.0]]
    assert relative.attrs["units"] == "1"


def test_zero_densities_are_zero_without_a_warning():
    found = dkde.score(np.array([[0.0], [9.0]]), np.array([[0.0]]), 1.0, kernel="tophat")
    np.testing.assert_allclose(dkde.density(found), [[0.5, 0.0]], rtol=1e-12)


def test_refused():
    with pytest.raises(InputError, match="is no result of dkde"):
        dkde.density(xr.Dataset())
    with pytest.raises(InputError, match="is called 'x' and not 'log_density'"):
        dkde.density(xr.DataArray([1.0], name="x"))
    rows = np.eye(3)
    with pytest.warns(UserWarning, match="no density"):
        scores = dkde.score(rows + 0.1, rows, 1.0, kernel="univariate_gaussian")
    with pytest.raises(InputError, match="they have no densities"):
        dkde.density(scores)


@pytest.mark.parametrize(
    ("units", "inverse"),
    [
        (["km", "km", "day"], "km-2 day-1"),
        (["degrees_north", "degrees_east"], "degree-2"),
        (["kg/m3"], "kg-1 m3"),
        (["m s-1", "s"], "m-1"),
        (["m^2", "m**-2"], "1"),
        (["%"], "percent-1"),
        (["1", ""], "1"),
        (["2 km"], None),
        (["m3/(kg s)"], None),
        ([None, "km"], None),
    ],
)
def test_units_that_udunits_parses(units, inverse):
    assert inverse_product(units) == inverse


def test_the_folder_of_that_name_is_still_a_module():
    import dkde.estimation.scoring as scoring

    assert scoring.score is dkde.score
    assert dkde.estimation.scoring is scoring


def test_a_damaged_mean_is_refused_in_one_line(tmp_path):
    dkde.score(np.zeros((3, 1)), np.ones((5, 1)), 1.0, output=tmp_path / "r.zarr")
    (chunk,) = (tmp_path / "r.zarr/mean_log_likelihood/c").iterdir()
    chunk.write_bytes(b"no chunk")
    with pytest.raises(dkde.DataSetError, match=r"cannot be decoded|could not be read"):
        dkde.density(tmp_path / "r.zarr")
