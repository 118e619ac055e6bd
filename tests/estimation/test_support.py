"""Densities on axes with bounds and periods: images against closed forms and the naive loop."""

import json
from math import inf

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import norm

import dkde
from dkde.errors import DkdeError, InputError
from dkde.numerics.images import Axis, reach_of

RNG = np.random.default_rng(7)
# Random rows of few queries may be far more narrow than those of the training side.
pytestmark = pytest.mark.filterwarnings("ignore:values of train go from")


def along(x, y, h, one, n=9):
    """Return a Gaussian and its images along one axis, (rows of x, rows of y)."""
    x, y = x[:, None], y[None]
    if one is None:
        return norm.pdf(x, y, h)
    if isinstance(one, dkde.Periodic):
        return sum(norm.pdf(x, y + k * one.period, h) for k in range(-n, n + 1))
    low, high = one
    if low is None or high is None:
        return norm.pdf(x, y, h) + norm.pdf(x, 2 * (high if low is None else low) - y, h)
    shifts = 2 * (high - low) * np.arange(-n, n + 1)
    return sum(norm.pdf(x, y + s, h) + norm.pdf(x, 2 * low - y + s, h) for s in shifts)


def naive(query, train, h, support, weights=None):
    """Return log-densities by a product of images along the axes."""
    terms = np.ones((len(query), len(train)))
    for j, one in enumerate(support):
        terms *= along(query[:, j], train[:, j], h, one)
    with np.errstate(divide="ignore"):
        return np.log(np.average(terms, axis=1, weights=weights))


def rows_in(support, n):
    """Return random rows within a support."""
    columns = []
    for one in support:
        if one is None:
            columns.append(RNG.normal(size=n))
        elif isinstance(one, dkde.Periodic):
            columns.append(RNG.uniform(0, one.period, n))
        elif None in one:
            far = RNG.exponential(size=n)
            columns.append(one[0] + far if one[1] is None else one[1] - far)
        else:
            columns.append(one[0] + (one[1] - one[0]) * RNG.beta(0.7, 1.5, n))
    return np.column_stack(columns)


SUPPORTS = [
    [(0, None)],
    [(None, -2.5)],
    [(0.5, 3)],
    [dkde.Periodic(24)],
    [(0, None), None],
    [dkde.Periodic(6), (1, None), (0, 1)],
    [(0, None)] * 4,
    [None] * 17 + [(0, None), dkde.Periodic(2)],
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("support", SUPPORTS, ids=str)
@pytest.mark.parametrize("n", [40, 1500])
def test_images_are_those_of_the_closed_form(support, n):
    train, query = rows_in(support, n), rows_in(support, 40)
    for j, one in enumerate(support):  # rows on the bounds themselves, and in their corner
        if isinstance(one, tuple):
            query[:2, j] = one[0] if one[0] is not None else one[1]
    for h in (0.3, 1.5):
        found, errors = dkde.log_density(query, train, h, support=support, return_error=True)
        wanted = naive(query, train, h, support)
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
        assert (np.abs(found - wanted) <= errors + 1e-12 * np.maximum(1, np.abs(wanted))).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("support", [[(0, None)], [dkde.Periodic(24)], [(0, 1), None]], ids=str)
def test_rows_summed_by_moments_see_images(support):
    train = rows_in(support, 12_000)
    some = slice(0, None, 600)
    with pytest.warns(UserWarning, match="share rows"):
        result = dkde.score(train, train, [0.05, 0.4], support=support)
    method = json.loads(result.attrs["provenance"])["score"]["method"]
    assert "expansions" in method
    for found, h in zip(result.log_density.values, (0.05, 0.4), strict=True):
        assert_allclose(found[some], naive(train[some], train, h, support), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:values of train go")
@pytest.mark.parametrize(
    "covariance", ["identity", pytest.param([0.5, 1.5], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "support", [[(0, None), None], [dkde.Periodic(6), (0, None)], [(None, 0), (0, 1)]], ids=str
)
def test_maps_summed_along_their_axes_see_images(support, covariance):
    train, corner = rows_in(support, 20_000), rows_in(support, 500)
    lines = [
        np.linspace(side.min(), side.max(), n) for side, n in zip(corner.T, (150, 160), strict=True)
    ]
    for line, one in zip(lines, support, strict=True):  # the bounds are points of the grid
        if isinstance(one, tuple):
            line[-1 if one[0] is None else 0] = 0
    grid = xr.Dataset(coords={"a": lines[0], "b": lines[1]}).reset_coords()
    given = {"support": support, "covariance": covariance}
    result = dkde.score(grid, train, [0.1, 0.4], features=["a", "b"], **given)
    assert "along the grid's axes" in json.loads(result.attrs["provenance"])["score"]["method"]
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    some = np.unique(np.r_[0:160:16, len(points) - 160 : len(points) : 16, 0 : len(points) : 1499])
    found, errors = (
        result[name].values.reshape(2, -1)[:, some] for name in ("log_density", "log_density_error")
    )
    scales = np.ones(2) if covariance == "identity" else np.array(covariance)
    for k, h in enumerate((0.1, 0.4)):
        terms = np.ones((len(some), len(train)))
        for j, one in enumerate(support):
            terms *= along(points[some, j], train[:, j], h * scales[j], one)
        with np.errstate(divide="ignore"):
            wanted = np.log(terms.mean(axis=1))
        there = wanted > -500
        assert there.mean() > 0.9
        assert_allclose(found[k, there], wanted[there], rtol=1e-9, atol=1e-9)
        assert (np.abs(found[k] - wanted) <= errors[k] + 1e-11)[there].all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the best bandwidth")
@pytest.mark.parametrize("n", [200, 9000])
def test_images_are_left_out_with_their_row_and_its_fold(n):
    support = [dkde.Periodic(6), (0, None)]
    train = rows_in(support, n)
    some = np.arange(0, n, n // 12)
    loo = dkde.cross_validate(train, [0.2, 0.5, 1.0], folds="loo", support=support)
    folds = dkde.cross_validate(train, [0.2, 0.5, 1.0], folds=3, support=support)
    fold = folds.held_out_in.values
    for k, h in enumerate((0.2, 0.5, 1.0)):
        for row in some:
            here = train[row : row + 1]
            alone = naive(here, np.delete(train, row, axis=0), h, support)
            others = naive(here, train[fold != fold[row]], h, support)
            assert_allclose(loo.log_density.values[k, row], alone[0], rtol=1e-9, atol=1e-9)
            assert_allclose(folds.log_density.values[k, row], others[0], rtol=1e-9, atol=1e-9)


def test_weights_scales_and_panels():
    support = [(0, None), dkde.Periodic(24)]
    train, query = rows_in(support, 500), rows_in(support, 60)
    weights = RNG.uniform(0, 2, 500) * (RNG.random(500) > 0.2)
    scales = np.array([0.3, 2.0])
    found = dkde.log_density(
        query, train, 1.0, support=support, weights=weights, covariance=scales, panel_rows=170
    )
    scaled = [(0, None), dkde.Periodic(24 / scales[1])]
    wanted = naive(query / scales, train / scales, 1.0, scaled, weights) - np.log(scales.prod())
    assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_products_of_matrices_see_images():
    support = [None] * 98 + [(0, None), dkde.Periodic(2)]
    train, query = rows_in(support, 300), rows_in(support, 40)
    found = dkde.log_density(query, train, 3.0, support=support)
    assert_allclose(found, naive(query, train, 3.0, support), rtol=1e-9)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize("start", [0.0, 1e6, -1e9])
@pytest.mark.parametrize("scale", ["identity", [3.0]], ids=str)
def test_bounds_know_that_shifted_rows_are_rounded_by_their_size(kernel, start, scale):
    train, query = (start + 1.3 * RNG.random((n, 1)) for n in (300, 50))
    h, u, wide = np.longdouble(0.02), 1.0 if scale == "identity" else scale[0], np.longdouble
    apart = np.abs(query.astype(wide) - train.astype(wide).T)
    terms = np.zeros((50, 300), wide)
    for k in range(-4, 5):
        away = np.abs(apart + k * wide(1.3)) / h
        terms += np.exp(-away * away / 2 if kernel == "gaussian" else -away)
    norm_of = np.sqrt(2 * wide(np.pi)) if kernel == "gaussian" else wide(2)
    wanted = np.log(terms.mean(axis=1) / (h * norm_of)).astype(float)
    found, errors = dkde.log_density(
        query, train, 0.02 / u, kernel=kernel, covariance=scale, return_error=True,
        support=[dkde.Periodic(1.3, start=start)],
    )  # fmt: skip
    assert (np.abs(found - wanted) <= errors + 1e-14).all()


@pytest.mark.parametrize("bounds", [(-1e12, None), (None, 1e15), (0, 1e9), (-1e300, 1e300)])
def test_bounds_are_no_wider_for_ends_of_a_support_that_are_far_away(bounds):
    rows = RNG.random((200, 2))
    found, errors = dkde.log_density(rows, rows, 0.1, return_error=True)
    far, more = dkde.log_density(rows, rows, 0.1, support=[bounds, None], return_error=True)
    if bounds[0] != 0:
        assert (np.abs(far - found) <= errors + more).all()
    assert (more <= errors.max() + 1e-12).all()


@pytest.mark.parametrize("low", [1000.0, -1e6, 123456.7])
def test_a_reflection_at_a_far_bound_is_as_accurate_as_asked(low):
    rng = np.random.default_rng(0)  # its own: far rows have no density at all
    train, query = (low + rng.exponential(size=(n, 1)) for n in (100, 40))
    found, errors = dkde.log_density(
        query, train, 0.02, support=[(low, None)], tol=1e-12, return_error=True
    )
    x, y = query.astype(np.longdouble), train.astype(np.longdouble).T
    terms = sum(np.exp(-(((s * x + t - y) / 0.02) ** 2) / 2) for s, t in ((1, 0), (-1, 2 * low)))
    wanted = np.log(terms.mean(axis=1) / (np.longdouble(0.02) * np.sqrt(2 * np.longdouble(np.pi))))
    wanted = wanted.astype(float)
    assert (np.abs(found - wanted) <= errors + 1e-14).all()
    assert (errors <= 1e-12 * np.maximum(1, np.abs(wanted))).all()


@pytest.mark.parametrize("bound", [1.0, 1.0000063371671861, -1.0, 1024.0, 1 - 1e-9, 0.98, 1030.0])
def test_a_reflection_beyond_a_power_of_two_is_within_the_bound(bound):
    rng = np.random.default_rng(0)
    h = abs(bound) * 2e-5
    # Toward zero from the bound, where numbers may be finer than those beyond it.
    train, query = (bound - np.sign(bound) * h * rng.exponential(size=(n, 1)) for n in (3, 400))
    sides = (bound, None) if bound < 0 else (None, bound)
    found, errors = dkde.log_density(query, train, h, support=[sides], tol=1e-12, return_error=True)
    x, y, wide = query.astype(np.longdouble), train.astype(np.longdouble).T, np.longdouble(h)
    images = ((1, 0), (-1, 2 * np.longdouble(bound)))
    terms = sum(np.exp(-(((s * x + t - y) / wide) ** 2) / 2) for s, t in images)
    wanted = np.log(terms.mean(axis=1) / (wide * np.sqrt(2 * np.longdouble(np.pi))))
    assert (np.abs(found - wanted) <= errors + 1e-15).all()
    assert (errors <= 1e-10).all()


@pytest.mark.parametrize("bounds", [(1.0, 1e6), (2.0**20, None), (1024.0, None), (None, -1.0)])
def test_a_reflection_toward_zero_is_as_accurate_as_asked(bounds):
    rng = np.random.default_rng(0)
    at, inward = (bounds[1], -1) if bounds[0] is None else (bounds[0], 1)
    train, query = (at + inward * rng.exponential(size=(n, 1)) for n in (200, 40))
    found, errors = dkde.log_density(
        query, train, 0.02, support=[bounds], tol=1e-12, return_error=True
    )
    assert (errors <= 2e-12 * np.maximum(1, np.abs(found))).all()


KERNELS = ["gaussian", "tophat", "epanechnikov", "triweight", "linear", "cosine", "exponential"]


def kinks(rows, h, support):
    """Return where kernels of rows and their images have corners, steps or edges."""
    y = rows.ravel()
    if isinstance(support, dkde.Periodic):
        y = np.concatenate([y + k * support.period for k in (-1, 0, 1)])
    elif None in support:
        y = np.concatenate([y, -y])
    else:
        y = np.concatenate([sign * y + 2 * k for sign in (-1, 1) for k in (-2, -1, 0, 1, 2)])
    return np.concatenate([y - h, y, y + h])


@pytest.mark.filterwarnings("ignore:values of train go")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("support", "low", "high"),
    [((0, None), 0, 50), ((0, 1), 0, 1), (dkde.Periodic(24), 0, 24)], ids=str,
)  # fmt: skip
def test_densities_integrate_to_one_over_the_support(kernel, support, low, high):
    train, h = rows_in([support], 25), 0.9
    edges = np.concatenate([np.linspace(low, high, 100), kinks(train, h, support)])
    edges = np.unique(edges[(edges >= low) & (edges <= high)])
    x, weight = np.polynomial.legendre.leggauss(8)
    half = np.diff(edges)[:, None] / 2
    x, weight = edges[:-1, None] + half * (1 + x), half * weight
    found = dkde.log_density(x.reshape(-1, 1), train, h, kernel=kernel, support=[support])
    assert_allclose(np.exp(found) @ weight.ravel(), 1, rtol=1e-6)


def test_an_exponential_starts_at_one_and_not_at_half():
    train = RNG.exponential(size=(40_000, 1))
    plain, reflected = (
        float(np.exp(dkde.log_density([[0.0]], train, 0.05, support=support))[0])
        for support in (None, [(0, None)])
    )
    assert abs(plain - 0.48) < 0.03
    assert abs(reflected - 0.96) < 0.06


def test_wide_kernels_are_uniform_over_a_period_and_between_bounds():
    for support, level in ((dkde.Periodic(24), 1 / 24), ((2, 4), 1 / 2)):
        train = rows_in([support], 50)
        found = dkde.log_density(train, train, 40.0, support=[support])
        assert_allclose(found, np.log(level), atol=1e-12)


def test_angles_of_either_range_are_the_same():
    train, query = RNG.uniform(-180, 180, (300, 1)), RNG.uniform(-180, 180, (50, 1))
    support = [dkde.Periodic(360)]
    found = dkde.log_density(query, train, 8.0, support=support)
    assert_allclose(dkde.log_density(query % 360, train, 8.0, support=support), found, rtol=1e-12)
    started = [dkde.Periodic(360, start=-180)]
    assert_allclose(dkde.log_density(query, train, 8.0, support=started), found, rtol=1e-12)


def test_rows_outside_are_refused_by_number_or_left_out():
    train, query = rows_in([(0, None)], 50), rows_in([(0, None)], 10)
    train[7], query[3] = -1.0, -0.5
    inside = np.delete(train, 7, axis=0)
    with pytest.raises(InputError, match=r"train: row 7, column 0 is -1, below 0"):
        dkde.score(inside, train, 1.0, support=[(0, None)])
    with pytest.raises(InputError, match=r"query: row 3, column 0 is -0\.5, below 0"):
        dkde.score(query, inside, 1.0, support=[(0, None)])
    result = dkde.score(query, train, 1.0, support=[(0, None)], outside="drop")
    assert (int(result.n_outside), int(result.n_outside_train)) == (1, 1)
    wanted = naive(query, inside, 1.0, [(0, None)])
    wanted[3] = np.nan
    assert_allclose(result.log_density.values[0], wanted, rtol=1e-9)
    query[5] = np.nan  # still refused, as it is missing and not outside
    with pytest.raises(InputError, match="row 5, column 0 is nan"):
        dkde.score(query, train, 1.0, support=[(0, None)], outside="drop")
    weights = np.ones(50)
    weights[9] = np.nan
    with pytest.raises(InputError, match="the weight of row 9 is missing"):
        dkde.score(inside, train, 1.0, weights=weights, support=[(0, None)], outside="drop")


def test_rows_that_are_all_outside_are_said_to_be_so():
    inside, outside = rows_in([(0, None)], 10), np.full((10, 1), -1.0)
    given = {"support": [(0, None)], "outside": "drop"}
    assert np.isnan(dkde.log_density(outside, inside, 1.0, **given)).all()
    for call in (
        lambda: dkde.log_density(inside, outside, 1.0, **given),
        lambda: dkde.sample(outside, 1.0, **given),
        lambda: dkde.cross_validate(outside, [1.0], folds="loo", **given),
    ):
        with pytest.raises(InputError, match="outside of a support"):
            call()


REFUSED = [
    ({"support": [dkde.Periodic(1)]}, r"is 1\.5, beyond a period of 1, .* from -0\.5 to 1; "),
    ({"support": [(1, 0)]}, "lower bound must be the smaller"),
    ({"support": [(0, "x")]}, "must be a number, or None"),
    ({"support": [0]}, "two bounds"),
    ({"support": [None, (0, None)]}, "2 entries, and query has 1 features"),
    ({"support": {"x": (0, None)}}, "have no names"),
    ({"support": "x=0:"}, "must be a mapping"),
    ({"outside": "drop"}, "give support"),
    ({"support": [(0, None)], "outside": "wrap"}, "choose one of: raise, drop"),
    ({"support": [(0, None)], "kernel": "vonmises_fisher"}, "sphere, which has no bounds"),
    (
        {"support": [(0, None)], "kernel": "univariate_gaussian", "metric": "manhattan"},
        "gives no density",
    ),
]


@pytest.mark.parametrize(("said", "words"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_in_one_line(said, words):
    rows = np.array([[0.5], [0.7], [1.5]])
    with pytest.raises(InputError, match=words) as caught:
        dkde.log_density(rows, rows, 1.0, **said)
    assert "\n" not in str(caught.value)


def test_what_mixes_axes_or_has_too_many_images_is_refused():
    rows = rows_in([(0, None), (0, 1)], 30)
    with pytest.raises(InputError, match="not diagonal mixes features"):
        dkde.log_density(rows, rows, 1.0, covariance="full", support=[(0, None), None])
    # Before anything is drawn, as noise of such a kernel is none of the density's.
    with pytest.raises(InputError, match="not diagonal mixes features"):
        dkde.sample(rows, 1.0, covariance="full", support=[(0, None), None])
    with pytest.raises(InputError, match="not diagonal mixes features"):
        dkde.KernelDensity(covariance="full", support=[(0, None), None]).fit(rows)
    with pytest.raises(InputError, match="no number of images"):
        dkde.log_density(rows, rows, 1.0, kernel="exponential", support=[None, (0, 1)])
    with pytest.raises(InputError, match="more than 1024 images"):
        dkde.log_density(rows, rows, 1e4, support=[None, (0, 1)])
    with pytest.raises(InputError, match="principal components mix"):
        dkde.cross_validate(rows, [1.0], pca=1, support=[(0, None), None])
    with pytest.raises(InputError, match="must be positive"):
        dkde.Periodic(0)


@pytest.mark.filterwarnings("ignore:the best bandwidth")
def test_estimators_score_and_sample_within_the_support():
    support = [(0, None), dkde.Periodic(24), (0, 1)]
    train = rows_in(support, 400)
    fitted = dkde.KernelDensity(bandwidth=0.8, support=support).fit(train)
    assert_allclose(fitted.score_samples(train), naive(train, train, 0.8, support), rtol=1e-9)
    drawn = fitted.sample(3000, random_state=0)
    assert drawn.min() >= 0
    assert (drawn.max(axis=0)[1:] <= [24, 1]).all()
    again = dkde.sample(train, 0.8, 3000, random_state=0, support=support)
    assert_allclose(again, drawn)
    # Near a bound there are as many as the density says, and not half of that.
    near = np.linspace(0, 0.4, 81)[:, None]
    on = naive(near, train[:, :1], 0.8, [(0, None)])
    share = np.trapezoid(np.exp(on), near[:, 0])
    assert abs((drawn[:, 0] < 0.4).mean() - share) < 4 * (share / 3000) ** 0.5
    chosen = dkde.KernelDensityCV(bandwidths=[0.3, 0.8], support=support).fit(train)
    assert np.isfinite(chosen.score_samples(train)).all()


def test_a_stored_call_is_found_again_and_another_support_is_refused(tmp_path):
    names, support = ["depth", "hour"], {"depth": (0, None), "hour": dkde.Periodic(24)}
    rows = rows_in([(0, None), dkde.Periodic(24)], 80)
    for name, part in (("train", rows[:60]), ("query", rows[60:])):
        table = "\n".join([",".join(names), *(f"{a!r},{b!r}" for a, b in part.tolist())])
        (tmp_path / f"{name}.csv").write_text(table)
    query, train = (str(tmp_path / f"{name}.csv") for name in ("query", "train"))
    kept = tmp_path / "kept.zarr"
    result = dkde.score(query, train, 1.0, support=support, output=kept)
    assert_allclose(
        result.log_density.values[0], naive(rows[60:], rows[:60], 1.0, list(support.values())),
        rtol=1e-9,
    )  # fmt: skip
    again = dkde.score(query, train, 1.0, support=dict(reversed(support.items())), output=kept)
    assert again.identical(result)
    call = dkde.recorded_call(kept)
    assert call["arguments"]["support"] == {"depth": [0.0, None], "hour": {"period": 24.0}}
    assert (
        json.loads(result.attrs["provenance"])["score"]["support"] == "depth=0:, hour=periodic:24"
    )
    assert dkde.verify(kept)
    with pytest.raises(
        DkdeError, match='support was "depth=0:, hour=periodic:24" and is "depth=0:"'
    ):
        dkde.score(query, train, 1.0, support={"depth": (0, None)}, output=kept)


def test_a_call_without_support_is_recorded_as_before(tmp_path):
    rows = RNG.normal(size=(30, 1))
    np.save(tmp_path / "rows.npy", rows)
    at = str(tmp_path / "rows.npy")
    with pytest.warns(UserWarning, match="share rows"):
        result = dkde.score(at, at, 1.0, output=tmp_path / "kept.zarr")
    call = dkde.recorded_call(tmp_path / "kept.zarr")
    assert not {"support", "outside"} & set(call["arguments"])
    provenance = json.loads(result.attrs["provenance"])
    assert "support" not in provenance["score"]
    assert "support" not in provenance["options"]


def test_images_that_are_left_out_weigh_nothing():
    for period, h in ((24.0, 0.5), (24.0, 9.0), (1.0, 2.0)):
        axis = Axis(0.0, period, is_periodic=True)
        images = axis.images(reach_of(h, has_support=False, is_gaussian=True), squares=True)
        k = round(max(shift for _, shift in images) / period) + 1
        # The nearest image is within half a period, and this one is k of them further.
        nearest = np.linspace(0, period / 2, 50)
        ratio = np.exp(-((k * period - nearest) ** 2 - nearest**2) / (2 * h * h))
        assert ratio.max() < np.exp(-46.9)
    assert Axis(high=1.0).images(1.0, squares=True) == [(1, 0.0), (-1, 2.0)]
    assert Axis(0.0, inf).period == inf
