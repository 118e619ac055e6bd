"""Linear maps, and rows that are mapped or picked while they are read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import dask_source, rows_of, zarr_source

from dkde.numerics.linear import Product, Scaling, chain, content
from dkde.rows.row_source import RowSource
from dkde.rows.side import Encoding, Part, Rows
from dkde.rows.sources import ArraySource

ENCODINGS = (Encoding(), Encoding(0.5, -3.0), Encoding(1 / 255), Encoding(-0.37, 100.0))


def product(rng, n_inputs, n_features):
    return Product(rng.normal(size=(n_inputs, n_features)))


def scaling(rng, n_inputs, n_features):
    columns = np.sort(rng.choice(n_inputs, n_features, replace=False))
    return Scaling(n_inputs, columns, 10.0 ** rng.uniform(-3, 3, n_features))


@st.composite
def maps(draw, n_inputs=None):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_inputs = n_inputs or draw(st.integers(1, 9))
    if draw(st.booleans()):
        return product(rng, n_inputs, draw(st.integers(1, 9)))
    return scaling(rng, n_inputs, draw(st.integers(1, n_inputs)))


@st.composite
def stored_parts(draw):
    """Parts of one to four sources and what they hold, decoded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts, decoded = [], []
    for _ in range(draw(st.integers(1, 4))):
        array = rng.integers(0, 255, (draw(st.integers(1, 30)), 3), dtype=np.uint8)
        encoding = draw(st.sampled_from(ENCODINGS))
        kind = draw(st.sampled_from(["array", "zarr", "dask"]))
        chunk_rows = draw(st.integers(1, 12))
        source = {
            "array": lambda a, _: ArraySource(a),
            "zarr": zarr_source,
            "dask": dask_source,
        }[kind](array, chunk_rows)
        start = draw(st.integers(0, len(array) - 1))
        stop = draw(st.integers(start + 1, len(array)))
        parts.append(Part(source, start, stop, "a", encoding))
        decoded.append(array[start:stop].astype(float) * encoding.scale + encoding.offset)
    return Rows(tuple(parts)), np.concatenate(decoded)


class TestMaps:
    @given(maps(), st.integers(1, 20), st.integers(0, 99))
    def test_applying_is_multiplying_by_the_dense_matrix(self, linear, n_rows, seed):
        values = np.random.default_rng(seed).normal(size=(n_rows, linear.n_inputs))
        dense = linear.dense()
        assert dense.shape == (linear.n_inputs, linear.n_features)
        mapped = linear.apply(values)
        assert mapped.shape == (n_rows, linear.n_features)
        expected = values.astype(np.longdouble) @ dense.astype(np.longdouble)
        bound = 1e-14 * (np.abs(values) @ np.abs(dense))
        assert (np.abs(mapped - expected) <= bound).all()

    @given(st.integers(1, 9), st.data())
    def test_undoing_a_scaling_puts_zero_into_the_columns_left_out(self, n_inputs, data):
        rng = np.random.default_rng(n_inputs)
        linear = scaling(rng, n_inputs, data.draw(st.integers(1, n_inputs)))
        values = rng.normal(size=(5, n_inputs))
        undone = linear.undo(linear.apply(values))
        np.testing.assert_allclose(undone[:, linear.columns], values[:, linear.columns], 1e-15)
        others = np.setdiff1d(np.arange(n_inputs), linear.columns)
        assert undone.shape == values.shape
        assert (undone[:, others] == 0).all()

    @given(st.data())
    def test_a_chain_is_one_map_after_the_other(self, data):
        first = data.draw(maps())
        second = data.draw(maps(first.n_features))
        values = np.random.default_rng(0).normal(size=(6, first.n_inputs))
        both = chain(first, second)
        assert (both.n_inputs, both.n_features) == (first.n_inputs, second.n_features)
        expected = second.apply(first.apply(values))
        scale = np.abs(values) @ np.abs(first.dense()) @ np.abs(second.dense())
        assert (np.abs(both.apply(values) - expected) <= 1e-14 * scale).all()

    def test_after_nothing_a_map_is_itself(self):
        linear = Product(np.eye(3))
        assert chain(None, linear) is linear

    def test_flops_count_multiplications_and_additions(self):
        rng = np.random.default_rng(0)
        assert product(rng, 7, 3).flops == 42
        assert scaling(rng, 7, 3).flops == 3

    def test_content_tells_maps_apart_and_knows_equal_ones(self):
        matrix = np.array([[2.0, 0.0], [0.0, 3.0]])
        a, b = content(Product(matrix)), content(Scaling(2, np.arange(2), np.array([2.0, 3.0])))
        assert a[0] == b[0] == 2
        np.testing.assert_array_equal(a[1], b[1])
        assert not np.array_equal(content(Product(2 * matrix))[1], a[1])
        assert content(None) is None


class TestMappedRows:
    @given(stored_parts(), maps(3), st.booleans(), st.data())
    def test_are_the_map_of_decoded_rows_less_the_origin(self, stored, linear, with_origin, data):
        rows, decoded = stored
        origin = np.array([100.0, -7.0, 0.1]) if with_origin else None
        mapped = rows.mapped(linear)
        assert (mapped.n_rows, mapped.n_features) == (len(decoded), linear.n_features)
        assert mapped.n_stored_features == 3
        start = data.draw(st.integers(0, len(decoded) - 1))
        stop = data.draw(st.integers(start + 1, len(decoded)))
        read = mapped.read(start, stop, decode=True, origin=origin)
        centred = decoded[start:stop] - (0 if origin is None else origin)
        bound = 1e-13 * (1 + np.abs(centred)) @ np.abs(linear.dense())
        assert read.shape == (stop - start, linear.n_features)
        assert (np.abs(read - centred @ linear.dense()) <= bound).all()

    @given(stored_parts())
    def test_stay_as_they_are_where_they_are_not_decoded(self, stored):
        rows, _ = stored
        mapped = rows.mapped(Product(np.ones((3, 1))))
        as_stored = rows.read(0, rows.n_rows, decode=False)
        np.testing.assert_array_equal(mapped.read(0, rows.n_rows, decode=False), as_stored)
        np.testing.assert_array_equal(mapped.unmapped.read(0, rows.n_rows, decode=False), as_stored)

    @given(stored_parts(), maps(3), st.data())
    def test_parts_of_them_are_mapped_too(self, stored, linear, data):
        rows, decoded = stored
        start = data.draw(st.integers(0, len(decoded) - 1))
        some = rows.mapped(linear)[start:]
        np.testing.assert_allclose(
            some.read(0, some.n_rows, decode=True),
            linear.apply(decoded[start:]),
            rtol=1e-12,
            atol=1e-9,
        )

    def test_another_map_is_made_after_the_first(self):
        rng = np.random.default_rng(1)
        values = rng.normal(size=(9, 4))
        first, second = product(rng, 4, 3), scaling(rng, 3, 2)
        rows = rows_of(ArraySource(values)).mapped(first).mapped(second)
        expected = second.apply(first.apply(values))
        np.testing.assert_allclose(rows.read(0, 9, decode=True), expected, rtol=1e-12)

    def test_no_map_leaves_the_rows_themselves(self):
        rows = rows_of(ArraySource(np.zeros((2, 2))))
        assert rows.mapped(None) is rows

    def test_are_no_integers(self):
        rows = rows_of(ArraySource(np.zeros((2, 2), np.uint8)))
        assert rows.is_integer
        assert not rows.mapped(Product(np.eye(2))).is_integer
        assert rows.mapped(Product(np.eye(2))).is_encoded

    @pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
    def test_the_origin_goes_before_the_map_so_that_no_digit_is_lost(self, dtype):
        """After a map with factors that are no powers of two, the offset would have cost some."""
        rng = np.random.default_rng(2)
        values = (2**23 + rng.integers(-3, 4, (50, 3))).astype(dtype)
        origin = np.full(3, 2.0**23)
        linear = Product(rng.normal(size=(3, 3)))
        rows = rows_of(ArraySource(values)).mapped(linear)
        exact = (values.astype(np.longdouble) - origin) @ linear.matrix
        read = rows.read(0, 50, decode=True, origin=origin)
        np.testing.assert_allclose(read, exact.astype(float), rtol=0, atol=1e-14)


class Watched(RowSource):
    """A source that remembers which rows were read."""

    def __init__(self, source):
        self.source, self.read_ranges = source, []
        self.shape, self.dtype, self.grain = source.shape, source.dtype, source.grain

    def cuts(self, start, stop):
        return self.source.cuts(start, stop)

    def chunk_of(self, rows):
        return self.source.chunk_of(rows)

    def read(self, start, stop):
        self.read_ranges.append((start, stop))
        return self.source.read(start, stop)

    def chunks_read(self, chunk_rows):
        return {row // chunk_rows for a, b in self.read_ranges for row in range(a, b)}


class TestTake:
    @given(stored_parts(), st.data())
    def test_gives_decoded_rows_in_any_order_and_any_number(self, stored, data):
        rows, decoded = stored
        wanted = data.draw(st.lists(st.integers(0, len(decoded) - 1), max_size=60))
        taken = rows.take(np.array(wanted, np.int64))
        assert taken.dtype == np.float64
        np.testing.assert_allclose(taken, decoded[wanted].reshape(-1, 3), rtol=1e-15, atol=1e-13)

    def test_gives_rows_as_they_are_before_the_map(self):
        values = np.arange(30.0).reshape(10, 3)
        rows = rows_of(ArraySource(values)).mapped(Product(np.ones((3, 1))))
        np.testing.assert_array_equal(rows.take(np.array([7, 0, 7])), values[[7, 0, 7]])

    @pytest.mark.parametrize("kind", ["dask", "zarr"])
    def test_reads_only_the_chunks_of_the_rows(self, kind, monkeypatch):
        monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 1)  # chunks are not read together
        values = np.arange(2000.0).reshape(1000, 2)
        source = Watched((dask_source if kind == "dask" else zarr_source)(values, 10))
        wanted = np.array([995, 3, 8, 512, 3, 519])
        np.testing.assert_array_equal(rows_of(source).take(wanted), values[wanted])
        assert source.chunks_read(10) == {0, 51, 99}
        assert len(source.read_ranges) == 3

    def test_reads_only_the_chunks_of_the_rows_where_these_are_small(self):
        values = np.arange(2000.0).reshape(1000, 2)
        source = Watched(zarr_source(values, 10))
        rows_of(source).take(np.array([995, 3]))
        assert source.chunks_read(10) == {0, 99}

    def test_leaves_parts_alone_of_which_no_row_is_wanted(self):
        sources = [Watched(ArraySource(np.full((5, 1), float(i)))) for i in range(3)]
        rows = Rows(tuple(Part(source, 1, 5, "a") for source in sources))
        np.testing.assert_array_equal(rows.take(np.array([9, 2, 11])), [[2], [0], [2]])
        assert sources[0].read_ranges == [(3, 4)]
        assert sources[1].read_ranges == []
        assert sources[2].read_ranges == [(2, 5)]
