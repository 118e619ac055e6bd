"""Frames, kernels and metrics as values."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from dkde.errors import InputError
from dkde.numerics.frame import Frame, Points, reference_row
from dkde.numerics.hotloop import hot_loop
from dkde.numerics.kernels import GAUSSIAN, KERNELS, get_kernel
from dkde.numerics.metrics import EUCLIDEAN, METRICS, get_metric


def test_the_reference_of_integers_is_whole() -> None:
    rows = np.array([[0, 255], [1, 254], [1, 255]], np.uint8)
    np.testing.assert_array_equal(reference_row(rows, True), [1, 255])
    np.testing.assert_allclose(reference_row(rows, False), [2 / 3, 764 / 3])


def test_coordinates_are_differences_taken_in_float64() -> None:
    frame = Frame(np.array([1e6]), 1.0, False, "float32")
    values = np.array([[1e6 + 1 / 256]])
    points = Points.of(values, frame)
    assert points.coordinates.dtype == np.float32
    assert points.coordinates[0, 0] == np.float32(1 / 256)
    assert points.norms[0] == 1 / 65536


def test_small_integers_do_not_wrap_around() -> None:
    frame = Frame(np.array([250.0, 3.0]), 1.0, True, "float64")
    points = Points.of(np.array([[0, 255]], np.uint8), frame)
    np.testing.assert_array_equal(points.coordinates, [[-250, 252]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_norms_tell_which_rows_cannot_be_used(bad: float, precision: str) -> None:
    frame = Frame(np.zeros(2), 1.0, False, precision)  # type: ignore[arg-type]
    points = Points.of(np.array([[1.0, 2.0], [0.0, bad]]), frame)
    np.testing.assert_array_equal(np.isfinite(points.norms), [True, False])


@pytest.mark.parametrize(("precision", "large"), [("float64", 1.2e154), ("float32", 1.8e19)])
def test_norms_leave_room_for_distances(precision: str, large: float) -> None:
    # The square is a number, but that of the distance to the opposite row is none.
    frame = Frame(np.zeros(1), 1.0, False, precision)  # type: ignore[arg-type]
    points = Points.of(np.array([[large], [large / 2.1]]), frame)
    np.testing.assert_array_equal(np.isfinite(points.norms), [False, True])


def test_a_slice_of_points_is_of_all_three() -> None:
    frame = Frame(np.zeros(2), 1.0, False, "float64")
    points = Points.of(np.arange(10.0).reshape(5, 2), frame)[1:3]
    assert len(points) == 2
    np.testing.assert_array_equal(points.values, [[2, 3], [4, 5]])
    np.testing.assert_array_equal(points.norms, [13, 41])


def test_precision_of_a_frame() -> None:
    double, single = (Frame(np.zeros(1), 1.0, True, p) for p in ("float64", "float32"))
    assert (double.exact_below, single.exact_below) == (2**53, 2**24)
    assert single.epsilon == 2**-24


def test_integers_are_exact_as_far_as_the_format_counts() -> None:
    frame = Frame(np.zeros(3), 1.0, True, "float32")
    assert EUCLIDEAN.rounding(frame, 2**24) == 0
    assert EUCLIDEAN.rounding(frame, 2**24 + 1) > 0


def test_kernels_and_metrics_travel_by_name() -> None:
    for value in (*KERNELS.values(), *METRICS.values()):
        assert pickle.loads(pickle.dumps(value)) is value
    assert hot_loop(GAUSSIAN, "float64") is hot_loop(get_kernel("gaussian"), "float64")


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"kernel 'gausian' is not known; choose one of: .*gaussian"
    ):
        get_kernel("gausian")
    with pytest.raises(InputError, match=r"metric 'L2' is not known; choose one of: .*euclidean"):
        get_metric("L2")
    assert get_metric(EUCLIDEAN) is EUCLIDEAN


def test_nothing_compiled_is_kept_beside_the_source() -> None:
    # What pip does not know of outlives an uninstallation, as a package without a file.
    import dkde.numerics

    folder = Path(dkde.numerics.__file__).parent
    before = set(folder.rglob("*.nb?"))
    frame = Frame(np.zeros(2), 1.0, False, "float64")
    Points.of(np.zeros((1, 2), np.int32), frame)
    assert set(folder.rglob("*.nb?")) == before
