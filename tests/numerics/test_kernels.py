"""Kernels as values: what they integrate to, what scikit-learn says, and how they are drawn."""

import pickle
from itertools import pairwise
from math import gamma, inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from numba import njit
from scipy.integrate import quad
from scipy.stats import kstest
from sklearn.neighbors import KernelDensity

from dkde.errors import InputError
from dkde.numerics import logsum
from dkde.numerics.frame import Frame, reference_row
from dkde.numerics.kernels import KERNELS, SPHERICAL, Kernel, get_kernel, sphere_product
from dkde.numerics.metrics import EUCLIDEAN, Terms
from dkde.numerics.tiles import PairSums

Array = npt.NDArray[Any]

NAMES = sorted(KERNELS)
DENSITIES = [name for name in NAMES if name != "univariate_gaussian"]
COMPACT = sorted(reference.COMPACT)
# scikit-learn has the others.
OURS = ("biweight", "triweight")


def radial_mass(kernel: Kernel, d: int, radius: float) -> float:
    """The kernel's integral over a ball, for h = 1."""
    sphere = 2 * np.pi ** (d / 2) / gamma(d / 2)
    mass, _ = quad(
        lambda r: r ** (d - 1) * np.exp(kernel.log_profile(np.float64(r * r))),
        0, radius, epsabs=0, epsrel=1e-11, limit=300,
    )  # fmt: skip
    return float(sphere * mass)


class TestNormalisers:
    @pytest.mark.parametrize("d", [1, 2, 3])
    @pytest.mark.parametrize("name", DENSITIES)
    def test_kernels_integrate_to_one(self, name: str, d: int) -> None:
        kernel = KERNELS[name]
        mass = radial_mass(kernel, d, 1.0 if name in COMPACT else 60.0)
        assert np.log(mass) == pytest.approx(kernel.log_norm(d, 0.0), abs=1e-9)

    @pytest.mark.parametrize(
        ("name", "d", "height"),
        [
            ("epanechnikov", 2, 2 / np.pi),
            ("biweight", 1, 15 / 16),
            ("biweight", 2, 3 / np.pi),
            ("triweight", 1, 35 / 32),
            ("triweight", 2, 4 / np.pi),
        ],
    )
    def test_heights_as_published(self, name: str, d: int, height: float) -> None:
        """Silverman (1986), table 3.1 and equations (4.4) to (4.6)."""
        assert np.exp(-KERNELS[name].log_norm(d, 0.0)) == pytest.approx(height, rel=1e-14)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", DENSITIES)
    def test_densities_of_rows_integrate_to_one(self, name: str) -> None:
        step, reach = (0.02, 5.0) if name in COMPACT else (0.1, 25.0)
        axis = np.arange(-reach, reach, step)
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        train = np.random.default_rng(0).normal(size=(7, 2))
        density = np.exp(log_density(name, grid, train, 0.8, None))
        # Exponential and linear kernels have a cusp, and the top hat a cliff.
        assert density.sum() * step**2 == pytest.approx(1, abs=5e-3 if name == "tophat" else 5e-4)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_bandwidth_is_a_length(self, name: str) -> None:
        kernel = KERNELS[name]
        d = 1 if name == "univariate_gaussian" else 7
        assert kernel.log_norm(7, np.log(3)) - kernel.log_norm(7, 0) == pytest.approx(d * np.log(3))

    @pytest.mark.parametrize("d", [1, 2, 15, 784, 3000, 10_000])
    @pytest.mark.parametrize("name", NAMES)
    def test_in_many_dimensions(self, name: str, d: int) -> None:
        expected = float(reference.log_norm(name, d))
        assert KERNELS[name].log_norm(d, 0.0) == pytest.approx(expected, rel=1e-12, abs=1e-11)


def log_density(name: str, query: Array, train: Array, h: float, weights: Array | None) -> Array:
    kernel = KERNELS[name]
    frame = Frame(reference_row(train, False), 1.0, False, "float64")
    sums = PairSums(query, Terms(kernel, EUCLIDEAN, frame, np.array([h]), len(train)))
    sums.add(train, weights)
    return logsum.finalise(sums.log_sums(), [kernel.log_norm(train.shape[1], np.log(h))]).values[0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 10])
@pytest.mark.parametrize("name", [name for name in DENSITIES if name not in OURS])
def test_scikit_learn_says_the_same(name: str, d: int, weighted: bool) -> None:
    if name == "cosine" and d % 2 == 0:
        d += 1  # its normaliser is wrong in even dimensions, a test below says
    rng = np.random.default_rng(d)
    train, query = rng.normal(size=(150, d)), rng.normal(size=(40, d))
    query[0] = 50  # of no density, but for the Gaussian and the exponential
    weights = rng.uniform(0.1, 3, size=150) if weighted else None
    h = 1.1 * np.sqrt(d)
    theirs = KernelDensity(bandwidth=h, kernel=name, leaf_size=150, rtol=0)
    with np.errstate(divide="ignore"):
        expected = theirs.fit(train, sample_weight=weights).score_samples(query)
    actual = log_density(name, query, train, h, weights)
    if name in COMPACT:
        assert actual[0] == expected[0] == -np.inf
    np.testing.assert_allclose(actual[1:], expected[1:], rtol=1e-9, atol=1e-9)


def test_scikit_learns_cosine_is_no_density_in_two_dimensions() -> None:
    theirs = KernelDensity(kernel="cosine").fit(np.zeros((1, 2)))
    mass, _ = quad(
        lambda r: 2 * np.pi * r * np.exp(theirs.score_samples([[r, 0.0]])[0]), 0, 1 - 1e-12
    )
    assert mass == pytest.approx(0.36338, abs=1e-4)


class TestProfiles:
    U2 = np.concatenate([np.linspace(0, 1.2, 400), 1 - np.geomspace(1e-15, 0.1, 100), [1e300]])

    @staticmethod
    def compiled(profile: Any, u2: Array) -> Array:
        call = njit(profile)
        return np.array([call(x) for x in u2])

    @pytest.mark.parametrize("name", NAMES)
    def test_as_the_formula_says(self, name: str) -> None:
        kernel = KERNELS[name]
        for u2 in self.U2:
            expected = float(reference.log_kernel(name, np.sqrt(reference.Number(u2))))
            # A half-ulp of u2 is all that is left of the digits at the edge.
            slack = 1e-14 + 3e-16 / max(1 - u2, 3e-16) if name in COMPACT else 1e-14
            assert kernel.log_profile(u2) == pytest.approx(expected, rel=1e-13, abs=slack)

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("precision", ["float64", "float32"])
    @pytest.mark.parametrize("name", COMPACT)
    def test_compact_kernels_compiled(self, name: str, precision: str) -> None:
        profile = KERNELS[name].profile
        assert profile is not None
        u2 = np.sort(self.U2)[:-1].astype(precision)
        values = self.compiled(profile, u2)
        expected = [
            float(np.exp(reference.log_kernel(name, np.sqrt(reference.Number(x))))) for x in u2
        ]
        epsilon = np.finfo(precision).eps
        np.testing.assert_allclose(values, expected, rtol=0, atol=3 * epsilon)
        assert (values[u2 >= 1] == 0).all()
        assert profile(u2.dtype.type(np.inf)) == 0

    @pytest.mark.parametrize("name", NAMES)
    def test_they_never_increase(self, name: str) -> None:
        values = [KERNELS[name].log_profile(x) for x in np.sort(self.U2)]
        assert all(a >= b - 1e-15 for a, b in pairwise(values))

    def test_the_smooth_ones_are_no_steeper_than_their_argument(self) -> None:
        for kernel in KERNELS.values():
            if kernel.smooth:
                logs = np.array([kernel.log_profile(x) for x in (0.0, 1e-9, 0.5, 1.0, 1e3)])
                assert (np.abs(np.diff(logs)) <= np.diff([0.0, 1e-9, 0.5, 1.0, 1e3])).all()

    @pytest.mark.parametrize("name", NAMES)
    def test_which_are_convex(self, name: str) -> None:
        kernel = KERNELS[name]
        u2 = np.linspace(0, 2, 2001)
        values = np.array([(kernel.profile or kernel.log_profile)(x) for x in u2])
        assert (np.diff(values, 2) >= -1e-14).all() == kernel.convex

    @pytest.mark.parametrize("name", [name for name in COMPACT if KERNELS[name].slope < inf])
    def test_how_steep_they_are(self, name: str) -> None:
        kernel, u2 = KERNELS[name], np.linspace(0, 1, 20_001)
        assert kernel.profile is not None
        steepest = -np.diff([kernel.profile(x) for x in u2]).min() / u2[1]
        assert 0.999 * kernel.slope <= steepest <= kernel.slope * (1 + 1e-9)

    @pytest.mark.parametrize("name", NAMES)
    def test_which_are_powers(self, name: str) -> None:
        kernel, u2 = KERNELS[name], np.linspace(0, 0.99, 100)
        values = np.exp([kernel.log_profile(x) for x in u2])
        if kernel.power >= 0:
            np.testing.assert_allclose(values, (1 - u2) ** kernel.power, rtol=1e-13)
        else:
            apart = [np.abs(values - (1 - u2) ** m).max() for m in range(8)]
            assert min(apart) > 0.01

    def test_kernels_of_one_code_have_one_profile(self) -> None:
        kernels = [*KERNELS.values(), *SPHERICAL.values()]
        assert {kernel.code for kernel in kernels} == set(range(8))
        for one in kernels:
            for other in kernels:
                same = [one.log_profile(x) == other.log_profile(x) for x in (0.3, 0.7)]
                assert all(same) == (one.code == other.code)


class TestRadii:
    @pytest.mark.sampled(12)
    @pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
    @pytest.mark.parametrize("d", [1, 2, 3, 15])
    @pytest.mark.parametrize("name", DENSITIES)
    def test_they_are_distributed_as_the_kernel_is(self, name: str, d: int, generator: Any) -> None:
        kernel = KERNELS[name]
        assert kernel.radii is not None
        drawn = kernel.radii(generator(5), d, 3000)  # one's own: the order of tests is any
        assert drawn.shape == (3000,)
        assert drawn.dtype == np.float64
        # The exact distribution function, by quadrature on a grid.
        grid = np.linspace(0, 1 if name in COMPACT else 60, 20_001)
        middle = (grid[1:] + grid[:-1]) / 2
        heights = np.exp([kernel.log_profile(r * r) + (d - 1) * np.log(r) for r in middle])
        mass = np.concatenate([[0], np.cumsum(heights)])
        cdf = np.interp(np.sort(drawn), grid, mass / mass[-1])
        assert kstest(cdf, "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("name", DENSITIES)
    def test_in_ten_thousand_dimensions(self, name: str) -> None:
        radii = KERNELS[name].radii
        assert radii is not None
        drawn = radii(np.random.default_rng(0), 10_000, 50)
        assert np.isfinite(drawn).all()
        if name in COMPACT:
            assert (drawn < 1).all()
            assert (drawn > 0.99).all()

    def test_the_univariate_gaussian_cannot_be_drawn_from(self) -> None:
        assert KERNELS["univariate_gaussian"].radii is None


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_by_name_or_as_itself(self, name: str) -> None:
        kernel = get_kernel(name)
        assert kernel.name == name
        assert get_kernel(kernel) is kernel
        assert pickle.loads(pickle.dumps(kernel)) is kernel

    @pytest.mark.parametrize("angle", [1e-6, 0.3, 20.0])
    def test_a_product_by_its_angle(self, angle: float) -> None:
        kernel = pickle.loads(pickle.dumps(sphere_product(angle)))
        assert kernel.angle == angle
        sphere, gaussian = SPHERICAL["vonmises_fisher"], KERNELS["gaussian"]
        expected = sphere.log_norm(3, np.log(0.7 * angle)) + gaussian.log_norm(2, np.log(0.7))
        assert kernel.log_norm(5, np.log(0.7)) == pytest.approx(expected, rel=1e-14)
        # One compiled loop serves all angles.
        assert kernel == sphere_product(1.0)
        assert hash(kernel) == hash(sphere_product(1.0))

    def test_an_unknown_one_is_told_the_others(self) -> None:
        with pytest.raises(InputError, match=r"'quartic' is not known; choose one of: biweight, "):
            get_kernel("quartic")

    @pytest.mark.parametrize("wanted", [None, 3, ["gaussian"]])
    def test_not_even_a_name(self, wanted: Any) -> None:
        with pytest.raises(InputError, match="is not known"):
            get_kernel(wanted)

    def test_another_of_a_known_name(self) -> None:
        linear = KERNELS["linear"]
        mine = Kernel("gaussian", linear.log_profile, linear.log_norm, linear.reach, code=6)
        with pytest.raises(InputError, match="only dkde's own"):
            get_kernel(mine)
