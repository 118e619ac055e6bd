"""Inputs of others that refer to other files, and inputs that lack some of their chunks."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from dkde_cli.main import cli
from zarr.storage import LocalStore, MemoryStore

import dkde
from dkde.rows.places import Place

RNG = np.random.default_rng(7)
A, B = RNG.normal(size=(2, 60))


def write(path, **variables):
    with h5py.File(path, "w") as file:
        file.create_dataset("row", data=np.arange(60.0)).make_scale("row")
        for name, values in variables.items():
            made = file.create_dataset(name, data=values) if not callable(values) else None
            made = values(file, name) if made is None else made
            if made is not None:
                made.dims[0].attach_scale(file["row"])


def virtual(names, dataset="a"):
    def make(file, name):
        layout = h5py.VirtualLayout(shape=(60,), dtype="f8")
        for number, source in enumerate(names):
            layout[20 * number : 20 * number + 20] = h5py.VirtualSource(
                source, dataset, shape=(20,)
            )
        return file.create_virtual_dataset(name, layout, fillvalue=0.0)

    return make


def parts(folder="."):
    for number in range(3):
        with h5py.File(Path(folder, f"part{number}.h5"), "w") as file:
            file["a"] = A[20 * number : 20 * number + 20]


def raw(file, name):
    A.tofile("raw.bin")
    return file.create_dataset(name, (60,), "f8", external=[("raw.bin", 0, 480)])


def linked(target):
    def make(file, name):
        file[name] = h5py.ExternalLink(target, "/a")

    return make


def nested(file, name):
    """A virtual dataset of a virtual one, whose source is reached by a link."""
    parts()
    write("inner.h5", a=virtual([f"part{n}.h5" for n in range(3)]))
    with h5py.File("link.h5", "w") as link:
        link["soft"] = h5py.SoftLink("/hard")
        link["hard"] = h5py.ExternalLink("inner.h5", "/a")
    layout = h5py.VirtualLayout(shape=(60,), dtype="f8")
    layout[:] = h5py.VirtualSource("link.h5", "soft", shape=(60,))
    return file.create_virtual_dataset(name, layout)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASK_LOGGING", "{}")


def of_parts(file, name):
    parts()
    return virtual([f"part{n}.h5" for n in range(3)])(file, name)


def counted(file, name):
    """A virtual dataset whose sources are numbered, however many there are."""
    parts()
    unlimited, simple = h5py.h5s.UNLIMITED, h5py.h5s.create_simple
    space, source = simple((60,), (unlimited,)), simple((20,))
    space.select_hyperslab((0,), (unlimited,), (20,), (20,))
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_virtual(space, b"part%b.h5", b"a", source)
    double = h5py.h5t.IEEE_F64LE
    return h5py.Dataset(
        h5py.h5d.create(file.id, name.encode(), double, simple((60,), (unlimited,)), options)
    )


@pytest.mark.parametrize(
    ("make", "files"),
    [
        (of_parts, ["part0.h5", "part1.h5", "part2.h5"]),
        (counted, ["part0.h5", "part1.h5", "part2.h5"]),
        (raw, ["raw.bin"]),
        (nested, ["inner.h5", "link.h5", "part0.h5", "part1.h5", "part2.h5"]),
    ],
)
def test_a_change_in_a_file_that_is_read_is_a_change(make, files):
    write("a.h5", a=make, b=B)
    place = Place(os.path.abspath("a.h5"), "hdf5")
    before, other = place.stamp(("a",)), place.stamp(("b",))
    assert len(other) == 3  # as ever, so that runs which were begun before go on
    assert [os.path.basename(path) for path, *_ in sorted(before[3])] == files
    for file in files:
        status = os.stat(file)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
        assert place.stamp(("a",)) != before
        assert place.stamp(("b",)) == other
        before = place.stamp(("a",))


def test_a_link_to_another_file():
    write("outer.h5", b=B, a=linked("inner.h5"))
    write("inner.h5", a=A)
    place = Place(os.path.abspath("outer.h5"), "hdf5")
    (path, *before) = place.stamp(("a", "b"))[3][0]
    assert path == os.path.abspath("inner.h5")
    write("inner.h5", a=A + 1)
    assert place.stamp(("a", "b"))[3][0] != (path, *before)


def test_a_run_does_not_go_on_with_other_rows():
    write("a.nc", a=of_parts, b=B)
    call = {"query": np.zeros((4, 2)), "train": "a.nc", "bandwidth": 1.0, "output": "r.zarr"}
    catalog = dkde.Catalog(None, ["a", "b"])
    calls = 0

    def stop(done, total):
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dkde.score(**call, source=catalog, panel_rows=20, progress=stop)
    with h5py.File("part2.h5", "a") as file:
        file["a"][:] += 1
    with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
        dkde.score(**call, source=catalog, panel_rows=20)


def test_a_file_of_a_virtual_dataset_that_is_lost_is_said():
    write("a.nc", a=of_parts, b=B)
    Path("part1.h5").unlink()
    with pytest.warns(UserWarning, match=r"1 of 3 files that a, b are read from are missing"):
        dkde.log_density("a.nc", "a.nc", 1.0, source=dkde.Catalog(None, ["a", "b"]))


def store(version=3):
    data = xr.Dataset({"a": ("row", A), "b": ("row", B)})
    # Of version 2 the fill value is what xarray takes for missing.
    fill = {"fill_value": 0.0} if version == 3 else {"_FillValue": -9.0}
    data.to_zarr(
        "a.zarr", zarr_format=version, consolidated=False,
        encoding={name: {"chunks": (10,), **fill} for name in "ab"},
    )  # fmt: skip


def chunk(version, name, number):
    return f"{name}/c/{number}" if version == 3 else f"{name}/{number}"


SCORE = [
    "score",
    "a.zarr",
    "--features",
    "a,b",
    "--query",
    "a.zarr",
    "--bandwidth",
    "1",
    "--nan",
    "drop",
]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_lost_chunks_are_counted(version):
    store(version)
    result = CliRunner().invoke(cli, SCORE)
    assert result.exit_code == 0
    assert "not in the store" not in result.stderr
    for number in (1, 4):
        Path("a.zarr", chunk(version, "a", number)).unlink()
    found = [
        line for line in CliRunner().invoke(cli, SCORE).stderr.splitlines()
        if "not in the store" in line
    ]  # fmt: skip
    assert len(found) == 1
    lost = ", ".join(chunk(version, "a", number) for number in (1, 4))
    assert f"variable a: 2 chunks are not in the store ({lost}) and were read as the" in found[0]
    holes = A.copy()
    holes[10:20] = holes[40:50] = 0 if version == 3 else np.nan
    filled = np.stack([holes, B], axis=1)
    call = {"bandwidth": 1.0, "nan": "drop"}
    with pytest.warns(UserWarning, match="2 chunks"):
        found = dkde.score(
            query=B.reshape(30, 2), train="a.zarr", source=dkde.Catalog(None, ["a", "b"]), **call
        )
    expected = dkde.score(query=B.reshape(30, 2), train=filled, **call)
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    with pytest.warns(UserWarning, match="variable a: 2 chunks"):
        dkde.describe("a.zarr")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("attributes", [{}, {"_FillValue": -9.0}])
def test_lost_chunks_of_an_opened_array(version, where, attributes):
    place = MemoryStore() if where == "memory" else "x.zarr"
    array = zarr.create_array(
        place, shape=(60, 1), chunks=(10, 1), dtype="f8", fill_value=0, zarr_format=version,
        config={"write_empty_chunks": False}, attributes=attributes,
    )  # fmt: skip
    array[:20] = A[:20, None]
    values = np.r_[A[:20], np.zeros(40)][:, None]
    with pytest.warns(UserWarning, match="4 chunks are not in the store") as w:
        found = dkde.log_density(np.zeros((3, 1)), array, 1.0)
    assert len(w) == 1
    np.testing.assert_array_equal(found, dkde.log_density(np.zeros((3, 1)), values, 1.0))


@pytest.mark.parametrize("side", ["query_weights", "weights"])
def test_lost_chunks_of_opened_weights_with_a_mark(side):
    array = zarr.create_array(
        "w.zarr", shape=(60,), chunks=(10,), dtype="f8", fill_value=2.0,
        attributes={"_FillValue": -9.0},
    )  # fmt: skip
    array[:20] = np.full(20, 3.0)
    call = {"query": A[:, None], "train": B[:, None], "bandwidth": 1.0}
    values = np.r_[np.full(20, 3.0), np.full(40, 2.0)]
    with pytest.warns(UserWarning, match="4 chunks are not in the store"):
        found = dkde.score(**call, **{side: array})
    expected = dkde.score(**call, **{side: values})
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    np.testing.assert_array_equal(found.mean_log_likelihood, expected.mean_log_likelihood)


def test_an_opened_array_with_a_mark_that_is_lost_is_refused(tmp_path):
    array = zarr.create_array(
        tmp_path / "x.zarr", shape=(60, 1), chunks=(10, 1), dtype="f8",
        attributes={"_FillValue": -9.0},
    )  # fmt: skip
    array[:] = A[:, None]
    shutil.rmtree("x.zarr")
    with pytest.raises(dkde.DataSetError, match="was removed after it was opened"):
        dkde.log_density(np.zeros((3, 1)), array, 1.0)


def test_a_run_reads_an_opened_array_with_a_mark_no_more_than_one_without(monkeypatch):
    """What it is known by is the times of its files, and not its values."""
    read, counts = LocalStore.get, [0]

    async def counting(self, key, *arguments, **options):
        counts[-1] += "/c/" in f"/{key}"
        return await read(self, key, *arguments, **options)

    monkeypatch.setattr(LocalStore, "get", counting)
    for name, attributes in (("plain", {}), ("marked", {"_FillValue": -9.0})):
        array = zarr.create_array(
            f"{name}.zarr", shape=(60, 1), chunks=(10, 1), dtype="f8", attributes=attributes
        )
        array[:] = A[:, None]
        counts.append(0)
        dkde.score(np.zeros((3, 1)), array, 1.0, output=f"{name}-scores.zarr")
    assert counts[1] == counts[2] > 0


@pytest.mark.alone
@pytest.mark.slow
def test_lost_chunks_that_workers_read_are_said_here():
    store()
    for number in (0, 5):
        Path("a.zarr", chunk(3, "b", number)).unlink()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        pytest.warns(UserWarning, match="variable b: 2 chunks") as w,
    ):
        dkde.score(
            query=np.zeros((40, 2)), train="a.zarr", bandwidth=1.0,
            source=dkde.Catalog(None, ["a", "b"]), block_rows=10, panel_rows=20,
        )  # fmt: skip
    assert len(w) == 1


def test_lost_chunks_in_a_bucket(bucket):
    url = f"{bucket}/a.zarr"
    store()
    from dkde.stores.store import Records, open_store

    records = Records(open_store(url), url)
    shutil.rmtree("a.zarr/a/c")
    for path in Path("a.zarr").rglob("*"):
        if path.is_file():
            records.put(str(path.relative_to("a.zarr")), path.read_bytes())
    with pytest.warns(UserWarning, match="variable a: 6 chunks"):
        dkde.score(
            query=np.zeros((4, 2)), train=url, bandwidth=1.0,
            source=dkde.Catalog(None, ["a", "b"]),
        )  # fmt: skip


@pytest.mark.parametrize("way", ["link", "virtual", "raw", "further on"])
def test_files_that_lead_to_a_pipe_are_refused(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with h5py.File("a.h5", "w") as file:
        file["b"] = np.arange(6.0)
        if way == "raw":
            file.create_dataset("a", (6,), "f8", external=[("pipe", 0, 48)])
        elif way == "virtual":
            layout = h5py.VirtualLayout((6,), "f8")
            layout[:] = h5py.VirtualSource("pipe", "a", (6,))
            file.create_virtual_dataset("a", layout)
        else:
            target = "pipe" if way == "link" else "other.h5"
            file["a"] = h5py.ExternalLink(target, "a")
    with h5py.File("other.h5", "w") as file:
        file["a"] = h5py.ExternalLink("pipe", "a")
    with pytest.raises(dkde.DataSetError, match=r"leads to .*pipe, which is no regular file"):
        dkde.score("a.h5", "a.h5", 1.0, features=["b"])
