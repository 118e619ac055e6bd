"""Numbers of any size: right to within their bounds, or refused; never a zero that is none."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import reference
import zarr
from contract import TOLERANCE
from zarr.storage import MemoryStore

import dkde
from dkde.numerics.bounds import stretch
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import KERNELS

Array = npt.NDArray[Any]
Number = np.longdouble

EPSILON = float(np.finfo(np.float64).eps)
METRICS = ("euclidean", "manhattan", "chebyshev")
# Of the oracle: its integrals over compact kernels; and of what a covariance rounds.
INTEGRATED, MAPPED = 2e-12, 1e-9
LEAST = Number(-np.finfo(np.float64).max)


@dataclass(frozen=True, eq=False)
class Case:
    """Sides of integers are stored so, and mean ``stored * scale``."""

    query: Array
    train: Array
    bandwidths: Array
    scale: float
    scales: Array | None
    options: dict[str, Any]

    @property
    def is_integer(self) -> bool:
        return self.train.dtype.kind in "iu"

    def side(self, values: Array) -> Any:
        """As it is given to dkde."""
        if not self.is_integer:
            return values
        return stored(values, self.scale, values.dtype)

    def found(self) -> tuple[Array, Array]:
        covariance: Any = "identity" if self.scales is None else self.scales
        query, train = self.side(self.query), self.side(self.train)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*both on one scale")
            both = dkde.log_density(
                query, train, self.bandwidths, covariance=covariance, return_error=True,
                **self.options,
            )  # fmt: skip
        values, errors = (np.asarray(each) for each in both)
        return values, errors

    def outcome(self) -> tuple[str | None, Array, Array]:
        """The refusal, if it is one, or log-densities and the bounds on their errors."""
        try:
            return None, *self.found()
        except dkde.InputError as error:
            return str(error), np.empty(0), np.empty(0)

    def expected(self, stretched: float, decoded: bool = False) -> Array:
        """The oracle's, in extended precision, of bandwidths that much longer."""
        unit = 1.0 if decoded else self.scale
        sides = [each * self.scale if decoded else each for each in (self.query, self.train)]
        query, train = (side.astype(Number) for side in sides)
        log_volume = Number(0)
        if self.scales is not None:
            query, train = (side / self.scales.astype(Number) for side in (query, train))
            log_volume = np.log(self.scales.astype(Number)).sum()
        options = {k: self.options.get(k) for k in ("kernel", "metric", "weights")}
        groups = self.options.get("groups"), self.options.get("train_groups")
        weights = options.pop("weights")
        values = reference.log_density(
            query, train, self.bandwidths.astype(Number) * (1 + Number(stretched)),
            weights, *groups, unit=unit, dtype=Number, **options,
        )  # fmt: skip
        d = 1 if options["kernel"] == "univariate_gaussian" else train.shape[1]
        return values + d * np.log1p(Number(stretched)) - log_volume

    @property
    def is_decodable(self) -> bool:
        """Whether float64 holds all decoded values."""
        return all(bool(np.isfinite(side * self.scale).all()) for side in (self.query, self.train))

    @property
    def is_ordinary(self) -> bool:
        """Whether no square comes near the ends of the range, so that nothing is to be refused."""
        sizes = [self.query.astype(Number), self.train.astype(Number)]
        sizes = [np.abs(side) * Number(abs(self.scale)) for side in sizes]
        least, most = (-14, 14) if self.options["precision"] == "float32" else (-90, 90)
        if self.scales is not None:
            sizes += [side / self.scales for side in sizes]
        sizes += [self.bandwidths, self.bandwidths / self.scale, np.array([self.scale])]
        both = np.abs(np.concatenate([*map(np.ravel, sizes)]))
        return bool(((both == 0) | ((both > 10.0**least) & (both < 10.0**most))).all())

    def mapping(self, log_p: Array) -> Array:
        """What rounding rows changes exponents by, that a covariance is applied to."""
        largest = max(np.abs(side / self.scales).max() for side in (self.query, self.train))
        shift = 4 * EPSILON * np.sqrt(self.train.shape[1]) * largest / self.bandwidths[:, None]
        changed: Array = shift * (np.sqrt(2 * np.abs(log_p)) + 1 + shift)
        return np.where(shift < 1e-9, changed, np.inf)

    def __repr__(self) -> str:
        sizes = [f"{np.abs(side.astype(float)).max():g}" for side in (self.query, self.train)]
        options = {k: v for k, v in self.options.items() if np.ndim(v) == 0}
        return (
            f"{options}, {self.query.shape} x {self.train.shape} {self.train.dtype} up to {sizes}, "
            f"scale {self.scale:g}, h {self.bandwidths}, scales {self.scales}"
        )


def cases(n: int, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield _case(rng)


def _case(rng: np.random.Generator) -> Case:
    kernel = str(rng.choice(list(KERNELS)))
    precision = "float32" if rng.random() < 0.3 else "float64"
    options: dict[str, Any] = {"kernel": kernel, "precision": precision}
    options["metric"] = str(rng.choice(METRICS)) if kernel == "univariate_gaussian" else "euclidean"
    d = int(rng.choice([1, 1, 2, 3, 5, 40]))
    n_query, n_train = int(rng.integers(1, 5)), int(rng.integers(1, 20))
    ends = 30 if precision == "float32" and rng.random() < 0.8 else 330
    size = 10.0 ** rng.uniform(-min(ends, 320), min(ends, 165))
    train, query = rng.normal(size=(n_train, d)), rng.normal(size=(n_query, d))
    # Clusters, rows that are equal, and zeros.
    for side in (train, query):
        side += 10.0 ** rng.uniform(0, 9) * rng.integers(2, size=(len(side), 1))
        side[rng.random(side.shape) < rng.choice([0.0, 0.5])] = 0.0
    scale = 1.0
    if rng.random() < 0.35:
        dtype = np.dtype(str(rng.choice(["i1", "u1", "i2", "i4", "i8"])))
        top = min(float(np.iinfo(dtype).max), 2.0**53)
        largest = max(np.abs(train).max(), np.abs(query).max(), 1e-9)
        factor = top / largest * rng.choice([1.0, 1.0, 1e-2])
        train, query = (np.rint(np.abs(side) * factor).clip(0, top) for side in (train, query))
        train, query = train.astype(dtype), query.astype(dtype)
        scale = float(10.0 ** rng.choice([rng.uniform(-305, 300), rng.uniform(-3, 3)]))
        scale, size = scale * float(rng.choice([1, -1])), abs(scale) * top
    else:
        with np.errstate(over="ignore", under="ignore"):
            train, query = train * size, query * size
        if rng.random() < 0.2 and size < 1e25:
            with np.errstate(under="ignore"):
                train, query = train.astype("f4"), query.astype("f4")
    same = rng.random(n_query) < 0.4
    query[same] = train[rng.integers(n_train, size=n_query)][same]
    decades = rng.choice([3.0, 30.0, 300.0])
    middle = np.log10(size) if rng.random() < 0.7 else 0.0
    exponents = (middle + rng.uniform(-decades, decades, rng.integers(1, 5))).clip(-149.9, 149.9)
    if precision == "float32" and rng.random() < 0.8:
        exponents = exponents.clip(*(np.array([-14.9, 14.9]) + np.log10(abs(scale))))
    scales = None
    if rng.random() < 0.15:
        scales = 10.0 ** (rng.choice([-200.0, 0.0, 200.0]) + rng.uniform(-3, 3, d))
    kind = rng.integers(5)
    if kind == 0:
        options["weights"] = 10.0 ** rng.uniform(rng.choice([-300, -30, -1]), 0, n_train)
    elif kind == 1:
        options["weights"] = rng.integers(3, size=n_train) * 1.0
        options["weights"][0] = 1.0
    if rng.random() < 0.25:
        options["groups"] = rng.integers(3, size=n_query)
        options["train_groups"] = rng.integers(3, size=n_train)
    if rng.random() < 0.3:
        options["panel_rows"] = int(rng.integers(1, n_train + 1))
    return Case(query, train, np.unique(10.0**exponents), scale, scales, options)


def refusal(case: Case) -> str | None:
    """The message, where a case is refused; else nothing, and all numbers are right."""
    with np.errstate(over="ignore", under="ignore"):
        within = 0.0
        compact = case.options["kernel"] in reference.COMPACT
        precision: Any = case.options["precision"]
        if compact:
            zeros = np.zeros(case.train.shape[1])
            within = stretch(Frame(zeros, 1.0, False, precision))
        low, high = case.expected(-within), case.expected(within)
        # As stored, or decoded in float64: what is rounded then was given so.
        if case.is_integer and case.is_decodable:
            low = np.minimum(low, case.expected(-within, decoded=True))
            high = np.maximum(high, case.expected(within, decoded=True))
        message, values, errors = case.outcome()
        if message is not None:
            # What float64 does not hold, or what is near to the ends of the range.
            lost = bool((np.isfinite(low) & (low < 0.5 * LEAST)).any())
            assert lost or not case.is_ordinary, f"{message}: {case}"
            assert "\n" not in message
            return message
        finite = np.isfinite(values)
        np.testing.assert_array_equal(np.isnan(values), np.isnan(low), repr(case))
        assert np.isneginf(low[np.isneginf(values)]).all(), f"a zero that is none: {case}"
        assert (errors[np.isneginf(values)] == 0).all(), repr(case)
        # Near the ends of the range the rounding of scaled rows may be more bandwidths than float64
        # holds: then nothing is known of a density, and the bound says so.
        is_far = case.scales is not None and not case.is_ordinary
        assert is_far or np.isfinite(errors[finite]).all(), repr(case)
        known = values.astype(Number)[finite]
        off = np.maximum(low[finite] - known, known - high[finite])
        size = np.maximum(1, np.abs(values[finite]))
        own = INTEGRATED if compact else 0.0
        if case.scales is not None:
            own = own + MAPPED * size + case.mapping(values)[finite]
        assert (off <= errors[finite] + own).all(), f"{off}, bounds {errors[finite]}: {case}"
        if precision == "float64":
            assert (off <= TOLERANCE * size + own).all(), f"{off} of {values}: {case}"
    return None


def density(query: Any, train: Any, h: Any, **options: Any) -> tuple[Array, Array]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*both on one scale")
        return dkde.log_density(query, train, h, return_error=True, **options)


def stored(values: Any, scale: float, dtype: Any = "uint8") -> Any:
    """An array of integers that mean ``stored * scale``; chunks of zeros are written too."""
    array = zarr.create_array(
        MemoryStore(), shape=np.shape(values), dtype=dtype, config={"write_empty_chunks": True}
    )
    array[:] = values
    array.attrs["scale_factor"] = scale
    return array


@pytest.mark.parametrize("sign", [1, -1])
def test_a_distance_whose_square_overflows(sign: int) -> None:
    values, errors = density([[sign * 1e150]], [[0.0]], 1e-10, kernel="exponential")
    assert abs(values[0] + 1e160) <= errors[0] <= 1e-9 * 1e160
    # A nearer row, in the same panel or in another one, is all that counts.
    for panel_rows in (1, 2):
        values, errors = density(
            [[1e150]], [[0.0], [1e150]], 1e-10, kernel="exponential", panel_rows=panel_rows
        )
        assert abs(values[0] - np.log(1e10) + 2 * np.log(2)) <= errors[0] < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_float32_where_its_squares_overflow(kernel: str) -> None:
    values, errors = density([[1e18]], [[0.0]], 1e-14, kernel=kernel, precision="float32")
    expected = -5e63 if kernel == "gaussian" else -1e32
    assert abs(values[0] - expected) <= errors[0] <= 1e-4 * abs(expected)
    # Rows that do not count are infinitely far, and not equal to others that are.
    train, weights = [[0.0], [1.0]], [1.0, 0.0]
    again, _ = density([[1e18]], train, 1e-14, kernel=kernel, precision="float32", weights=weights)
    np.testing.assert_array_equal(again, values)


def test_a_density_whose_logarithm_is_no_number_is_refused() -> None:
    query, train = np.array([[0.0], [1e10]]), np.zeros((3, 1))
    message = r"query: row 1 is so far .* bandwidth 1e-149 is below -1\.8e308, the least .* rescale"
    with pytest.raises(dkde.InputError, match=message):
        density(query, train, [1.0, 1e-149])
    lazy = dkde.log_density(da.from_array(query), train, 1e-149)
    with pytest.raises(dkde.InputError, match="a query row is so far"):
        lazy.compute()
    values, errors = density(query, np.array([[0.0], [1e10]]), 1e-149)
    np.testing.assert_allclose(values, np.log(0.5) + np.log(1e149) - np.log(2 * np.pi) / 2)
    assert (errors < 1e-9 * values).all()


def test_zero_where_nothing_is_inside_has_no_error() -> None:
    values, errors = density([[1e150], [0.0]], [[0.0]], 1e-10, kernel="tophat")
    assert (values[0], errors[0]) == (-np.inf, 0)
    assert values[1] == pytest.approx(np.log(0.5e10))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize(
    ("scale", "h", "share"),
    # Steps of 1e-200 are nothing to a bandwidth of 1e-149; those of 1e-140 are very much.
    [(1e140, 1e-140, 2 / 3), (1e-140, 1e-149, 2 / 3), (1e-200, 1e-149, 1.0)],
)
def test_a_row_that_is_a_training_row_is_never_lost(
    scale: float, h: float, share: float, kernel: str
) -> None:
    sides = stored([[7, 7]], scale), stored([[7, 7], [7, 7], [200, 3]], scale)
    values, errors = map(np.asarray, density(*sides, h, kernel=kernel))
    d = 1 if kernel == "univariate_gaussian" else 2
    expected = np.log(Number(share)) - reference.log_norm(kernel, 2) - d * np.log(Number(h))
    assert abs(values[0] - expected) <= errors[0] + INTEGRATED


def test_integers_whose_squares_overflow_are_refused() -> None:
    found, _ = density(stored([[7]], 1e200), stored([[7]], 1e200), 1.0)
    with pytest.raises(dkde.InputError, match="row 0 has values so large that their squares"):
        found.compute()


def test_many_bandwidths_over_hundreds_of_decades() -> None:
    h = 10.0 ** np.arange(-149, 150, 10)
    query, train = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [0.0, 4.0]])
    values, errors = density(query, train, h, kernel="exponential")
    expected = reference.log_density(query, train, h, kernel="exponential", dtype=Number)
    off = np.abs(values - expected)
    assert (off <= errors).all()
    assert (errors <= TOLERANCE * np.maximum(1, np.abs(values))).all()


def checked(n: int, seed: int) -> int:
    """How many of n cases were not refused."""
    return sum(refusal(case) is None for case in cases(n, seed))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["gaussian", "exponential", "linear"])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("size", [1e-140, 1e140])
def test_many_rows_as_few(size: float, d: int, kernel: str) -> None:
    """Few query rows are summed over all pairs; more may be expanded, or bounded first."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(8500, d)) * size
    query = np.concatenate([train[:100], 2 * size * rng.normal(size=(200, d))])
    for middle in (0.3 * size, 1.0, 1e-9 / size):
        # With a Gaussian none so small that a log-density is no number.
        least = max(1e-149, size * 1e-150) if kernel == "gaussian" else 1e-149
        h = np.unique(np.clip(middle * np.array([1e-6, 1.0, 1e6]), least, 1e149))
        values, errors = density(query, train, h, kernel=kernel)
        few = [density(query[i : i + 100], train, h, kernel=kernel) for i in (0, 100, 200)]
        again, bounds = (np.concatenate(each, axis=1) for each in zip(*few, strict=True))
        with np.errstate(invalid="ignore"):
            same = (np.abs(values - again) <= errors + bounds) | (values == again)
        assert same.all()


@pytest.mark.slow
def test_all_that_is_not_refused_is_right() -> None:
    assert checked(20, 0) > 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_all_that_is_not_refused_is_right_at_length(seed: int) -> None:
    assert checked(600, seed) > 240


def test_a_query_for_which_nothing_counts_beside_one_that_is_far() -> None:
    found, errors = dkde.log_density(
        [[0.0], [1e150]], [[0.0]], 1e-10, kernel="exponential", return_error=True,
        groups=[0, 1], train_groups=[0],
    )  # fmt: skip
    assert np.isnan(found[0])
    assert abs(found[1] + 1e160) <= errors[1] < 1e-9 * 1e160
