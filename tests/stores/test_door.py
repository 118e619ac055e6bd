"""Stores whose chunks run code when they are decoded: nothing of them is."""

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numcodecs.pickles
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli
from zarr.core.buffer import default_buffer_prototype

import dkde
from dkde.rows.places import Place
from dkde.stores.door import Checks
from dkde.stores.harmless import CodecError, check_metadata
from dkde.stores.store import open_store

PICKLE = {"id": "pickle", "protocol": 5}
# What numcodecs decodes by a pickle, wherever it stands among the codecs.
HOSTILE = {
    "object": {"dtype": "|O", "filters": [PICKLE], "compressor": None},
    "behind text": {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, PICKLE], "compressor": None},
    "compressor": {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": PICKLE},
    "numbers": {"dtype": "<f8", "filters": None, "compressor": PICKLE},
}


class Payload:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that is made when a payload is decoded, as by numcodecs below 0.16.6."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    return tmp_path / "decoded"


def array_of(form, n=4):
    return {
        "zarr_format": 2, "shape": [n], "chunks": [n], "order": "C", "fill_value": None,
        **HOSTILE[form],
    }  # fmt: skip


def plant(folder, name, form, mark, n=4):
    """An array of Zarr v2 whose only chunk is a payload."""
    array = Path(folder, name)
    array.mkdir(parents=True)
    (array / ".zarray").write_text(json.dumps(array_of(form, n)))
    (array / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["row"], "dtype": "bool"}')
    (array / "0").write_bytes(pickle.dumps(Payload(mark)))


def plant_in_list(folder, name, form):
    """Name an array in the consolidated metadata of a group of Zarr v3."""
    place = Path(folder, "zarr.json")
    root = json.loads(place.read_text())
    listed = root.setdefault("consolidated_metadata", {"kind": "inline", "must_understand": False})
    listed.setdefault("metadata", {})[name] = {
        **array_of(form), "attributes": {}, "dimension_separator": "/"
    }  # fmt: skip
    place.write_text(json.dumps(root))


def foreign(form, layout, mark):
    """A foreign store that holds a hostile array beside ordinary ones."""
    version = 3 if layout == "listed" else 2
    values = {"a": ("row", np.arange(4.0)), "b": ("row", np.ones(4))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that are consolidated in version 3
        xr.Dataset(values).to_zarr("f.zarr", zarr_format=version, consolidated=layout != "plain")
    plant("f.zarr", "x", form, mark)
    if layout == "listed":
        plant_in_list("f.zarr", "x", form)
    elif layout == "consolidated":
        place = Path("f.zarr/.zmetadata")
        listed = json.loads(place.read_text())
        listed["metadata"]["x/.zarray"] = array_of(form)
        listed["metadata"]["x/.zattrs"] = {"_ARRAY_DIMENSIONS": ["row"]}
        place.write_text(json.dumps(listed))


def refused(mark, *arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert not mark.exists()
    assert result.exit_code == 2, result.output
    assert len(result.output.splitlines()) == 1, result.output
    return result.output


@pytest.mark.sampled(3)
@pytest.mark.parametrize("layout", ["plain", "consolidated", "listed"])
@pytest.mark.parametrize("form", HOSTILE)
def test_a_foreign_store_is_refused(form, layout, mark):
    foreign(form, layout, mark)
    sides = ["--query", "f.zarr", "--bandwidth", 1]
    for arguments in (
        ["info", "f.zarr"],
        ["info", "f.zarr", "--features", "x"],
        ["plan", "f.zarr", "--features", "x"],
        ["score", "f.zarr", "--features", "x", *sides],
        ["score", "f.zarr", "--features", "a,b", *sides],
        ["sweep", "f.zarr", "--features", "a,b", "--valid", "f.zarr"],
    ):
        said = refused(mark, *arguments)
        assert "f.zarr/x: its codec is 'pickle', which is not known to be harmless" in said
    refused(mark, "import", "f.zarr", "imported.zarr")
    refused(mark, "index", "f.zarr")
    for name in ("x", ["a", "b"]):
        with pytest.raises(CodecError, match="pickle"):
            dkde.log_density("f.zarr", "f.zarr", 1.0, source=dkde.Catalog(None, name))
    assert not mark.exists()


def commands(store):
    """What reads a result."""
    return (
        ["verify", store],
        ["report", store, "-o", "r.html"],
        ["export", store, "r.nc"],
        ["finish", store],
        ["status", store],
        ["compare", store, store],
        ["run-part", store, "--part", 0, "--parts", 2],
        ["info", store],
        ["index", store],
    )


@pytest.fixture
def runs(mark):
    """A complete result; one that was only begun has no arrays."""
    rng = np.random.default_rng(0)
    np.savez("a.npz", train=rng.normal(size=(40, 2)), valid=rng.normal(size=(20, 2)))
    dkde.import_dataset("a.npz", "a.zarr")
    call = {"query": "valid", "train": "train", "bandwidth": 1.0, "source": "a.zarr"}
    dkde.score(**call, output="whole.zarr")
    return ["whole.zarr"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("form", HOSTILE)
def test_a_result_is_refused(form, runs, mark):
    for store in runs:
        plant_in_list(store, "row", form)
        shutil.rmtree(Path(store, "row"), ignore_errors=True)
        plant(store, "row", form, mark)
        for arguments in commands(store):
            said = refused(mark, *arguments)
            assert f"{store}/row: its codec is 'pickle'" in said, arguments


@pytest.mark.slow
@pytest.mark.parametrize("form", HOSTILE)
def test_an_array_of_a_result_that_is_in_no_list_is_refused(form, runs, mark):
    shutil.rmtree("whole.zarr/log_density_error")
    plant("whole.zarr", "log_density_error", form, mark)
    said = refused(mark, "verify", "whole.zarr")
    assert "log_density_error" in said


@pytest.mark.sampled(4)
@pytest.mark.parametrize("form", HOSTILE)
def test_a_data_set_is_refused(form, runs, mark):
    plant_in_list("a.zarr", "train/label", form)
    plant("a.zarr", "train/label", form, mark)
    for arguments in (
        ["info", "a.zarr"],
        ["plan", "a.zarr"],
        ["index", "a.zarr"],
        ["score", "a.zarr", "--query", "valid", "--bandwidth", 1],
    ):
        assert "its codec is 'pickle'" in refused(mark, *arguments)
    with pytest.raises(CodecError):
        dkde.open_dataset("a.zarr")
    assert not mark.exists()


ROWS = np.arange(8.0).reshape(4, 2)
# What each call would decode; x is an opened array of four values, bare or within lists.
CALLS = {
    "rows": lambda x: dkde.log_density(x, x, 1.0),
    "weights": lambda x: dkde.log_density(ROWS, ROWS, 1.0, weights=x),
    "groups": lambda x: dkde.log_density(ROWS, ROWS, 1.0, groups=np.arange(4), train_groups=x),
    "bandwidth": lambda x: dkde.log_density(ROWS, ROWS, x),
    "bandwidths": lambda x: dkde.sweep(train=ROWS, valid=ROWS + 1, bandwidths=x),
    "bandwidth on the sphere": lambda x: dkde.log_density(ROWS, ROWS, x, kernel="vonmises_fisher"),
    "covariance": lambda x: dkde.log_density(ROWS, ROWS, 1.0, covariance=x),
    "folds": lambda x: dkde.cross_validate(ROWS, [1.0, 2.0], folds=x),
    "cv": lambda x: dkde.KernelDensityCV(bandwidths=[1.0, 2.0], cv=x).fit(ROWS),
    "splits": lambda x: dkde.KernelDensityCV(bandwidths=[1.0, 2.0], cv=iter([(x, x)])).fit(ROWS),
    "planned": lambda x: dkde.plan(query=ROWS, train=ROWS, bandwidths=x),
    "fit": lambda x: dkde.KernelDensity().fit(x),
    "sample_weight": lambda x: dkde.KernelDensity().fit(ROWS, sample_weight=x),
    "scored": lambda x: dkde.KernelDensity().fit(ROWS).score_samples(x),
    "batches": lambda x: dkde.import_rows(x, "batches.zarr"),
    "labels": lambda x: dkde.import_rows([(ROWS, x)], "labels.zarr"),
    "protocol": lambda x: dkde.follow_protocol(
        "gan2014", train=np.zeros((10_000, 2)), valid=ROWS, test=ROWS, bandwidths=x
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", ["bare", "in a list", "in lists", "in an array of objects"])
@pytest.mark.parametrize("call", CALLS)
def test_an_opened_array_is_refused(call, form, mark):
    plant(".", "x.zarr", "compressor", mark)
    given = zarr.open_array("x.zarr", mode="r")
    if form == "in an array of objects":
        array, given = given, np.empty(1, object)
        given[0] = array
    elif form != "bare":
        given = [given, given] if form == "in a list" else [(given,), [given]]
    with pytest.raises(CodecError, match=r"x\.zarr: its codec is 'pickle'"):
        CALLS[call](given)
    assert not mark.exists()


def test_a_bucket_is_refused_and_asked_no_more_for_it(mark, bucket, served):
    foreign("behind text", "consolidated", mark)
    url = f"{bucket}/f.zarr"
    store = open_store(url)
    for path in Path("f.zarr").rglob("*"):
        if path.is_file():
            content = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(
                path.read_bytes()
            )
            zarr.core.sync.sync(store.set(str(path.relative_to("f.zarr")), content))
    for arguments in (
        ["info", url],
        ["plan", url, "--features", "a,b"],
        ["score", url, "--features", "x", "--query", url, "--bandwidth", 1],
    ):
        served.clear()
        assert f"{url}/x: its codec is 'pickle'" in refused(mark, *arguments)
        assert served.count("GET", "/x/") == 0


V3 = {"zarr_format": 3, "node_type": "array", "data_type": "float64", "codecs": [{"name": "bytes"}]}
SHARDS = {
    "name": "sharding_indexed",
    "configuration": {"codecs": [{"name": "pickle"}], "index_codecs": [{"name": "bytes"}]},
}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"codecs": [{"name": "bytes"}, {"name": "pickle"}]}, "its codec is 'pickle'"),
        ({"codecs": ["numcodecs.pickle"]}, "its codec is 'numcodecs.pickle'"),
        ({"codecs": [SHARDS]}, "its codec is 'pickle'"),
        ({"codecs": [{"configuration": {}}]}, "its codec is 'None'"),
        ({"data_type": "object"}, "its data type is 'object'"),
        ({"data_type": {"name": "pickled"}}, "its data type is"),
        ({"data_type": {"name": "struct", "configuration": {"fields": [[]]}}}, "its data type is"),
        ({"data_type": {"name": "struct", "configuration": {"fields": 5}}}, "its data type is"),
        ({"filters": [PICKLE]}, "its codec is 'pickle'"),
        ({"dtype": "|O"}, "its values are Python objects"),
        ({"dtype": [["a", "<f8"], ["b", "|O"]]}, "its dtype is"),
        ({"dtype": {"a": 1}}, "its dtype is"),
    ],
)
def test_what_is_not_known_is_refused(fields, fault):
    with pytest.raises(CodecError, match=fault):
        check_metadata("s", "x/zarr.json", json.dumps(V3 | fields).encode())
    group = {"node_type": "group", "consolidated_metadata": {"metadata": {"g/x": V3 | fields}}}
    with pytest.raises(CodecError, match=f"^s/t/g/x: {fault}"):
        check_metadata("s", "t/zarr.json", json.dumps(group).encode())


def test_metadata_that_nest_too_deeply_are_refused():
    with pytest.raises(CodecError, match="nested too deeply"):
        check_metadata("s", "x/zarr.json", b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_what_zarr_and_xarray_write_is_known(version, tmp_path):
    values = {
        "f": ("row", np.arange(6.0)), "i": ("row", np.arange(6, dtype=np.int8)),
        "b": ("row", np.arange(6) > 2), "t": ("row", np.array(list("abcdef"))),
        "o": ("row", np.array(list("abcdef"), object)), "c": ("row", np.arange(6) + 1j),
        "s": ("row", np.array([b"a"] * 6)), "d": ("row", np.arange(6).astype("M8[s]")),
    }  # fmt: skip
    xr.Dataset(values).to_zarr(tmp_path / "a.zarr", zarr_format=version)
    store = open_store(tmp_path / "a.zarr", read_only=True)
    found = xr.open_zarr(store)
    for name, (_, expected) in values.items():
        np.testing.assert_array_equal(found[name].values, expected)


def test_filters_of_numcodecs_are_known(tmp_path):
    filters = [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)]
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(6,), dtype="<i4", zarr_format=2, filters=filters,
        compressors=numcodecs.LZMA(),
    )  # fmt: skip
    array[:] = np.arange(6)
    assert Place(str(tmp_path / "a.zarr"), "zarr").stamp(())
    store = open_store(tmp_path / "a.zarr", read_only=True)
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[:], np.arange(6))


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated")
def test_a_template_is_opened_through_the_door(tmp_path, mark):
    like = xr.Dataset(coords={"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0]})
    like.to_zarr(tmp_path / "like.zarr", zarr_format=2, consolidated=False)
    rows = xr.Dataset({name: ("row", np.arange(5.0)) for name in "xy"})
    found = dkde.density_map(rows, 1.0, like=tmp_path / "like.zarr")
    assert (found.sizes["x"], found.sizes["y"]) == (3, 2)
    shutil.rmtree(tmp_path / "like.zarr/x")
    plant(tmp_path / "like.zarr", "x", "numbers", mark)
    with pytest.raises(dkde.InputError, match="its codec is 'pickle'"):
        dkde.density_map(rows, 1.0, like=tmp_path / "like.zarr")
    assert not mark.exists()


def test_a_chunk_is_checked_by_all_arrays_that_it_may_belong_to(tmp_path):
    """The chunk c/0/0 of the array a, or the chunk 0 of the array a/c/0."""
    plain = {"zarr_format": 2, "chunks": [2, 2], "dtype": "<f8", "compressor": None}
    packed = {**plain, "compressor": {"id": "blosc"}}
    listed = {"metadata": {"a/.zarray": plain, "a/c/0/.zarray": packed}}
    checks = Checks("x.zarr")
    content = default_buffer_prototype().buffer.from_bytes
    checks.passed(".zmetadata", content(json.dumps(listed).encode()), None)
    chunk = bytes(4) + (2**30).to_bytes(4, "little") + bytes(8)
    with pytest.raises(dkde.DataSetError, match="would unpack to 1 GiB"):
        checks.passed("a/c/0/0", content(chunk), None)


def test_shards_whose_index_cannot_be_followed_are_refused():
    def metadata(*codecs):
        sharding = {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [2], "codecs": [{"name": "bytes"}], "index_codecs": list(codecs)
            },
        }  # fmt: skip
        grid = {"name": "regular", "configuration": {"chunk_shape": [4]}}
        fields = {"chunk_grid": grid, "data_type": "float64", "codecs": [sharding]}
        return check_metadata("x.zarr", "a/zarr.json", json.dumps(fields).encode())["a"]

    assert metadata({"name": "bytes"}, {"name": "crc32c"}).index_bytes == 36
    assert metadata({"name": "bytes"}).index_bytes == 32
    big = {"name": "bytes", "configuration": {"endian": "big"}}
    for codecs, reason in (
        ((big, {"name": "crc32c"}), "not little-endian"),
        (({"name": "bytes"}, {"name": "zstd"}), "packed by bytes, zstd"),
    ):
        with pytest.raises(CodecError, match=reason):
            metadata(*codecs)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("key", ["zarr.json", "log_density/c/0/0", "log_density/zarr.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_in_a_store_are_not_read(tmp_path, key, kind):
    dkde.score(np.ones((3, 1)), np.zeros((5, 1)), 1.0, output=tmp_path / "r.zarr")
    path = tmp_path / "r.zarr" / key
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(dkde.DataSetError, match=r"is a pipe or a device|it is missing"):
        dkde.verify(tmp_path / "r.zarr")
    if key != "log_density/zarr.json":  # which the list of variables stands for
        with pytest.raises(dkde.DataSetError, match=r"is a pipe or a device|it is missing"):
            dkde.export(tmp_path / "r.zarr", tmp_path / "r.csv")
