"""Sharded Zarr arrays: read by shard, and damage is found where it lies."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

import dkde
from dkde.rows.sources import ZarrSource
from dkde.stores.shards import piece_of

H = 0.7


def rows(n_rows, n_features=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_features))


def array(path, values, chunk, shard, **options):
    shape = values.shape[1:]
    return zarr.create_array(
        path, data=values, chunks=(chunk, *shape), shards=(shard, *shape),
        compressors=[ZstdCodec(), Crc32cCodec()], **options,
    )  # fmt: skip


def dataset(path, values, chunk, shard):
    """A Dataset of two variables, in shards."""
    found = xr.Dataset({"a": ("row", values[:, 0]), "b": ("row", values[:, 1])})
    codecs = {"compressors": [ZstdCodec(), Crc32cCodec()]}
    encoding = {name: {"chunks": (chunk,), "shards": (shard,), **codecs} for name in "ab"}
    found.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)


@pytest.fixture
def requests(monkeypatch):
    """Requests for chunks and parts of them, by key."""
    found, get = Counter(), LocalStore.get

    async def counted(self, key, prototype=None, byte_range=None):
        found[key] += "/c/" in f"/{key}"
        return await get(self, key, prototype, byte_range)

    monkeypatch.setattr(LocalStore, "get", counted)
    return found


def damage(path, at=0.3):
    content = bytearray(Path(path).read_bytes())
    content[int(at * len(content))] ^= 255
    Path(path).write_bytes(content)


class TestPieces:
    @given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9), st.integers(1, 3000))
    def test_are_whole_chunks_and_end_with_shards(self, chunk, n, row_bytes, most):
        piece = piece_of(chunk, chunk * n, row_bytes, most)
        assert piece % chunk == 0
        assert (chunk * n) % piece == 0
        assert piece == chunk or piece * row_bytes <= most or n == 1

    def test_of_an_array_without_shards_are_its_chunks(self):
        assert piece_of(7, None, 8, 1) == 7


class TestReading:
    @pytest.mark.parametrize("n_rows", [1000, 930, 90])
    def test_takes_one_request_for_each_shard(self, tmp_path, requests, n_rows):
        values = rows(n_rows)
        source = ZarrSource(array(tmp_path / "x.zarr", values, 10, 100))
        requests.clear()
        for start, stop in zip(source.cuts(0, n_rows), source.cuts(0, n_rows)[1:], strict=False):
            assert_array_equal(source.read(start, stop), values[start:stop])
        assert [n for n in requests.values() if n] == [1] * -(-n_rows // 100)

    @pytest.mark.parametrize("n_rows", [1000, 930])
    def test_of_variables_takes_one_request_for_each_shard(self, tmp_path, requests, n_rows):
        dataset(tmp_path / "x.zarr", values := rows(n_rows), 10, 100)
        (part,) = dkde.Catalog(features=["a", "b"]).rows(str(tmp_path / "x.zarr")).parts
        requests.clear()
        assert_array_equal(part.source.read(0, n_rows), values)
        assert [n for n in requests.values() if n] == [1] * 2 * -(-n_rows // 100)

    def test_a_few_rows_do_not_take_a_whole_shard(self, tmp_path, monkeypatch):
        source = ZarrSource(array(tmp_path / "x.zarr", values := rows(4000), 10, 2000))
        read, get = [], LocalStore.get

        async def counted(self, *arguments, **options):
            found = await get(self, *arguments, **options)
            read.append(0 if found is None else len(found))
            return found

        monkeypatch.setattr(LocalStore, "get", counted)
        assert_array_equal(source.read(2005, 2008), values[2005:2008])
        assert sum(read) < 0.3 * 2000 * 16
        assert len(set(source.chunk_of(np.array([2005, 2015, 2016])))) == 2

    def test_is_cut_at_shards(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 2000)
        values = rows(1000)
        source = ZarrSource(array(tmp_path / "x.zarr", values, 10, 300))
        assert source.cuts(0, 1000) == [0, 300, 600, 900, 1000]
        dataset(tmp_path / "y.zarr", values, 10, 300)
        (part,) = dkde.Catalog(features=["a", "b"]).rows(str(tmp_path / "y.zarr")).parts
        assert part.source.cuts(0, 1000) == [0, 300, 600, 900, 1000]

    def test_a_large_shard_is_read_in_parts(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dkde.rows.sources.SLAB_BYTES", 150 * 16)
        monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 16)
        source = ZarrSource(array(tmp_path / "x.zarr", rows(600), 10, 300))
        assert source.cuts(0, 600) == [0, 150, 300, 450, 600]

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("seed", range(4))
    def test_any_shards_equal_the_naive_loop(self, tmp_path, seed):
        chance = np.random.default_rng(seed)
        train, query = rows(int(chance.integers(5, 90)), 3, seed), rows(20, 3, seed + 1)
        chunk, n = (int(each) for each in chance.integers(1, 12, 2))
        x = array(tmp_path / "x.zarr", train * 2 + 5, chunk, chunk * n, fill_value=float("nan"))
        got = dkde.log_density(query, x, H, block_rows=7, panel_rows=13)
        want = reference.log_density(query, train * 2 + 5, [H])[0]
        assert_allclose(got, np.array(want, float), rtol=1e-9)

    def test_of_a_grid(self, tmp_path):
        values = rows(24 * 30, 1).reshape(24, 30)
        found = xr.Dataset({"v": (("y", "x"), values)})
        encoding = {"v": {"chunks": (3, 5), "shards": (6, 10)}}
        found.to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False, encoding=encoding)
        catalog = dkde.Catalog(features=["v"], row_dim=["y", "x"])
        (part,) = catalog.rows(str(tmp_path / "x.zarr")).parts
        assert_array_equal(part.source.read(37, 700)[:, 0], values.reshape(-1)[37:700])


class TestDamage:
    @pytest.mark.slow
    def test_of_a_chunk_names_its_rows(self, tmp_path):
        x = array(tmp_path / "x.zarr", rows(1000), 10, 500)
        damage(tmp_path / "x.zarr/c/1/0")  # of the second shard's fifty chunks one
        with pytest.raises(dkde.DataSetError, match="checksum") as raised:
            dkde.log_density(rows(5), x, H)
        said = str(raised.value)
        assert "\n" not in said.partition("\nThe")[0]
        start, stop = map(int, said.partition("rows ")[2].split(" could")[0].split(" to "))
        assert stop - start == 10
        assert 500 <= start < 1000
        with pytest.raises(dkde.DataSetError):
            ZarrSource(x).read(start, stop)
        others = np.setdiff1d(np.arange(0, 1000, 10), [start])
        for first in others:
            ZarrSource(x).read(first, first + 10)

    def test_of_variables_names_their_rows(self, tmp_path):
        dataset(tmp_path / "x.zarr", rows(1000), 10, 500)
        damage(tmp_path / "x.zarr/b/c/1")
        with pytest.raises(dkde.DataSetError, match=r"variable b: rows \d+ to \d+ .*checksum") as e:
            dkde.score(rows(5), str(tmp_path / "x.zarr"), H, features={"train": ["a", "b"]})
        start, stop = map(int, str(e.value).partition("rows ")[2].split(" could")[0].split(" to "))
        assert (stop - start, start >= 500) == (10, True)

    def test_of_an_index_names_the_shard(self, tmp_path):
        x = array(tmp_path / "x.zarr", rows(1000), 10, 500)
        damage(tmp_path / "x.zarr/c/0/0", at=0.9999)
        with pytest.raises(dkde.DataSetError, match=r"rows 0 to 500 could not be read.*checksum"):
            ZarrSource(x).read(0, 1000)

    def test_of_a_whole_shard_that_is_gone_is_said(self, tmp_path):
        x = array(tmp_path / "x.zarr", rows(1000), 10, 500)
        (tmp_path / "x.zarr/c/1/0").unlink()
        with pytest.warns(UserWarning, match="1 chunk is not in the store"):
            dkde.log_density(rows(5), x, H)
