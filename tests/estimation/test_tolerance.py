"""``tol`` and ``return_error``, wherever they can be asked for."""

import json
from contextlib import ExitStack
from unittest import mock

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import dkde
from dkde.engine import cell_survey, survey, task
from dkde.numerics import near, tolerance
from dkde.numerics.kernels import GAUSSIAN

ROWS = np.random.default_rng(0).normal(size=(40, 3))
H = [0.1, 0.7, 5.0]


@pytest.mark.parametrize(
    ("precision", "tol", "message"),
    [
        ("float64", 0, "tol is 0; it must be positive"),
        ("float64", -1e-9, "tol is -1e-09; it must be positive"),
        ("float64", float("nan"), "tol is nan; it must be positive"),
        ("float64", 1, "tol is 1; it must be below 1"),
        ("float64", 1e-13, "tol 1e-13 is below what float64 can keep; give 1e-12 or more"),
        (
            "float32",
            1e-6,
            "float32 can keep; give 1e-05 or more, or use float64",
        ),
        ("float32", 1e-20, "tol 1e-20 is below what float32 can keep; give 1e-05 or more"),
        ("float64", "much", "tol is 'much'; it must be a number, such as 1e-9"),
        ("float64", [1e-9, 1e-8], "it must be a number"),
    ],
)
def test_a_tolerance_that_cannot_be_kept(precision, tol, message):
    for call in (
        lambda **options: dkde.log_density(ROWS, ROWS, 1.0, **options),
        lambda **options: dkde.score(ROWS + 1, ROWS, 1.0, **options),
        lambda **options: dkde.sweep(train=ROWS, valid=ROWS + 1, bandwidths=H, **options),
        lambda **options: dkde.cross_validate(ROWS, H, **options),
        lambda **options: dkde.plan(query=ROWS, train=ROWS, baseline=False, **options),
        lambda **options: dkde.KernelDensity(**options).fit(ROWS),
        lambda **options: dkde.KernelDensityCV(**options).fit(ROWS),
    ):
        with pytest.raises(dkde.InputError) as caught:
            call(precision=precision, tol=tol)
        assert message in str(caught.value)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_default_is_as_if_it_were_named(precision):
    tol = tolerance.DEFAULT_TOL[precision]
    plain = dkde.log_density(ROWS, ROWS, H, precision=precision)
    named = dkde.log_density(ROWS, ROWS, H, precision=precision, tol=tol)
    np.testing.assert_array_equal(plain, named)


def test_what_is_left_out_follows_it():
    for precision, least in tolerance.LEAST_TOL.items():
        strict, usual, loose = (
            tolerance.Accuracy.of(tol, precision, GAUSSIAN)
            for tol in (least, tolerance.DEFAULT_TOL[precision], 1e-2)
        )
        assert strict.negligible == usual.negligible > loose.negligible > 0
        assert strict.absolute < usual.absolute < loose.absolute


@pytest.mark.parametrize("bandwidth", [0.5, H])
class TestErrors:
    """The second array: of the same shape and form as the first."""

    def test_of_numpy(self, bandwidth):
        values, errors = dkde.log_density(ROWS, ROWS, bandwidth, return_error=True)
        np.testing.assert_array_equal(values, dkde.log_density(ROWS, ROWS, bandwidth))
        assert values.shape == errors.shape == (*np.shape(bandwidth), 40)
        assert ((errors > 0) & (errors < 1e-9)).all()

    def test_of_dask(self, bandwidth):
        query = da.from_array(ROWS, chunks=(10, 3))
        values, errors = dkde.log_density(query, ROWS, bandwidth, return_error=True)
        assert isinstance(errors, da.Array)
        assert values.shape == errors.shape
        now = dkde.log_density(ROWS, ROWS, bandwidth, return_error=True)
        for lazy, eager in zip(da.compute(values, errors), now, strict=True):
            np.testing.assert_allclose(lazy, eager, rtol=1e-12)

    def test_of_xarray(self, bandwidth):
        query = xr.DataArray(ROWS, {"case": ("row", np.arange(40))}, ("row", "feature"))
        values, errors = dkde.log_density(query, ROWS, bandwidth, return_error=True)
        assert (values.name, errors.name) == ("log_density", "log_density_error")
        assert errors.dims == values.dims
        assert set(errors.coords) == set(values.coords) == {"case", "bandwidth"}
        assert errors.attrs["units"] == "1"
        assert (errors.compute() < 1e-9).all()


def test_both_arrays_come_from_the_same_blocks():
    query = da.from_array(ROWS, chunks=(10, 3))
    arrays = dkde.log_density(query, ROWS, 0.5, return_error=True, panel_rows=10, block_rows=10)
    graph = {**arrays[0].__dask_graph__(), **arrays[1].__dask_graph__()}
    blocks = [key for key in graph if str(key[0]).startswith("dkde-block")]
    assert len(blocks) == 16


def test_no_density_has_no_error_and_zero_density_none():
    far = np.array([[0.0, 0, 0], [5.0, 5, 5]])
    values, errors = dkde.log_density(far, ROWS, 2.0, kernel="linear", return_error=True)
    assert np.isneginf(values[1])
    assert errors[0] > 0 == errors[1]
    alone = np.zeros((1, 3))
    found = dkde.log_density(alone, alone, 1.0, groups=[0], train_groups=[0], return_error=True)
    assert np.isnan(found).all()


class TestResults:
    """``log_density_error`` beside ``log_density``."""

    def test_of_a_score(self):
        result = dkde.score(ROWS + 1, ROWS, H)
        assert result.log_density_error.dims == result.log_density.dims
        assert float(result.log_density_error.max()) < 1e-9

    def test_of_a_sweep(self):
        result = dkde.sweep(train=ROWS, valid=ROWS + 1, test=ROWS - 1, bandwidths=H)
        assert result.test_log_density_error.dims == ("test_sample",)
        assert float(result.test_log_density_error.max()) < 1e-9

    @pytest.mark.parametrize("refine", [False, True])
    def test_of_a_cross_validation(self, refine):
        result = dkde.cross_validate(ROWS, H, refine=refine)
        assert result.log_density_error.shape == result.log_density.shape
        assert float(result.log_density_error.max()) < 1e-9

    def test_a_coordinate_of_that_name_is_refused(self):
        query = xr.DataArray(
            ROWS, {"log_density_error": ("row", np.arange(40))}, ("row", "feature")
        )
        with pytest.raises(dkde.InputError, match="log_density_error"):
            dkde.score(query, ROWS + 1, 1.0)


class TestRuns:
    """A tolerance is part of what a run computes."""

    def test_errors_are_kept(self, tmp_path):
        options = {"output": tmp_path / "r.zarr", "block_rows": 10, "panel_rows": 10}
        first = dkde.score(ROWS + 1, ROWS, H, **options)
        plain = dkde.score(ROWS + 1, ROWS, H, block_rows=10, panel_rows=10)
        again = dkde.score(ROWS + 1, ROWS, H, **options)
        for result in (first, again):
            for name in ("log_density", "log_density_error"):
                np.testing.assert_array_equal(result[name], plain[name])

    def test_another_tolerance_is_another_run(self, tmp_path):
        dkde.score(ROWS + 1, ROWS, H, output=tmp_path / "r.zarr")
        dkde.score(ROWS + 1, ROWS, H, output=tmp_path / "r.zarr", tol=1e-9)  # the same
        with pytest.raises(dkde.DataSetError, match="tol was 1e-09 and is 1e-06"):
            dkde.score(ROWS + 1, ROWS, H, output=tmp_path / "r.zarr", tol=1e-6)

    def test_it_is_in_the_provenance(self):
        result = dkde.score(ROWS + 1, ROWS, H, tol=1e-6)
        assert json.loads(result.attrs["provenance"])["score"]["tol"] == 1e-6

    def test_lazy_arrays_of_another_have_another_name(self):
        query = da.from_array(ROWS, chunks=(10, 3))
        names = {
            dkde.log_density(query, ROWS, 0.5, tol=tol).name for tol in (None, 1e-9, 1e-6, 1e-3)
        }
        assert len(names) == 3


def test_estimators_take_it():
    for model in (dkde.KernelDensity(tol=1e-6), dkde.KernelDensityCV(bandwidths=H, tol=1e-6)):
        assert model.get_params()["tol"] == 1e-6
        assert np.isfinite(model.fit(ROWS).score(ROWS))


def exactly(query, train, h):
    """Log-densities in extended precision, from the values as they are given."""
    wide, d = np.longdouble, train.shape[1]
    u = (query[:, None].astype(wide) - train[None].astype(wide)) / wide(h)
    log_kernels = -(u**2).sum(axis=2) / 2
    top = log_kernels.max(axis=1)
    sums = np.exp(log_kernels - top[:, None]).sum(axis=1)
    norm = np.log(wide(len(train))) + d * np.log(wide(h)) + d * np.log(2 * wide(np.pi)) / 2
    return np.log(sums) + top - norm


def assert_kept(query, train, h, tol, **options):
    values, errors = dkde.log_density(query, train, h, tol=tol, return_error=True, **options)
    exact = exactly(query, train, h)
    off = np.abs(values - exact).astype(np.float64)
    assert (off <= errors).all()
    assert (errors <= tol * np.maximum(1, np.abs(values))).all()


def surveyed(method):
    """Choose that way, as if a sample had said that it pays."""
    patches = ExitStack()
    if method == "expansions":
        patches.enter_context(mock.patch.object(cell_survey, "leaves_time", return_value=np.inf))
    if method == "near pairs":
        patches.enter_context(mock.patch.object(task, "MOST_IN_LEAVES", 0))
    patches.enter_context(
        mock.patch.multiple(survey, _WORTHWHILE=np.inf, _is_small=lambda *_: False)
    )
    return patches


@pytest.mark.filterwarnings("ignore:values of train go from")
class TestWhatIsLeftOut:
    """Rows on a shell so far away that each may just be left out, or just not."""

    @pytest.mark.slow
    @pytest.mark.parametrize("tol", [1e-9, 1e-6, 1e-3, 0.1])
    @pytest.mark.parametrize("beyond", [-2.0, -0.1, 0.1, 2.0])
    def test_is_little_altogether(self, tol, beyond):
        n, d = 3000, 5
        rng = np.random.default_rng(0)
        for share in (1.0, 1.0 / n):  # of all rows, or of one
            exponent = np.log(1 / (tol * share)) + beyond
            shell = rng.normal(size=(n, d))
            shell *= np.sqrt(2 * max(exponent, 0.1)) / np.linalg.norm(shell, axis=1)[:, None]
            train = np.concatenate([np.zeros((1, d)), shell])
            query = np.full((1, d), 1e-3) * rng.normal(size=(300, 1))
            with surveyed("near pairs"), mock.patch.object(near, "_FEW", 1.0):
                assert_kept(query, train, 1.0, tol)
            assert_kept(query, train, 1.0, tol)  # in leaves

    @pytest.mark.parametrize("tol", [1e-9, 1e-6])
    def test_distances_that_are_known_too_roughly_are_taken_again(self, tol):
        rng = np.random.default_rng(0)
        for far in np.geomspace(10, 1e7, 25):
            rows = rng.normal(size=(300, 2)) + far * rng.choice([-1, 1], (300, 1))
            assert_kept(rows[:40] + 0.1, rows, 1.0, tol)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:values of train go from")
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(("first", "far"), [(1, 1e9), (300, 1e8), (300, -1e5), (2000, 1e8)])
def test_expansions_feel_what_taking_a_far_row_away_rounds(d, first, far):
    """The first rows are what all coordinates are seen from."""
    rng = np.random.default_rng(0)
    train, query = rng.normal(size=(3000, d)), rng.normal(size=(300, d))
    train[:first] += far
    with surveyed("expansions"):
        assert_kept(query, train, 0.2, 1e-9)
        assert_kept(query + 0.1 * far, train + 0.1 * far, 0.2, 1e-9)


def test_data_so_small_that_squares_are_no_numbers():
    rows = np.random.default_rng(0).standard_normal((9000, 10)) * 1e-156
    found = dkde.log_density(rows[:600], rows, 1e-149)
    np.testing.assert_allclose(found, found[0], rtol=1e-9)
    assert np.isfinite(found).all()
