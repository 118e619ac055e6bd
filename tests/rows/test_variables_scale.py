"""A grid under millions of points of other people's files, within the memory that the plan says."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

N = 2_000_000
PACKED = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -32768}

CHILD = """
import json, re, sys
from pathlib import Path
import numpy as np
import dkde
from dkde.workers.cluster import warm_up

grid, train, result, h, call = *sys.argv[1:5], json.loads(sys.argv[5])
call["source"] = dkde.Catalog(features=call.pop("features"))
h = h if h.endswith("km") else float(h)
before = warm_up()
cost = dkde.plan(query=grid, train=train, bandwidths=[h], baseline=False, **call)
scored = dkde.score(grid, train, [h], **call)
# Not getrusage's, which begins with what the process held that started this one.
status = Path("/proc/self/status").read_text()
after = int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024
np.save(result, scored.log_density.values)
planned = cost["block_bytes"] * cost["threads"] + cost["resident_bytes"]
print(json.dumps({"planned": planned, "taken": after - before, "dims": scored.log_density.dims}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The points in three ways, and a grid of a degree."""
    folder = tmp_path_factory.mktemp("points")
    rng = np.random.default_rng(0)
    centres = rng.uniform(-1, 1, (50, 2)) * [60, 150]
    values = centres[rng.integers(0, 50, N)] + rng.normal(size=(N, 2)) * [4, 6]
    points = xr.Dataset({"y": ("obs", values[:, 0].astype(np.float32)), "x": ("obs", values[:, 1])})
    hdf5 = {"x": {**PACKED, "chunksizes": (100_000,)}, "y": {"chunksizes": (150_000,)}}
    points.to_netcdf(folder / "hdf5.nc", engine="h5netcdf", encoding=hdf5)
    chunks = {"x": {**PACKED, "chunks": (100_000,)}, "y": {"chunks": (150_000,)}}
    for version in (2, 3):
        points.to_zarr(
            folder / f"{version}.zarr", zarr_format=version, encoding=chunks, consolidated=False
        )
    axes = {"y": np.arange(-89.5, 90), "x": np.arange(-179.5, 180)}
    xr.Dataset(coords=axes).to_netcdf(folder / "grid.nc", engine="h5netcdf")
    return folder


def grids(folder, names, bandwidth, **call):
    """The grid under points in each of some files, within the memory that the plan says."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    found = []
    for name in names:
        result = folder / "r.npy"
        process = subprocess.run(
            [
                sys.executable, "-c", CHILD, folder / "grid.nc", folder / name, result, bandwidth,
                json.dumps(call),
            ],
            env=environment, check=True, capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
        told = json.loads(process.stdout)
        print(name, told)
        assert told["dims"] == ["bandwidth", *call["features"]]
        assert 0 < told["taken"] <= told["planned"]
        found.append(np.load(result))
    return found


def test_a_grid_under_millions_of_points(folder):
    names = ("hdf5.nc", "2.zarr", "3.zarr")
    found = grids(folder, names, "0.2", features=["y", "x"], covariance="diag")
    assert found[0].shape == (1, 180, 360)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    # Some of its points by the formula, under what xarray itself decodes.
    with xr.open_dataset(folder / "hdf5.nc") as points:
        rows = np.stack([points.y.values.astype(float), points.x.values], axis=1)
    scales = rows.std(axis=0, ddof=1)
    for i, j in ((90, 180), (10, 20), (120, 300)):
        place = np.array([-89.5 + i, -179.5 + j])
        exponents = -(((rows - place) / scales) ** 2).sum(axis=1) / 2 / 0.2**2
        log_norm = np.log(2 * np.pi) + 2 * np.log(0.2) + np.log(scales).sum() + np.log(N)
        expected = np.logaddexp.reduce(exponents) - log_norm
        np.testing.assert_allclose(found[0][0, i, j], expected, rtol=1e-9)


def test_a_globe_under_millions_of_points(tmp_path):
    """Clusters on both poles and on the date line among others; cells of exact areas."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 3))
    centres /= np.linalg.norm(centres, axis=1)[:, None]
    centres[:3] = [[0, 0, 1], [0, 0, -1], [-1, 0, 0]]
    places = centres[rng.integers(0, 40, N)] + 0.1 * rng.normal(size=(N, 3))
    x, y, z = (places / np.linalg.norm(places, axis=1)[:, None]).T.astype(np.float32)
    north, east = ({"units": f"degrees_{way}"} for way in ("north", "east"))
    points = xr.Dataset(
        {"lat": ("obs", np.degrees(np.arcsin(z)), north)}
        | {"lon": ("obs", np.degrees(np.arctan2(y, x)), east)}
    )
    points.to_netcdf(tmp_path / "hdf5.nc", engine="h5netcdf")
    points.chunk(obs=100_000).to_zarr(tmp_path / "3.zarr", consolidated=False)
    axes = {"lat": ("lat", np.arange(-89.5, 90), north)}
    axes |= {"lon": ("lon", np.arange(-179.5, 180), east)}
    xr.Dataset(coords=axes).to_netcdf(tmp_path / "grid.nc", engine="h5netcdf")
    call = {"features": ["lat", "lon"], "kernel": "vonmises_fisher"}
    found = grids(tmp_path, ("hdf5.nc", "3.zarr"), "300km", **call)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    edges = np.sin(np.deg2rad(np.arange(-90, 91)))
    areas = np.diff(edges)[:, None] * np.deg2rad(1)
    assert float((np.exp(found[0][0]) * areas).sum()) == pytest.approx(1, abs=1e-3)
