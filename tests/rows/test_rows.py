"""Rows are read as if they were one array, whatever they are made of."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr
from dask import delayed
from hypothesis import given
from hypothesis import strategies as st

import dkde
from dkde.numerics.linear import Product
from dkde.rows import side
from dkde.rows.columns import columns_of, picked
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import Derived, RowSource, innermost
from dkde.rows.side import Encoding, Part, Rows
from dkde.rows.sources import ArraySource, NpySource, ZarrSource


def part(array, start=0, stop=None, **keywords):
    return Part(ArraySource(array), start, len(array) if stop is None else stop, "a", **keywords)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), min_size=1, max_size=4), st.data()
)
def test_parts_read_as_one_array(sizes, data):
    arrays = [np.random.default_rng(n).integers(0, 9, (n + skip, 3)) for n, skip in sizes]
    rows = Rows(tuple(part(a, skip) for a, (_, skip) in zip(arrays, sizes, strict=True)))
    whole = np.concatenate([a[skip:] for a, (_, skip) in zip(arrays, sizes, strict=True)])
    start = data.draw(st.integers(0, rows.n_rows - 1))
    stop = data.draw(st.integers(start + 1, rows.n_rows))
    np.testing.assert_array_equal(rows.read(start, stop, decode=True), whole[start:stop])
    inner = rows[start:stop]
    np.testing.assert_array_equal(inner.read(0, inner.n_rows, decode=True), whole[start:stop])
    covered = list(rows.ranges(start, stop))
    assert [a for a, _ in covered] == [start, *(b for _, b in covered[:-1])]
    assert covered[-1][1] == stop


def stored(values, chunk, shard=None, name="a", **keywords):
    """A part of a Zarr array in so large chunks."""
    array = zarr.create_array(
        zarr.storage.MemoryStore(), data=values, chunks=(chunk, 3),
        shards=None if shard is None else (shard, 3),
    )  # fmt: skip
    return Part(ZarrSource(array), 0, len(values), name, **keywords)


@pytest.fixture
def reads(monkeypatch):
    """The ranges that are read of Zarr arrays."""
    found, read = [], ZarrSource.read
    monkeypatch.setattr(
        ZarrSource, "read", lambda self, a, b: found.append((a, b)) or read(self, a, b)
    )
    return found


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), min_size=1, max_size=3), st.data()
)
def test_ranges_read_at_once_are_those_read_one_by_one(sizes, data):
    rng = np.random.default_rng(0)
    parts = []
    for n, chunk in sizes:
        values = rng.integers(0, 9, (n, 3)).astype(np.float32)
        values[rng.random((n, 3)) < 0.1] = np.nan
        encoding = Encoding(*data.draw(st.sampled_from([(1.0, 0.0), (0.5, 1.0)])))
        shard = data.draw(st.sampled_from([None, 2 * chunk])) if chunk else None
        make = part(values, encoding=encoding) if not chunk else stored(
            values, chunk, shard, encoding=encoding
        )  # fmt: skip
        parts.append(make)
    linear = Product(rng.normal(size=(3, 2))) if data.draw(st.booleans()) else None
    rows = Rows(tuple(parts), linear=linear, drops_missing=data.draw(st.booleans()))
    at = st.integers(0, rows.n_rows - 1)
    ranges = [
        (min(pair), max(pair) + 1)
        for pair in data.draw(st.lists(st.tuples(at, at), min_size=1, max_size=6))
    ]
    ranges = data.draw(st.sampled_from([ranges, sorted(ranges)]))
    origin = rng.normal(size=3) if linear is not None else None
    apart = [rows.read(a, b, decode=True, origin=origin) for a, b in ranges]
    found = rows.read_each(ranges, decode=True, origin=origin)
    np.testing.assert_allclose(found, np.concatenate(apart), rtol=1e-12, atol=1e-12)
    raw = [rows.read(a, b, decode=False) for a, b in ranges]
    np.testing.assert_array_equal(rows.read_each(ranges, decode=False), np.concatenate(raw))


def test_ranges_of_one_chunk_are_read_at_once(reads, monkeypatch):
    values = np.arange(600.0).reshape(200, 3)
    ranges = [(0, 10), (30, 40), (90, 105), (150, 160)]
    plain = Rows((stored(values, 100),))
    plain.read_each(ranges, decode=True)
    assert reads == [(0, 40), (90, 105), (150, 160)]
    reads.clear()
    plain.read_each([(30, 40), (0, 10)], decode=True)
    assert reads == [(30, 40), (0, 10)]
    reads.clear()
    # Of a shard only the chunks that are wanted are fetched.
    Rows((stored(values, 10, 100),)).read_each([(0, 2), (4, 8), (50, 60)], decode=True)
    assert reads == [(0, 8), (50, 60)]
    reads.clear()
    monkeypatch.setattr(side, "_AT_ONCE", 3 * 8 * 39)
    plain.read_each(ranges, decode=True)
    assert reads == [(0, 10), (30, 40), (90, 105), (150, 160)]


def test_what_lies_between_ranges_is_not_looked_at():
    values = np.zeros((100, 3), np.int64)
    values[50] = 2**60 + 1
    rows = Rows((stored(values, 100),))
    assert rows.read_each([(0, 10), (90, 100)], decode=True).shape == (20, 3)
    with pytest.raises(dkde.InputError, match="50"):
        rows.read_each([(0, 10), (45, 55)], decode=True)


def test_a_lazy_chunk_is_computed_once():
    computed = []

    @delayed
    def block(number):
        computed.append(number)
        return np.full((100, 3), float(number))

    blocks = [da.from_delayed(block(i), (100, 3), float) for i in range(2)]
    rows = Rows((Part(DaskSource(da.concatenate(blocks)), 0, 200, "a"),))
    found = rows.read_each([(0, 10), (80, 90), (120, 130), (180, 190)], decode=True)
    assert sorted(computed) == [0, 1]
    assert found[:, 0].tolist() == [0.0] * 20 + [1.0] * 20


def test_one_part_twice_is_two_ranges():
    twice = part(np.zeros((4, 2)))
    assert list(Rows((twice, twice)).ranges(1, 8)) == [(1, 4), (4, 8)]


def test_ranges_end_at_chunk_borders(tmp_path):
    array = zarr.create_array(tmp_path / "x", shape=(100, 2), chunks=(7, 2), dtype="f8")
    source = ZarrSource(array)
    assert source.read_rows % 7 == 0
    wide = zarr.create_array(tmp_path / "y", shape=(9, 2**20), chunks=(2, 2**20), dtype="f8")
    rows = Rows((Part(ZarrSource(wide), 1, 9, "y"),))
    assert list(rows.ranges(0, 8)) == [(0, 1), (1, 3), (3, 5), (5, 7), (7, 8)]


def test_decoding_and_integers():
    stored = np.array([[1, 2], [3, 4]], np.uint8)
    rows = Rows((part(stored, encoding=Encoding(0.5, 1.0)),))
    np.testing.assert_array_equal(rows.read(0, 2, decode=True), [[1.5, 2.0], [2.5, 3.0]])
    np.testing.assert_array_equal(rows.read(0, 2, decode=False), stored)
    assert rows.is_integer
    assert not Rows((part(stored), part(stored, encoding=Encoding(0.5)))).is_integer
    assert not Rows((part(stored.astype(np.int32)),)).is_integer


def test_locate_names_the_source_and_its_row():
    rows = Rows(
        (
            Part(ArraySource(np.zeros((5, 1))), 2, 5, "a"),
            Part(ArraySource(np.ones((5, 1))), 1, 5, "b"),
        )
    )
    assert rows.locate(0) == (rows.parts[0], 2)
    assert rows.locate(3) == (rows.parts[1], 1)


def test_npy_files_are_read_in_native_order_and_pickle_small(tmp_path):
    values = np.arange(2400.0).reshape(100, 4, 6).astype(">f4")
    np.save(tmp_path / "a.npy", values)
    source = NpySource.open(tmp_path / "a.npy")
    read = source.read(10, 20)
    assert read.dtype == np.dtype("f4")
    np.testing.assert_array_equal(read, values[10:20].reshape(10, 24))
    assert len(pickle.dumps(source)) < 1000


def test_the_header_of_an_npy_file_is_read_by_one_thread_at_a_time(tmp_path, monkeypatch):
    """Python's parser of literals fails at times where several threads are in it."""
    np.save(tmp_path / "a.npy", np.arange(40.0).reshape(20, 2))
    source, load, inside, most = NpySource.open(tmp_path / "a.npy"), np.load, [], []

    def counting(*arguments, **options):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        found = load(*arguments, **options)
        inside.pop()
        return found

    monkeypatch.setattr(np, "load", counting)
    with ThreadPoolExecutor(4) as executor:
        read = list(executor.map(lambda start: source.read(start, start + 1), range(20)))
    np.testing.assert_array_equal(np.concatenate(read), np.arange(40.0).reshape(20, 2))
    assert max(most) == 1


class Multiples(RowSource):
    """A container of a new kind: a piece, its chunks, and what changes with its content."""

    shape, dtype, chunk_rows = (40, 3), np.dtype("f8"), 7

    def read(self, start, stop):
        return np.arange(start, stop)[:, None] * np.arange(1.0, 4.0)

    def stamp(self):
        return "multiples"


def test_a_new_kind_of_container_is_three_answers(monkeypatch):
    monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 1)  # chunks are not read together
    whole = Multiples().read(0, 40)
    part = Part(Multiples(), 5, 40, "m", Encoding(2.0, 1.0), features=("a", "b", "c"))
    rows = Rows((picked(part, (2, 0)),))
    assert list(rows.ranges(0, 20)) == [(0, 2), (2, 9), (9, 16), (16, 20)]
    np.testing.assert_array_equal(rows.read(0, 35, decode=True), 2.0 * whole[5:, [2, 0]] + 1.0)
    np.testing.assert_array_equal(rows.take(np.array([30, 0])), 2.0 * whole[[35, 5]][:, [2, 0]] + 1)
    assert not rows.parts[0].source.is_lazy
    assert rows.resident_bytes == 0


def test_steps_are_taken_one_after_the_other_and_known_by_what_they_change():
    source = Derived(picked(part(np.eye(3)), (2, 0)).source, Encoding(0.5))
    np.testing.assert_array_equal(source.read(1, 3), [[0.0, 0.0], [0.5, 0.0]])
    assert source.changes == (("columns", (2, 0)), 0.5, 0.0)
    assert columns_of(source) == (2, 0)
    assert isinstance(innermost(source), ArraySource)
    known = Derived(picked(Part(Multiples(), 0, 40, "m"), (1,)).source, Encoding(0.5))
    columns = ("columns", (1,))
    assert known.stamp() == (("multiples", (columns,)), (columns, 0.5, 0.0))
    read_again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(read_again.read(0, 3), source.read(0, 3))
