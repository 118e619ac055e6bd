"""The index says where rows are and never where they are not; sorted rows lie close together."""

import shutil
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from dkde.datasets import ordering
from dkde.datasets.dataset import open_dataset, open_split
from dkde.datasets.formats import SourceSplit
from dkde.datasets.formats.source import array_batches
from dkde.datasets.index import index_dataset, index_state
from dkde.datasets.ordering import compact_order, permuted_batches, tree_order
from dkde.datasets.summaries import summaries
from dkde.errors import DataSetError, InputError
from dkde.inputs.describing import describe
from dkde.inputs.importing import import_dataset
from dkde.inputs.selectors import Catalog
from dkde.numerics.leading_axes import Axes, leading_axes
from dkde.numerics.linear import Product
from dkde.numerics.region_distances import farthest, squared_distances
from dkde.numerics.regions import (
    decoding_slack,
    enclose,
    points,
    stack,
    unbounded,
)
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Encoding, Part, Rows
from dkde.rows.sources import ArraySource, ZarrSource

rng = np.random.default_rng(7)
L = np.longdouble


def big(n_features=100, n_rows=30_000, n_clusters=12, seed=7):
    """Rows of a few clusters in turn, so that any chunk holds all of them.

    They are the same rows whatever tests ran before: some clusters lie closer together than others.
    """
    r = np.random.default_rng(seed)
    centres = r.normal(0, 30, (n_clusters, n_features))
    x = centres[np.arange(n_rows) % n_clusters] + r.normal(size=(n_rows, n_features))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A folder with a data set of several chunks, and the file that it is from."""
    folder = tmp_path_factory.mktemp("imported")
    x = big()
    np.savez(folder / "x.npz", train=x, train_label=np.arange(len(x)), test=x[:100])
    import_dataset(folder / "x.npz", folder / "d.zarr", scale=0.5, offset=3.0)
    return folder


@pytest.fixture
def store(imported, tmp_path, monkeypatch):
    """A copy of the data set of its own; the working directory is where it is."""
    shutil.copytree(imported, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("d.zarr")


def assert_in(regions, i, decoded, exact):
    """Rows, as they were rounded and as they were not, lie in region i."""
    for values in (decoded.astype(L), exact):
        away = values - regions.centroids[i].astype(L)
        assert np.sqrt((away * away).sum(axis=1)).max() <= regions.radii[i]
        if regions.low is not None:
            assert (values >= regions.low[i]).all()
            assert (values <= regions.high[i]).all()
        axes = regions.axes
        along = (values - axes.origin.astype(L)) @ axes.directions.astype(L).T
        assert (along >= regions.along_low[i]).all()
        assert (along <= regions.along_high[i]).all()


@st.composite
def encoded(draw):
    """Stored rows, and scale and offset."""
    seed, n_features = draw(st.integers(0, 2**32)), draw(st.integers(1, 40))
    r = np.random.default_rng(seed)
    dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "i8", "f2", "f4", "f8"])))
    spread = draw(st.sampled_from([0.0, 1e-8, 1.0, 1e4]))
    at = draw(st.sampled_from([0.0, 1.0, 1e4]))
    n_rows = draw(st.integers(1, 30))
    x = at + spread * r.standard_normal((n_rows, n_features))
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        x = np.clip(np.round(x), info.min, info.max)
    elif dtype.itemsize == 8:
        x *= draw(st.sampled_from([1.0, 1e-170, 1e160, 1e9]))
    x = x.astype(dtype)
    if dtype == np.int64:
        x += draw(st.sampled_from([0, 2**60 + 1]))
    scale = draw(st.sampled_from([1.0, 1 / 255, -0.37, 12.5]))
    return x, scale, draw(st.sampled_from([0.0, 1.0, -1e6, 1e12]))


def values_of(x, scale, offset):
    """Decoded in float64, and without rounding as far as a long double goes."""
    decoded = x.astype(np.float64) if (scale, offset) == (1, 0) else x * np.float64(scale) + offset
    return decoded, x.astype(L) * L(scale) + L(offset)


@pytest.mark.slow
@settings(max_examples=few(200))
@given(encoded(), st.integers(0, 2**32))
def test_a_region_holds_its_rows_and_no_distance_is_below_its_bound(case, seed):
    x, scale, offset = case
    decoded, exact = values_of(x, scale, offset)
    r = np.random.default_rng(seed)
    axes = leading_axes(decoded[: max(1, len(x) // 2)])
    half = max(1, len(x) // 2)
    sides = [x[:half], x[-half:] if r.random() < 0.5 else x[r.integers(0, len(x), 2)]]
    train = stack([enclose(s, axes, scale=scale, offset=offset) for s in sides])
    assert_in(train, 0, *values_of(sides[0], scale, offset))
    slack = decoding_slack(decoded, x.dtype, scale, offset)
    with np.errstate(over="ignore"):
        for other in (exact, decoded.astype(L)):
            d = other[:, None, :] - values_of(sides[1], scale, offset)[1][None]
            least = (d * d).sum(axis=2).min(axis=1)
            assert (squared_distances(points(decoded, axes, slack), train)[:, 1] <= least).all()
            most = (d * d).sum(axis=2).max(axis=1)
            assert (farthest(points(decoded, axes, slack), train)[:, 1] >= most).all()
            together = enclose(decoded, axes, slack=slack)
            assert (squared_distances(together, train)[0, 1] <= least).all()


def test_bounds_are_not_far_below_the_distances():
    for n_features in (1, 2, 16, 17, 300):
        x = rng.normal(size=(200, n_features))
        q = x + 40
        axes = leading_axes(np.concatenate([x, q]))
        least = ((q[:, None] - x[None]) ** 2).sum(axis=2).min()
        region = enclose(x, axes)
        for queries in (points(q, axes), enclose(q, axes)):
            bound = squared_distances(queries, region).min()
            assert 0.5 * least < bound <= least


@pytest.mark.parametrize("n_features", [1, 3, 16, 50])
def test_bounds_between_single_rows_are_not_above_by_a_last_digit(n_features):
    x, q = rng.normal(size=(300, n_features)), rng.normal(size=(300, n_features))
    axes = leading_axes(x)
    d = q.astype(L)[:, None] - x.astype(L)[None]
    bounds = squared_distances(points(q, axes), stack([enclose(row[None], axes) for row in x]))
    assert (bounds <= (d * d).sum(axis=2)).all()
    assert (bounds > 0).mean() > 0.99


def test_axes_need_not_be_orthonormal():
    directions = np.array([[1.0, 0.0, 0.0], [1.0, 1e-3, 0.0]]) * 3
    axes = Axes(np.zeros(3), directions)
    assert axes.stretch >= np.linalg.norm(directions, 2) ** 2
    x, q = np.zeros((1, 3)), np.array([[5.0, 1.0, 0.0]])
    assert squared_distances(points(q, axes), enclose(x, axes))[0, 0] <= 26


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.7e308])
def test_nothing_is_known_of_rows_that_are_not_finite(bad):
    x = np.ones((4, 3))
    x[2, 1], x[0, 1] = bad, -1.7e308
    axes = leading_axes(x)
    near = enclose(np.zeros((1, 3)), axes)
    # The two features that are 1 in all rows are known where the third is finite.
    bound = squared_distances(near, enclose(x, axes))[0, 0]
    assert 1.99 < bound <= 2 if np.isfinite(bad) else bound == 0
    assert squared_distances(points(x, axes), near)[2, 0] in (0, np.finfo(float).max)
    assert (squared_distances(points(x[2:3] * np.nan, axes), near) == 0).all()
    assert (squared_distances(near, unbounded(2, 3, axes)) == 0).all()


# ---- in a store ----


@pytest.mark.slow
def test_an_import_writes_an_index(store):
    for split in ("train", "test"):
        part = Catalog(str(store)).rows(split).parts[0]
        known = summaries(Rows((part,)))
        step = part.source.chunk_rows
        assert len(known) == -(-len(part) // step)
        (regions,) = known.regions
        for i, (a, b) in enumerate(zip(known.borders, known.borders[1:], strict=False)):
            stored = part.source.read(a, b)
            decoded, exact = values_of(stored, 0.5, 3.0)
            assert_in(regions, i, decoded, exact)
        assert regions.low is None
    assert len(known) == 1
    assert describe(store)["splits"]["train"]["index"] == "yes"


@pytest.mark.slow
def test_the_index_does_not_show(store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(xr.open_zarr(store, group="train")) == {"x", "label", "source_row"}
        tree = xr.open_datatree(store, engine="zarr")
        assert set(tree.children) == {"train", "test"}
        assert set(open_dataset(store).children) == {"train", "test"}
        assert "_index" in set(zarr.open_group(store, mode="r", use_consolidated=False))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 30_000), (1, 29_999), (12_000, 12_001), (20_000, 30_000)]
)
def test_a_range_counts_with_the_chunks_that_it_overlaps(store, start, stop):
    rows = Catalog(str(store)).rows(f"train[{start}:{stop}]")
    known = summaries(rows)
    assert known.borders[0] == 0
    assert known.borders[-1] == rows.n_rows == stop - start
    queries = rows.read(0, 1, decode=True) + 50
    bounds = known.squared_distances(queries)
    assert bounds.shape == (1, len(known))
    x = rows.read(0, rows.n_rows, decode=True)
    ranges = [*rows.ranges(0, rows.n_rows), (0, 1), (rows.n_rows - 1, rows.n_rows)]
    for (a, b), bound in zip(ranges, known.over(bounds, ranges)[0], strict=True):
        assert bound <= ((x[a:b] - queries) ** 2).sum(axis=1).min()
    nearest = ((x - queries) ** 2).sum(axis=1).min()
    assert nearest <= known.nearest(queries)[0] <= (np.inf if stop - start == 1 else 4 * nearest)


@pytest.mark.slow
def test_parts_with_an_index_and_without(store):
    known = Catalog(str(store)).rows("train[5000:25000]+test").parts
    x = np.zeros((10, 100))
    bare = Part(ArraySource(x), 2, 10, "x")
    rows = Rows((known[0], bare, known[1]))
    found = summaries(rows)
    assert len(found.regions) == 3
    assert found.borders[-1] == rows.n_rows
    bounds = found.squared_distances(np.full((2, 100), 500.0))
    assert bounds.shape == (2, len(found))
    assert (bounds[:, found.chunks(20_000, 20_008)] == 0).all()
    assert (bounds[:, : found.chunks(20_000, 20_008).start] > 0).all()
    assert found.chunks(20_007, 20_009) == slice(len(found) - 2, len(found))
    assert summaries(Rows((bare,))) is None
    assert summaries(Rows(known).mapped(Product(np.eye(100)))) is None


@pytest.mark.slow
def test_without_an_index_there_are_no_summaries(store):
    import_dataset("x.npz", "bare.zarr", index=False)
    assert summaries(Catalog("bare.zarr").rows("train")) is None
    assert describe("bare.zarr")["splits"]["train"]["index"] is None
    assert index_dataset("bare.zarr", "test") == ["test"]
    assert summaries(Catalog("bare.zarr").rows("train")) is None
    calls = []
    assert index_dataset("bare.zarr", progress=lambda *a: calls.append(a)) == ["train", "test"]
    assert calls[-1] == ("test", 100, 100)
    assert summaries(Catalog("bare.zarr").rows("train")) is not None
    foreign = ZarrSource(zarr.create_array(MemoryStore(), data=np.ones((3, 2))))
    assert summaries(Rows((Part(foreign, 0, 3, "x"),))) is None


def test_chunks_of_a_few_rows_get_none(tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((20, 300_000)))
    import_dataset(tmp_path / "wide.npy", tmp_path / "d.zarr")
    assert describe(tmp_path / "d.zarr")["splits"]["train"]["index"] is None
    assert index_dataset(tmp_path / "d.zarr") == []


def change(array, values):
    opened = zarr.open_array(array, mode="r+")
    opened[: len(values)] = values


@pytest.mark.slow
def test_an_index_of_other_rows_is_refused(store):
    x = open_split(store, "train").x
    change(store / "train/x", x[:1] + 1)
    for rows in ("train", "train[:10]", "train[20000:]"):
        with pytest.raises(DataSetError, match="other rows than it holds now; make it again") as e:
            summaries(Catalog(str(store)).rows(rows))
        assert f"dkde index {store.absolute()}" in str(e.value)
        assert "\n" not in str(e.value)
    assert summaries(Catalog(str(store)).rows("test")) is not None
    assert describe(store)["splits"]["train"]["index"] == "of other rows"
    index_dataset(store)
    assert summaries(Catalog(str(store)).rows("train")) is not None


def test_a_copy_keeps_its_index_and_another_split_cannot_have_it(store, tmp_path):
    import shutil

    shutil.copytree(store, "copy.zarr")
    assert summaries(Catalog("copy.zarr").rows("train")) is not None
    shutil.rmtree("copy.zarr/_index/test")
    shutil.copytree("copy.zarr/_index/train", "copy.zarr/_index/test")
    with pytest.raises(DataSetError, match="other rows"):
        summaries(Catalog("copy.zarr").rows("test"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


ARRAYS = ("count", "centroid", "radius", "origin", "axis", "along_low", "along_high")


@pytest.mark.slow
@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"x")])
def test_a_damaged_index_is_refused_in_a_line(store, array, damage):
    (chunk,) = (p for p in (store / "_index/train" / array / "c").rglob("*") if p.is_file())
    damage(chunk)
    with pytest.raises(DataSetError, match=r"its index is damaged .*make it again with") as error:
        summaries(Catalog(str(store)).rows("train"))
    assert "\n" not in str(error.value)
    assert describe(store)["splits"]["train"]["index"] == "damaged"
    index_dataset(store, ["train"])
    assert summaries(Catalog(str(store)).rows("train")) is not None


@pytest.mark.parametrize("array", ["", *ARRAYS])
def test_damaged_metadata_are_refused_in_a_line(store, array):
    (store / "_index/train" / array / "zarr.json").write_text('{"zarr_format": 3, "node_type"')
    with pytest.raises(DataSetError, match="its index is damaged") as error:
        summaries(Catalog(str(store)).rows("train"))
    assert "\n" not in str(error.value)


def test_an_index_that_could_not_be_written_leaves_the_old_one(store, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left")

    before = summaries(Catalog(str(store)).rows("train"))
    with monkeypatch.context() as patch:
        patch.setattr("zarr.core.attributes.Attributes.update", fail)
        with pytest.raises(DataSetError, match="index of train could not be written"):
            index_dataset(store)
    after = summaries(Catalog(str(store)).rows("train"))
    np.testing.assert_array_equal(after.regions[0].centroids, before.regions[0].centroids)


def test_an_index_that_was_not_finished_is_none(store, monkeypatch):
    shutil.rmtree(store / "_index")

    def fail(*args, **kwargs):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.core.attributes.Attributes.update", fail)
        said = r"index of train could not be written \(no space left\)"
        with pytest.raises(DataSetError, match=said):
            index_dataset(store)
    assert summaries(Catalog(str(store)).rows("train")) is None


def test_any_store_can_have_one(store):
    content = {
        str(path.relative_to(store)): default_buffer_prototype().buffer.from_bytes(
            path.read_bytes()
        )
        for path in store.rglob("*")
        if path.is_file() and "_index" not in path.parts
    }
    memory = MemoryStore(content)
    split = open_split(memory, "train")
    assert index_state(split) is None
    assert index_dataset(memory) == ["train", "test"]
    assert index_state(open_split(memory, "train")) == "yes"
    part = Part(ZarrSource(split.x, complete=True), 0, 30_000, "x", Encoding(0.5, 3.0))
    there = summaries(Catalog(str(store)).rows("train"))
    np.testing.assert_array_equal(summaries(Rows((part,))).regions[0].radii, there.regions[0].radii)


# ---- order ----


def source_split(x, name="train", **options):
    return SourceSplit(name, *x.shape, x.dtype, partial(array_batches, x), **options)


@pytest.mark.slow
@given(
    st.integers(0, 2**32),
    st.integers(1, 5000),
    st.integers(1, 12),
    st.integers(1, 900),
    st.sampled_from(["u1", "i8", "f4", "f8"]),
    st.booleans(),
)
@settings(max_examples=few(40))
def test_an_order_is_a_permutation(seed, n_rows, n_features, chunk_rows, dtype, odd):
    r = np.random.default_rng(seed)
    x = (r.normal(0, 50, (n_rows, n_features)) // 1).clip(0, 200).astype(dtype)
    if odd and x.dtype.kind == "f":
        x[r.integers(0, n_rows, 3)] = [[np.nan], [np.inf], [-1e300 if dtype == "f8" else -1e30]]
    order = compact_order(source_split(x), chunk_rows)
    np.testing.assert_array_equal(np.sort(order), np.arange(n_rows))


@pytest.mark.parametrize("n_features", [1, 2, 3, 10])
def test_leaves_are_what_halving_leaves(n_features):
    """Chunks do not overlap along the axis of the cut that parts them: of one axis, at all."""
    x = rng.normal(size=(4000, n_features))
    order = tree_order(x.astype(np.float32), 500)
    if n_features == 1:
        chunks = x[order].reshape(8, 500)
        assert (chunks[:-1].max(axis=1) <= chunks[1:].min(axis=1)).all()
    halves = x[order].reshape(2, 2000, n_features)
    assert (halves[0].max(axis=0) <= halves[1].min(axis=0) + 1e-6).any()


def test_leaves_of_many_features_are_compact():
    # Rows of its own: cuts that part a cluster make chunks far larger, and are one in a dozen.
    x = big(100, 8000, 8, seed=0)
    order = compact_order(source_split(x), 500)
    for rows, least in ((x, 200), (x[order], 0)):
        chunks = [enclose(chunk) for chunk in np.split(rows, 16)]
        radii = stack(chunks).radii
        assert least < np.median(radii)
    assert np.median(radii) < 20
    far = squared_distances(points(x[:50].astype(np.float64)), stack(chunks)) > 100.0**2
    assert far.mean() > 0.7


@pytest.mark.slow
def test_chunks_of_sorted_rows_are_compact(tmp_path):
    x = big(2, 1_200_000, 8)
    np.savez(tmp_path / "x.npz", train=x, train_label=np.arange(len(x)), test=x[::2])
    for name, order in (("plain", False), ("sorted", True)):
        import_dataset(tmp_path / "x.npz", tmp_path / name, order=order)
    plain, found = (
        summaries(Catalog(str(tmp_path / name)).rows("train")) for name in ("plain", "sorted")
    )
    assert np.mean(found.regions[0].radii) < 0.7 * np.mean(plain.regions[0].radii)
    # A query near a cluster needs few chunks.
    bounds = found.squared_distances(x[:50])
    assert np.mean(bounds > 10.0**2) > 0.4 > np.mean(plain.squared_distances(x[:50]) > 10.0**2)
    for split, rows in (("train", x), ("test", x[::2])):
        opened = open_split(tmp_path / "sorted", split)
        source_row = opened.source_row[:]
        np.testing.assert_array_equal(np.sort(source_row), np.arange(len(rows)))
        np.testing.assert_array_equal(opened.x[:], rows[source_row])
        assert not np.array_equal(source_row, np.arange(len(rows)))
    train = open_split(tmp_path / "sorted", "train")
    np.testing.assert_array_equal(train.labels["label"][:], train.source_row[:])
    options = zarr.open_group(tmp_path / "sorted", mode="r").attrs["import_options"]
    assert options == {"order": True}


def test_order_and_a_shuffle_are_refused_together(tmp_path):
    with pytest.raises(InputError, match="order and shuffle_seed both"):
        import_dataset("digits", tmp_path / "d.zarr", order=True, shuffle_seed=1)
    assert not (tmp_path / "d.zarr").exists()


@pytest.mark.slow
@given(
    st.integers(1, 400), st.integers(1, 50), st.integers(0, 2**32), st.sampled_from(["u1", "f8"])
)
@settings(max_examples=few(60))
def test_rows_that_wait_in_files_come_in_order(tmp_path_factory, n_rows, bucket, seed, dtype):
    folder = tmp_path_factory.mktemp("scratch")
    r = np.random.default_rng(seed)
    x = r.integers(0, 200, (n_rows, 3)).astype(dtype)

    def batches():
        for start in range(0, n_rows, 7):
            yield x[start : start + 7]

    split = SourceSplit("train", n_rows, 3, x.dtype, batches)
    order = r.permutation(n_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "BUCKET_BYTES", bucket * 3 * x.itemsize)
        found = list(permuted_batches(split, order, folder))
    np.testing.assert_array_equal(np.concatenate(found), x[order])
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"order": True}, {"shuffle_seed": 1}, {}])
def test_memory_is_bounded(tmp_path, monkeypatch, options):
    monkeypatch.setattr(ordering, "BUCKET_BYTES", 16 * 2**20)
    n_rows, n_features = 100_000, 500
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, n_features))
    for start in range(0, n_rows, 10_000):
        x[start : start + 10_000] = rng.normal(size=(10_000, n_features))
    x.flush()
    del x
    import_dataset("digits", tmp_path / "first", **options)  # what is allocated once
    tracemalloc.start()
    try:
        import_dataset(path, tmp_path / "d.zarr", **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_rows * n_features * 4 == 200e6
    assert peak < 100e6
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_summaries_of_no_chunk_in_between():
    known = Summaries(np.array([0, 10, 20, 25]), (unbounded(3, 2),), np.empty((0, 2)), 0.0)
    assert [known.chunks(*r) for r in ((0, 10), (9, 11), (10, 20), (24, 25), (0, 25))] == [
        slice(0, 1), slice(0, 2), slice(1, 2), slice(2, 3), slice(0, 3),
    ]  # fmt: skip
    bounds = np.array([[3.0, 1.0, 2.0]])
    assert known.over(bounds, [(0, 10), (0, 25), (20, 25)]).tolist() == [[3.0, 1.0, 2.0]]
