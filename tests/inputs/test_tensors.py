"""Tensors of other packages by DLPack, and sparse arrays, which are refused."""

from collections import namedtuple

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse
import xarray as xr

import dkde
from dkde.rows.tensors import dense

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(30, 2))
RIGHT = reference.log_density(ROWS, ROWS, [0.7])[0]


class Tensor:
    """An array with DLPack and nothing else, on a device by its number."""

    def __init__(self, array, number=1, error=None, **attributes):
        self.array, self.number, self.error = array, number, error
        self.__dict__.update(attributes)

    def __dlpack__(self, **options):
        if self.error is not None:
            raise self.error
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.number, 0)


class TorchTensor(Tensor):
    """A tensor that can be an array of NumPy, if it is on the CPU and outside of a gradient."""

    def __array__(self, dtype=None, copy=None):
        if self.error is not None:
            raise self.error
        return np.asarray(self.array)


def densities(rows, **options):
    model = dkde.KernelDensity(bandwidth=0.7).fit(rows)
    result = dkde.score(ROWS + 0.0, rows, 0.7)
    return [
        np.asarray(dkde.log_density(rows, rows, 0.7)),
        np.asarray(result.log_density[0]),
        np.asarray(model.score_samples(rows)),
    ]


@pytest.mark.parametrize("kind", [Tensor, TorchTensor])
def test_tensors_are_rows(kind):
    for found in densities(kind(ROWS)):
        np.testing.assert_allclose(found, RIGHT, rtol=1e-9)


def test_tensors_are_weights_and_groups_too():
    weights, groups = RNG.uniform(1, 2, 30), np.arange(30) % 3
    right = reference.log_density(ROWS, ROWS, [0.7], weights=weights)[0]
    found = dkde.log_density(ROWS, Tensor(ROWS), 0.7, weights=Tensor(weights))
    np.testing.assert_allclose(found, right, rtol=1e-9)
    options = {"bandwidths": [0.1, 0.5, 2.0]}
    found = dkde.cross_validate(Tensor(ROWS), folds=Tensor(groups), **options)
    right = dkde.cross_validate(ROWS, folds=groups, **options)
    assert float(found.best_bandwidth) == float(right.best_bandwidth)


def test_tensors_are_batches_of_an_import(tmp_path):
    path = tmp_path / "t.zarr"
    dkde.import_rows([(Tensor(ROWS[:10]), Tensor(np.arange(10))), (ROWS[10:], np.arange(20))], path)
    found = np.asarray(dkde.log_density(ROWS, f"{path}::train", 0.7))
    np.testing.assert_allclose(found, RIGHT, rtol=1e-9)
    with pytest.raises(dkde.InputError, match=r"batch 1 is sparse .* its toarray\(\)"):
        dkde.import_rows([scipy.sparse.csr_matrix(ROWS)], tmp_path / "u.zarr")


@pytest.mark.slow
def test_arrays_of_jax_are_rows():
    jax = pytest.importorskip("jax")
    single = ROWS.astype(np.float32)
    right = reference.log_density(single, single, [0.7])[0]
    for found in densities(jax.numpy.asarray(single))[::2]:
        np.testing.assert_allclose(found, right, rtol=1e-9)


def test_bfloat16_is_exact_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    small = ROWS.astype(ml_dtypes.bfloat16)
    taken = dense(small, "train")
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, small.astype(float))
    right = reference.log_density(small.astype(float), small.astype(float), [0.7])[0]
    for found in densities(small)[::2]:
        np.testing.assert_allclose(found, right, rtol=1e-9)


REFUSED = {
    "a gradient": (TorchTensor(ROWS, requires_grad=True), r"requires a gradient; .* detach\(\)"),
    "a GPU": (Tensor(ROWS, 2, BufferError("cannot")), r"on another device; copy it to the CPU"),
    "a GPU of torch": (TorchTensor(ROWS, 2, TypeError("no")), r"another device; .* \(cpu\(\)"),
    "bfloat16": (TorchTensor(ROWS, error=TypeError("no"), dtype="torch.bfloat16"), r"float\(\)"),
    "the device meta": (
        TorchTensor(ROWS, error=TypeError("no"), device="meta"), "the device meta, .* no values"
    ),
    "nested": (TorchTensor(ROWS, is_nested=True), "is a nested TorchTensor; .* equally long rows"),
    "a list with gradients": (
        [TorchTensor(row, requires_grad=True) for row in ROWS], r"item 0 is .* detach\(\)"
    ),
    "torch, compressed": (
        Tensor(ROWS, is_sparse=False, layout="torch.sparse_csr", to_dense=lambda: ROWS),
        r"sparse \(Tensor\).* its to_dense\(\)",
    ),
    "another fault": (Tensor(ROWS, error=RuntimeError("no\nmore")), "cannot be read: no$"),
    "scipy, a matrix": (scipy.sparse.csr_matrix(ROWS), r"sparse \(csr_matrix\).* its toarray\(\)"),
    "scipy, an array": (scipy.sparse.coo_array(ROWS), r"sparse \(coo_array\).* its toarray\(\)"),
    "torch, sparse": (
        Tensor(ROWS, is_sparse=True, to_dense=lambda: ROWS), r"sparse \(Tensor\).* its to_dense\(\)"
    ),
    "Dask of scipy": (
        da.from_array(ROWS, chunks=10).map_blocks(scipy.sparse.csr_matrix),
        r"sparse \(csr_\w+\).*; make its chunks dense \(map_blocks\(lambda x: x.toarray\(\)\)\)",
    ),
    "pandas": (
        pd.DataFrame(ROWS, columns=["a", "b"]).astype(pd.SparseDtype(float, 0)),
        r"column 'a' is sparse, .*; make it dense \(sparse.to_dense\(\)\)",
    ),
}  # fmt: skip
WAYS = {
    "log_density": lambda rows: dkde.log_density(ROWS, rows, 0.7),
    "score": lambda rows: dkde.score(rows, ROWS, 0.7),
    "sweep": lambda rows: dkde.sweep(train=rows, valid=ROWS[:9], bandwidths=[0.5, 0.7]),
    "cross_validate": lambda rows: dkde.cross_validate(rows, bandwidths=[0.5, 0.7]),
    "sample": lambda rows: dkde.sample(rows, 3, 0.7),
    "fit": lambda rows: dkde.KernelDensity().fit(rows),
    "fit, choosing": lambda rows: dkde.KernelDensityCV(bandwidths=[0.5, 0.7]).fit(rows),
    "score_samples": lambda rows: dkde.KernelDensity().fit(ROWS).score_samples(rows),
}


QUICK = ("log_density", "fit")


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize(
    "way", [way if way in QUICK else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]
)
def test_others_are_refused_in_a_line(kind, way):
    rows, message = REFUSED[kind]
    with pytest.raises(dkde.InputError, match=message) as refusal:
        WAYS[way](rows)
    assert len(str(refusal.value).splitlines()) == 1


def test_sparse_weights_are_refused():
    for weights in (scipy.sparse.csr_matrix(ROWS[:, :1]), scipy.sparse.coo_array(ROWS[:, 0])):
        with pytest.raises(dkde.InputError, match=r"weights is sparse .* its toarray\(\)"):
            dkde.log_density(ROWS, ROWS, 0.7, weights=weights)


@pytest.mark.slow  # the package compiles for seconds as it is imported
def test_arrays_of_sparse_are_refused():
    sparse = pytest.importorskip("sparse")
    array = sparse.COO.from_numpy(ROWS)
    for rows in (array, da.from_array(ROWS).map_blocks(sparse.COO.from_numpy)):
        with pytest.raises(dkde.InputError, match=r"sparse \(COO\), .*todense\(\)"):
            dkde.log_density(ROWS, rows, 0.7)
    wrapped = xr.DataArray(array, dims=("row", "feature"))
    columns = xr.Dataset({"a": ("row", array[:, 0]), "b": ("row", ROWS[:, 1])})
    for held in (wrapped, columns):
        for fit in (lambda data: dkde.log_density(ROWS, data, 0.7), dkde.KernelDensity().fit):
            with pytest.raises(dkde.InputError, match=r"sparse \(COO\), .*as_numpy\(\)"):
                fit(held)


def test_tensors_may_lie_in_lists_of_lists_and_named_tuples():
    class Half(Tensor):
        """A number that NumPy does not have, which its own method makes of single precision."""

        dtype = "torch.bfloat16"

        def float(self):
            return self.array.astype(np.float32)

        def __array__(self, *args, **options):
            raise TypeError("Got unsupported ScalarType BFloat16")

    right = dkde.log_density(ROWS.astype(np.float32), ROWS, 0.7)
    pair = namedtuple("pair", "x y")
    for rows in (
        [[Half(np.array(x)) for x in row] for row in ROWS],
        [pair(*(Half(np.array(x)) for x in row)) for row in ROWS],
    ):
        np.testing.assert_array_equal(dkde.log_density(rows, ROWS, 0.7), right)
    two = dkde.log_density(ROWS[:2], ROWS[:2], 0.7)
    found = dkde.log_density(pair(Tensor(ROWS[0]), Tensor(ROWS[1])), ROWS[:2], 0.7)
    np.testing.assert_array_equal(found, two)


def test_arguments_may_be_tensors():
    class Half(Tensor):
        """A type that NumPy does not have, which its own method makes of single precision."""

        dtype = "torch.bfloat16"

        def float(self):
            return self.array.astype(np.float32)

    eye = np.diag([1.0, 4.0])
    right = reference.log_density(ROWS, ROWS, [0.5])[0]
    for h in (Tensor(np.array(0.5)), Half(np.array(0.5))):
        np.testing.assert_allclose(dkde.log_density(ROWS, ROWS, h), right, rtol=1e-9)
    right = dkde.log_density(ROWS, ROWS, 0.5, covariance=eye)
    for matrix in (Tensor(eye), Half(eye)):
        found = dkde.log_density(ROWS, ROWS, 0.5, covariance=matrix)
        np.testing.assert_array_equal(found, right)
    grown = TorchTensor(np.array(0.5), requires_grad=True)
    for h, options in ((0.5, {"covariance": grown}), (grown, {})):
        named = "covariance" if options else "bandwidth"
        with pytest.raises(dkde.InputError, match=rf"^{named} is a TorchTensor that requires"):
            dkde.log_density(ROWS, ROWS, h, **options)
    places = np.degrees(ROWS) / 4
    with pytest.raises(dkde.InputError, match=r"^bandwidth is a TorchTensor that requires"):
        dkde.log_density(places, places, grown, kernel="vonmises_fisher")


def test_batches_of_loaders_are_rows_and_labels(tmp_path):
    rows, labels = Tensor(ROWS), Tensor(np.arange(30))
    rows.ndim, rows.shape, labels.shape = 2, (30, 2), (30,)
    dkde.import_rows([[rows, labels]], tmp_path / "t.zarr")
    found = dkde.score(ROWS, f"{tmp_path / 't.zarr'}::train", 0.7)
    np.testing.assert_allclose(found.log_density[0], RIGHT, rtol=1e-9)
    for batch, message in (
        ([rows], "batch 1 is a list of 1 tensors; yield one tensor of rows"),
        ({"x": rows, "y": labels}, r"batch 1 is a mapping \(x, y\); yield one array"),
        ([ROWS, ROWS[:3]], "batch 1: its rows differ in their number of values"),
    ):
        with pytest.raises(dkde.InputError, match=message):
            dkde.import_rows([batch], tmp_path / "u.zarr")


def test_a_tensor_is_one_batch(tmp_path):
    pictures = Tensor(ROWS.reshape(10, 3, 2))
    dkde.import_rows(pictures, tmp_path / "t.zarr")
    assert dkde.describe(tmp_path / "t.zarr")["splits"]["train"]["rows"] == 10


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class TestPyTorch:
    """Tensors of PyTorch itself, if it is there."""

    def test_rows(self, torch):
        tensor = torch.tensor(ROWS)
        shown_twice = torch.tensor(np.repeat(ROWS, 2, axis=0))[::2]
        turned = torch.tensor(np.ascontiguousarray(ROWS.T)).T
        negative = torch._neg_view(-tensor)
        for rows in (tensor, shown_twice, turned, negative, list(tensor), negative * 1):
            for found in densities(rows):
                np.testing.assert_allclose(found, RIGHT, rtol=1e-9)

    @pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float8_e4m3fn", "int8"])
    def test_smaller_types(self, torch, kind):
        tensor = (torch.tensor(ROWS) * 3).to(getattr(torch, kind))
        exact = tensor.double().numpy()
        right = reference.log_density(exact, exact, [0.7])[0]
        found = dkde.log_density(tensor, tensor, 0.7)
        np.testing.assert_allclose(found, right, rtol=1e-9)
        found = dkde.log_density(tensor, list(tensor), 0.7)
        np.testing.assert_allclose(found, right, rtol=1e-9)

    def test_weights(self, torch):
        weights = torch.tensor(RNG.uniform(1, 2, 30)).bfloat16()
        mask = torch.arange(30) % 3 == 0
        for each in (weights, mask):
            exact = each.double().numpy()
            right = reference.log_density(ROWS, ROWS, [0.7], weights=exact)[0]
            found = dkde.log_density(ROWS, ROWS, 0.7, weights=each)
            np.testing.assert_allclose(found, right, rtol=1e-9)
            model = dkde.KernelDensity(bandwidth=torch.tensor(0.7))
            model.fit(torch.tensor(ROWS), sample_weight=each)
            np.testing.assert_allclose(model.score_samples(ROWS), right, rtol=1e-7)

    @pytest.mark.parametrize("way", QUICK)
    def test_refusals(self, torch, way):
        tensor = torch.tensor(ROWS)
        for rows, message in (
            (torch.nn.Parameter(tensor), r"is a Parameter that requires a gradient; .* detach"),
            (tensor.clone().requires_grad_() * 2, r"requires a gradient; .* detach"),
            (tensor.to("meta"), "on the device meta, which holds no values$"),
            (tensor.to_sparse(), r"sparse \(Tensor\).* its to_dense\(\)$"),
        ):
            with pytest.raises(dkde.InputError, match=message) as refusal:
                WAYS[way](rows)
            assert len(str(refusal.value).splitlines()) == 1

    def test_loaders_are_batches(self, torch, tmp_path):
        data = torch.utils.data
        pairs = data.TensorDataset(torch.tensor(ROWS), torch.arange(30))
        dkde.import_rows(data.DataLoader(pairs, batch_size=8), tmp_path / "t.zarr")
        found = np.asarray(dkde.log_density(ROWS, f"{tmp_path / 't.zarr'}::train", 0.7))
        np.testing.assert_allclose(found, RIGHT, rtol=1e-9)
        rows = data.DataLoader(data.TensorDataset(torch.tensor(ROWS)), batch_size=8)
        with pytest.raises(dkde.InputError, match="batch 1 is a list of 1 tensors"):
            dkde.import_rows(rows, tmp_path / "u.zarr")
        dkde.import_rows((batch for (batch,) in rows), tmp_path / "u.zarr")
