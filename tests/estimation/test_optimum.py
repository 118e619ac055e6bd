"""The maximum of a curve: found to what was asked for, in few passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkde.estimation.optimum import maximise

TOLERANCE = 5e-5

# Each has its maximum at 0.
SMOOTH = {
    "parabola": lambda x: -(x**2),
    "bell": lambda x: np.exp(-(x**2) / 2),
    "cosh": lambda x: -np.cosh(2 * x),
    # As a held-out Gaussian log-likelihood: h too small costs 1 / h**2, too large d log h.
    "likelihood": lambda x: -300 * (np.exp(-2 * x) / 2 + x),
    "shallow": lambda x: -1e-6 * np.cosh(x) - 5e6,
}


class Counted:
    """A curve, its maximum moved, that counts evaluations and remembers where."""

    def __init__(self, curve, centre):
        self.curve, self.centre, self.passes, self.points = curve, centre, 0, []

    def __call__(self, points):
        assert points.ndim == 1
        assert len(points)
        self.passes += 1
        self.points.extend(points)
        return self.curve(points - self.centre)

    def maximum(self, grid, tolerance=TOLERANCE):
        grid = np.asarray(grid, float)
        point, value, n_passes = maximise(self, grid, self.curve(grid - self.centre), tolerance)
        assert n_passes == self.passes
        # NumPy rounds one number otherwise than an array of them.
        assert value == pytest.approx(self.curve(np.float64(point) - self.centre), rel=1e-12)
        assert point in self.points or point in grid
        return point


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"shallow"}))
@given(st.floats(-1.5, 1.5), st.integers(3, 30))
def test_smooth_curves_take_few_passes(name, centre, n_points):
    curve = Counted(SMOOTH[name], centre)
    assert abs(curve.maximum(np.linspace(-2, 2, n_points)) - centre) <= TOLERANCE
    assert curve.passes <= 4


def test_digits_are_in_the_differences():
    """Of 5e6 nats only the last digits tell: the point is as good as rounding lets it be."""
    curve = Counted(SMOOTH["shallow"], 0.3)
    assert abs(curve.maximum(np.linspace(-2, 2, 9)) - 0.3) <= 0.2


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"shallow"}))
@pytest.mark.parametrize("centre", [-2.0, -2.7, -4.5, 2.0, 2.7, 4.5])
def test_beyond_the_grids_ends(name, centre):
    curve = Counted(SMOOTH[name], centre)
    assert abs(curve.maximum(np.linspace(-2, 2, 12)) - centre) <= TOLERANCE


@pytest.mark.parametrize("grid", [[0.4], [-3.0, 0.4], [0.4, 3.0]])
def test_grids_of_one_and_two(grid):
    curve = Counted(SMOOTH["likelihood"], 1.1)
    assert abs(curve.maximum(grid) - 1.1) <= TOLERANCE


@given(st.floats(-1.5, 1.5), st.permutations(list(np.linspace(-2, 2, 9))))
def test_the_grids_order_does_not_count(centre, grid):
    in_order = Counted(SMOOTH["bell"], centre).maximum(sorted(grid))
    assert Counted(SMOOTH["bell"], centre).maximum(grid) == in_order


@pytest.mark.parametrize("edge", [-1e-3, -0.1, -1.0])
def test_regions_of_minus_infinity(edge):
    """As with compact kernels: below some bandwidth a row has no density."""

    def curve(x):
        return np.where(x < edge, -np.inf, -(x**2))

    counted = Counted(curve, 0.7)
    assert abs(counted.maximum(np.linspace(-2, 2, 9)) - 0.7) <= TOLERANCE


def test_a_maximum_at_the_edge_of_minus_infinity():
    counted = Counted(lambda x: np.where(x < 0, -np.inf, -x), 0.3)
    assert 0 <= counted.maximum(np.linspace(-2, 2, 9)) - 0.3 <= TOLERANCE


def test_nan_is_as_bad_as_minus_infinity():
    counted = Counted(lambda x: np.where(x < -0.2, np.nan, -(x**2)), 0.3)
    assert abs(maximise(counted, np.linspace(-2, 2, 9), counted.curve(np.linspace(-2.3, 1.7, 9)),
                        TOLERANCE)[0] - 0.3) <= TOLERANCE  # fmt: skip


@given(st.floats(-1.5, 1.5), st.floats(0.1, 10))
def test_kinks(centre, slope):
    counted = Counted(lambda x: np.where(x < 0, slope * x, -x), centre)
    assert abs(counted.maximum(np.linspace(-2, 2, 9)) - centre) <= TOLERANCE


def test_of_two_peaks_the_one_at_the_grids_best():
    def curve(x):
        return np.exp(-((x - 1) ** 2) / 0.1) + 0.5 * np.exp(-((x + 1) ** 2) / 0.1)

    point = Counted(curve, 0.0).maximum(np.linspace(-2, 2, 21))
    assert abs(point - 1) <= TOLERANCE


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_as_near_as_is_asked_for(tolerance):
    point = Counted(SMOOTH["cosh"], 0.123456789).maximum(np.linspace(-2, 2, 9), tolerance)
    assert abs(point - 0.123456789) <= tolerance
