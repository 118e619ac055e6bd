"""Bytes by key, and where they lie."""

import sys
import threading
import warnings

import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, ZipStore

from dkde.errors import DataSetError, InputError
from dkde.inputs.selectors import Catalog
from dkde.stores.store import Records, is_remote, open_store, refuse_credentials, stamps


@pytest.fixture(params=["folder", "memory"])
def records(request, tmp_path):
    store = LocalStore(tmp_path / "r") if request.param == "folder" else MemoryStore()
    records = Records(store, "r")
    for folder in ("", "a/c", "run", "running"):
        records.make(folder)
    return records


def test_what_is_put_is_there(records):
    assert records.get("a/b.json") is None
    assert not records.has("a/b.json")
    records.put("a/b.json", b"1")
    records.put("a/b.json", b"22")
    records.put("a/c/d", b"")
    assert records.get("a/b.json") == b"22"
    assert records.has("a/b.json")
    assert sorted(records.keys("a")) == ["a/b.json", "a/c/d"]
    assert sorted(records.keys("")) == ["a/b.json", "a/c/d"]
    assert records.keys("b") == []
    records.delete("a/b.json")
    records.delete("a/b.json")
    assert records.keys("") == ["a/c/d"]
    records.delete_all("a")
    assert records.keys("") == []


def test_a_prefix_is_a_folder(records):
    records.put("run/x", b"")
    records.put("running/x", b"")
    assert records.keys("run") == ["run/x"]


def test_only_the_first_can_claim(records):
    assert records.claim("lock", b"mine")
    assert records.claim("lock", b"mine")
    assert not records.claim("lock", b"yours")
    assert records.get("lock") == b"mine"


def test_of_many_at_once_one_can_claim(records):
    start, won = threading.Barrier(8), []

    def claim(number):
        start.wait()
        if records.claim("lock", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_half_written_files_are_no_keys(tmp_path):
    records = Records(LocalStore(tmp_path), "r")
    records.make("")
    records.make("a")
    records.put("a/b.json", b"1")
    (tmp_path / "a/b.0f.partial").write_bytes(b"")
    assert records.keys("") == records.keys("a") == ["a/b.json"]


def test_what_the_disk_refuses_is_said(tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dkde.stores.store.write_synced", full)
    with pytest.raises(DataSetError, match=r"r\.zarr: a could not be .*No space left"):
        Records(LocalStore(tmp_path), "r.zarr").put("a", b"1")


def test_folders_are_opened_by_their_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("r.zarr")
    monkeypatch.chdir("/")
    records = Records(store, "r.zarr")
    with pytest.raises(DataSetError, match="a could not be read or written"):
        records.put("a", b"1")  # a folder that is gone is not made again
    records.make("")
    records.put("a", b"1")
    assert (tmp_path / "r.zarr/a").read_bytes() == b"1"


def test_urls(tmp_path):
    assert is_remote("s3://bucket/r.zarr")
    assert not is_remote(tmp_path / "r.zarr")
    assert not is_remote("r.zarr")
    with pytest.raises(InputError, match="ftp:// is not known"):
        is_remote("ftp://host/r.zarr")


@pytest.mark.parametrize(
    "url",
    [
        "s3://me:password@b/r.zarr",
        "s3://password@b/r",
        "s3://b/r?sign=password",
        "s3://b/t/*.parquet?sign=password",
        "s3://b?password",
        "s3://b/r.csv?password",
        "s3://b/r.zarr/?password",
        "a.zarr::train+s3://b/R.PARQUET?password",
        "s3://b/r?p&password",
        "s3://b/r?sign%3Dpassword",
        "s3://b/r?sign*=password",
        "s3://b/r?[sign=password",
        "s3://b/r?the-long-password",
        "s3://b/r?password.of.three-parts-and-more",
        "ftp://password@h/r",
    ],
)
def test_credentials_in_urls_are_refused_and_not_repeated(url):
    for call in (
        is_remote,
        open_store,
        refuse_credentials,
        lambda url: Catalog().rows(f"{url}::x"),
    ):
        with pytest.raises(InputError, match="the URL holds a name, a password") as caught:
            call(url)
        assert "password" not in str(caught.value).replace("a name, a password", "")
    refuse_credentials("s3://b/r.zarr::train+mail@home.npy")
    for pattern in ("year=202?/month=0?/part.[!9].parquet", "p-0000?-0af3c5d7e9.snappy.parquet",
                    "x.part?.csv", "t/?/x.csv", "t?", "p-??-of-00010", "p?.of.many-parts.csv[:9]",
                    "p?.of.many-parts.csv::train+b.zarr"):  # fmt: skip
        refuse_credentials(f"s3://b/{pattern}")


def test_what_a_bucket_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "dkde.stores.buckets", raising=False)
    with pytest.raises(InputError, match=r's3://b/r\.zarr: needs obstore; pip install "dkde'):
        open_store("s3://b/r.zarr")


@pytest.mark.parametrize("kind", ["memory", "zip", "fsspec", "obstore"])
def test_a_change_that_leaves_the_size_is_seen(kind, tmp_path):
    if kind == "zip":
        store = ZipStore(tmp_path / "a.zip", mode="w")
    elif kind == "fsspec":
        from fsspec.implementations.memory import MemoryFileSystem

        asynchronous = pytest.importorskip("fsspec.implementations.asyn_wrapper")
        files = asynchronous.AsyncFileSystemWrapper(MemoryFileSystem(), asynchronous=True)
        store = FsspecStore(files, path=f"/{tmp_path.name}")
    elif kind == "obstore":
        store = ObjectStore(pytest.importorskip("obstore.store").MemoryStore())
    else:
        store = MemoryStore()
    array = zarr.create_array(store, name="a", shape=(4,), dtype="f8", compressors=None)
    array[:] = 1.0
    before = stamps(store, "a")
    assert stamps(store, "a") == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a zip holds both
        array[:] = 2.0
        after = stamps(store, "a")
    assert [key for key, *_ in after] == [key for key, *_ in before]
    assert after != before
    assert [size for _, size, _ in after] == [size for _, size, _ in before]
