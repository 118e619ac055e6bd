"""Make the frozen stores of one release: ``python tests/frozen/make.py NAME``.

Run with the ``dkde`` of that release. The stores are made in /tmp/frozen, which has to be free, and
packed into ``tests/frozen/NAME.tar.xz`` together with the numbers that they must give.
"""

import os
import shutil
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

import dkde

ROOT = Path("/tmp/frozen")
# The time of all data, in whole seconds: archives keep no more.
TIME = 1_600_000_000
MISES = {"kernel": "vonmises_fisher"}


class Stop(Exception):
    """The end of a run that is left unfinished."""


def half(done: int, total: int) -> None:
    """Stop when half of the pairs are done."""
    if 2 * done >= total:
        raise Stop


def make_data() -> None:
    """Write data sets, and data of others: an array and places on the sphere."""
    rng = np.random.default_rng(0)
    os.mkdir("data")
    x = rng.normal(size=(120, 3))
    np.save("data/x.npy", x)
    np.save("data/q.npy", rng.normal(size=(40, 3)))
    dkde.import_dataset("data/x.npy", "data/d.zarr")
    dkde.import_dataset("data/x.npy", "data/o.zarr", order=True)
    dkde.index_dataset("data/o.zarr")
    places = {"lat": ("p", rng.uniform(-90, 90, 60)), "lon": ("p", rng.uniform(-180, 180, 60))}
    xr.Dataset(places).to_zarr("data/globe.zarr", mode="w", consolidated=False)
    for path in Path("data").rglob("*"):
        os.utime(path, (TIME, TIME))


def make_runs() -> dict[str, xr.Dataset]:
    """Write results, finished and not; return what each gives, by name."""
    os.mkdir("runs")
    d, globe = "data/d.zarr", dkde.Catalog("data/globe.zarr", ["lat", "lon"])
    grid = [0.3, 0.6, 1.2]
    found = {}
    found["score"] = dkde.score(
        "data/q.npy", "train", [0.3, 0.5], source=d, output="runs/score.zarr"
    )
    found["ordered"] = dkde.score(
        "data/q.npy", "train", [0.3, 0.5], source="data/o.zarr", output="runs/ordered.zarr"
    )
    found["sweep"] = dkde.sweep(
        train="train[:80]", valid="train[80:100]", test="train[100:]", bandwidths=grid, source=d,
        output="runs/sweep.zarr",
    )  # fmt: skip
    found["cv"] = dkde.cross_validate("train", grid, source=d, refine=True, output="runs/cv.zarr")
    found["sphere"] = dkde.score(
        "data/globe.zarr[:20]", "data/globe.zarr[20:]", ["500km", "1000km"], source=globe,
        output="runs/sphere.zarr", **MISES,
    )  # fmt: skip
    dkde.sample("train", 0.4, 20, source=d, random_state=0, output="runs/sample.zarr")

    def unfinished(**keywords):
        return dkde.score("data/q.npy", "train", [0.3], source=d, block_rows=10, **keywords)

    def unfinished_sphere(**keywords):
        return dkde.score(
            "data/globe.zarr[:20]", "data/globe.zarr[20:]", ["500km"], source=globe, block_rows=5,
            **MISES, **keywords,
        )  # fmt: skip

    for name, call in (("half", unfinished), ("sphere_half", unfinished_sphere)):
        found[name] = call()
        with suppress(Stop):
            call(output=f"runs/{name}.zarr", progress=half)
    os.chdir("runs")  # paths of this one start at another folder
    with dkde.init_only():
        dkde.sweep(
            train="train[:80]", valid="../data/q.npy", test=f"{ROOT}/data/d.zarr::train[80:]",
            bandwidths=grid, block_rows=20, source="../data/d.zarr", output="init.zarr",
        )  # fmt: skip
    os.chdir(ROOT)
    found["init"] = dkde.sweep(
        train="train[:80]", valid="data/q.npy", test="train[80:]", bandwidths=grid, block_rows=20,
        source=d,
    )  # fmt: skip
    return found


def expected(found: dict[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """The numbers of the results, named STORE/VARIABLE, and the rows of the data sets."""
    numbers = {
        f"{name}/{variable}": np.asarray(result[variable].values)
        for name, result in found.items()
        for variable in result.data_vars
        if "log_density" in str(variable) or "bandwidth" in str(variable)
    }
    stores = {"d": "data/d.zarr", "o": "data/o.zarr", "sample": "runs/sample.zarr"}
    for name, path in stores.items():
        rows = dkde.Catalog(path).rows("all")
        numbers[f"{name}/rows"] = np.asarray(rows.read(0, rows.n_rows, decode=True))
    return numbers


def packed(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose files they were."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    return member


def main(name: str) -> None:
    """Make and pack the stores."""
    target = Path(__file__).resolve().parent / f"{name}.tar.xz"
    ROOT.mkdir()
    os.chdir(ROOT)
    try:
        make_data()
        np.savez_compressed("expected.npz", **expected(make_runs()))
        with tarfile.open(target, "w:xz", format=tarfile.PAX_FORMAT) as archive:
            for member in ("data", "runs", "expected.npz"):
                archive.add(member, filter=packed)
    finally:
        shutil.rmtree(ROOT)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
