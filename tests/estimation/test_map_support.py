"""Maps along features with bounds and periods: cells end there, and masses add up to one."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.errors import InputError

SUPPORT = {"hour": dkde.Periodic(24), "depth": (0, None)}


def table(n=200):
    rng = np.random.default_rng(4)
    return pd.DataFrame({"hour": rng.normal(0, 3, n) % 24, "depth": rng.exponential(2, n)})


def test_densities_are_those_of_the_support_and_counts_add_up():
    found = dkde.density_map(table(), 0.3, cell=0.25, support=SUPPORT, expected=True)
    assert float(found.expected_count.sum()) == pytest.approx(200, rel=1e-6)
    assert (found.hour.min(), found.hour.max(), found.depth.min()) == (0.125, 23.875, 0.125)
    at = xr.broadcast(found.density, found.hour, found.depth)
    query = pd.DataFrame({"hour": at[1].values.ravel(), "depth": at[2].values.ravel()})
    expected = np.exp(dkde.log_density(query, table(), 0.3, support=SUPPORT))
    np.testing.assert_allclose(at[0].values.ravel(), expected, rtol=1e-8)


def test_three_axes_and_two_bounds():
    data = table().assign(share=np.random.default_rng(1).beta(0.8, 2, 200))
    support = {**SUPPORT, "share": (0, 1)}
    found = dkde.density_map(
        data, {"hour": 1, "depth": 0.8, "share": 0.1}, support=support, expected=True,
        cell={"hour": 1, "depth": 0.5, "share": 0.1},
    )  # fmt: skip
    assert float(found.mass) == pytest.approx(1, rel=1e-6)
    assert found.sizes["share"] == 10


def test_bounds_are_edges_whatever_the_cell():
    data = pd.DataFrame({"x": np.random.default_rng(1).uniform(1.3, 9.1, 300)})
    found = dkde.density_map(data, 0.5, cell=0.4, support={"x": (1.3, None)}, expected=True)
    assert float(found.x[0]) == pytest.approx(1.5)
    assert float(found.mass) == pytest.approx(1, rel=1e-6)
    found = dkde.density_map(data, 0.5, cell=0.4, support={"x": (None, 9.1)}, expected=True)
    assert float(found.x[-1]) == pytest.approx(8.9)
    # The last of cells that do not fit between two bounds is narrower, which a line says.
    with pytest.warns(UserWarning, match=r"cells differ in width \(along x\)"):
        found = dkde.density_map(data, 0.5, cell=0.4, support={"x": (1.3, 9.1)}, expected=True)
    assert float(found.cell_length.sum()) == pytest.approx(7.8)


def test_around_zero_a_period_is_from_its_half_below():
    lon = (np.random.default_rng(1).uniform(90, 270, 300) + 180) % 360 - 180
    found = dkde.density_map(
        pd.DataFrame({"lon": lon}), 5, cell=2, support={"lon": dkde.Periodic(360)}
    )
    assert (found.lon[0], found.lon[-1], found.sizes["lon"]) == (-179, 179, 180)
    assert float(found.mass) == pytest.approx(1, rel=1e-9)
    # Rows that fill no period have a map of their own range.
    near = pd.DataFrame({"lon": np.linspace(-10, 5, 9)})
    found = dkde.density_map(near, 1, cell=1, support={"lon": dkde.Periodic(360)})
    assert (found.lon[0], found.lon[-1]) == (-12.5, 7.5)


def test_rows_outside_are_refused_or_left_out():
    data = table()
    data.loc[5, "depth"] = -1
    with pytest.raises(InputError, match="row 5, depth is -1, below 0"):
        dkde.density_map(data, 0.3, cell=1, support=SUPPORT)
    found = dkde.density_map(
        data, 0.3, cell=0.25, support=SUPPORT, outside="drop", expected=True, levels=80,
        levels_from="sample",
    )  # fmt: skip
    expected = dkde.density_map(
        data.drop(5), 0.3, cell=0.25, support=SUPPORT, expected=True, levels=80,
        levels_from="sample",
    )  # fmt: skip
    np.testing.assert_allclose(found.density, expected.density)
    np.testing.assert_allclose(found.level_density, expected.level_density)
    assert float(found.expected_count.sum()) == pytest.approx(199, rel=1e-6)
    assert int(found.n_outside_train) == 1


def test_a_template_ends_at_the_bounds():
    like = xr.Dataset(coords={"hour": np.arange(24)[::-1], "depth": np.arange(0, 20, 0.25)})
    # Centres on the bound: half of the first cell is beyond it.
    found = dkde.density_map(table(), 0.5, like=like, support=SUPPORT)
    assert float(found.cell_area.sel(depth=0)) == 0.125
    assert float(found.mass) == pytest.approx(1, abs=1e-3)


def test_a_place_at_both_ends_of_a_template_counts_once():
    hour, depth = np.arange(0, 24.5, 0.5), np.arange(0.125, 20, 0.25)
    like = xr.Dataset(coords={"hour": hour, "depth": depth})
    found = dkde.density_map(table(), 1, like=like, support=SUPPORT, expected=True)
    assert float(found.expected_count.sum()) == pytest.approx(200, abs=1e-3)
    assert found.cell_area.sel(hour=[0, 12, 24]).values.tolist() == [0.0625, 0.125, 0.0625]


@pytest.mark.parametrize("turned", [1, -1])
def test_the_date_line_of_a_template_counts_once(turned):
    train = pd.DataFrame({"lat": [10.0, 12], "lon": [179.0, -178]})
    lat, lon = np.arange(-89, 90, 2.0), np.arange(-180, 181, 2.0)[::turned]
    like = xr.Dataset(coords={"lat": lat, "lon": lon})
    ask = {"kernel": "vonmises_fisher", "expected": True, "levels": 95}
    found = dkde.density_map(train, "400km", like=like, **ask)
    assert float(found.expected_count.sum()) == pytest.approx(2, rel=1e-6)
    expected = dkde.density_map(train, "400km", cell=2, **ask)
    np.testing.assert_allclose(found.level_area, expected.level_area, rtol=0.03)
    twice = xr.Dataset(coords={"lat": lat, "lon": np.arange(-184, 185, 2.0)})
    with pytest.raises(InputError, match="cells along lon span 370, more than once around 360"):
        dkde.density_map(train, "400km", like=twice, kernel="vonmises_fisher")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"box": {"depth": (-5, 9)}}, "box: depth is from -5 to 9, beyond its support"),
        ({"box": {"hour": (-12, 24)}}, "hour spans 36, more than its period of 24"),
        (
            {"like": xr.Dataset(coords={"hour": [1, 2], "depth": [-1, 1]})},
            "like: depth is from -1 to 1, beyond its support, .* select the cells within it",
        ),
        (
            {"like": xr.Dataset(coords={"hour": np.arange(-2, 24), "depth": [1, 2]})},
            "like: cells along hour span 26, more than once around 24",
        ),
        ({"covariance": "full"}, "not diagonal mixes features"),
        ({"support": {"time": (0, 1)}}, "support is given for 'time'"),
        ({"support": None, "outside": "drop"}, "give support too"),
        ({"support": {"depth": (100, 200)}, "outside": "drop"}, "no training row has depth within"),
    ],
)
def test_what_cannot_be_is_one_line(said, words):
    with pytest.raises(InputError, match=words) as refused:
        dkde.density_map(table(), 0.5, **{"support": SUPPORT, **said})
    assert "\n" not in str(refused.value)


def test_a_run_keeps_its_support(tmp_path):
    path, output = tmp_path / "rows.parquet", tmp_path / "map.zarr"
    table().to_parquet(path)
    with dkde.init_only():
        dkde.density_map(str(path), 0.5, cell=1, support=SUPPORT, output=output)
    dkde.run_part(output, 0, 1)
    found = dkde.finish(output)
    expected = dkde.density_map(table(), 0.5, cell=1, support=SUPPORT)
    np.testing.assert_array_equal(found.density, expected.density)
