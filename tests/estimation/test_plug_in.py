"""The plug-in rule for bandwidths, held against the paper's formulas and KDEpy."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dkde_cli.main import cli
from scipy.optimize import root_scalar

import dkde
from dkde.errors import InputError


def some_rows(n=800, seed=3):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, rng.normal(size=n), rng.normal(8, 0.2, n))


def by_the_paper(x, weights=None):
    """The fixed point of section 5, with the cosine series of the rows themselves: no bins.

    The norms of derivatives are those of a density on an interval, which reaches a tenth of the
    rows' range beyond them, as in the authors' program.
    """
    w = np.ones(len(x)) if weights is None else weights
    n = w.sum() ** 2 / (w**2).sum()
    length = 1.2 * np.ptp(x)
    at = (x - x.min()) / length + 1 / 12
    k = np.arange(1.0, 1500.0)
    squares = (np.cos(np.pi * k[:, None] * at) @ w / w.sum()) ** 2

    def norm(j, t):
        return (
            2 * np.pi ** (2 * j) * (k ** (2 * j) * squares * np.exp(-((k * np.pi) ** 2) * t)).sum()
        )

    def best(t):
        value = norm(7, t)
        for j in (6, 5, 4, 3, 2):
            # 1 x 3 x 5 x ... x (2j - 1) over the root of pi / 2.
            odd = np.prod(np.arange(1, 2 * j, 2)) / np.sqrt(np.pi / 2)
            smoothing = ((1 + 0.5 ** (j + 0.5)) / 3 * odd / (n * value)) ** (2 / (3 + 2 * j))
            value = norm(j, smoothing)
        return (2 * n * np.sqrt(np.pi) * value) ** (-2 / 5)

    return np.sqrt(root_scalar(lambda t: t - best(t), bracket=(1e-9, 0.01)).root) * length


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_fixed_point_of_the_paper(weighted):
    x = some_rows()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(x)) if weighted else None
    found = dkde.KernelDensity(bandwidth="isj").fit(x[:, None], sample_weight=weights)
    assert found.bandwidth_ == pytest.approx(by_the_paper(x, weights), rel=1e-3)
    # Far below that of a rule for normal rows.
    assert (
        found.bandwidth_
        < 0.2
        * dkde.KernelDensity(bandwidth="silverman", covariance="diag").fit(x[:, None]).bandwidth_
        * x.std()
    )


def test_it_is_near_that_of_kdepy():
    select = pytest.importorskip(
        "KDEpy.bw_selection", reason="KDEpy is not installed; it is a peer and not needed"
    )
    rng = np.random.default_rng(4)
    x = np.append(rng.normal(size=1000), rng.normal(6, 1, 1000))[:, None]
    found = dkde.KernelDensity(bandwidth="isj").fit(x).bandwidth_
    # KDEpy multiplies by the range of the rows, and its grid is wider than that.
    grid = select.autogrid(x, boundary_abs=6, num_points=2**10, boundary_rel=0.5)
    theirs = select.improved_sheather_jones(x) * np.ptp(grid) / np.ptp(x)
    assert found == pytest.approx(theirs, rel=0.01)


def test_it_is_the_best_bandwidth_of_normal_rows():
    """Whose squared second derivative has the norm 3 / (8 sqrt(pi))."""
    x = np.random.default_rng(0).normal(size=(20000, 1))
    found = dkde.KernelDensity(bandwidth="isj").fit(x).bandwidth_
    assert found == pytest.approx((4 / 3 / 20000) ** 0.2, rel=0.05)


def test_several_features_get_one_each(tmp_path):
    rows = np.column_stack([some_rows(), 100 * some_rows(seed=5)])
    single = [dkde.KernelDensity(bandwidth="isj").fit(rows[:, [j]]).bandwidth_ for j in (0, 1)]
    query = rows[:20] + 0.1
    expected = dkde.log_density(query, rows, 1.0, covariance=single)
    np.testing.assert_allclose(dkde.log_density(query, rows, "isj"), expected, rtol=1e-9)
    lazy = da.from_array(rows, chunks=(123, 2))
    np.testing.assert_allclose(dkde.log_density(query, lazy, "isj"), expected, rtol=1e-9)
    pd.DataFrame(rows, columns=["a", "b"]).to_csv(tmp_path / "rows.csv", index=False)
    done = CliRunner().invoke(
        cli, ["score", str(tmp_path / "rows.csv"), "--train", "train", "--query", "train",
              "--bandwidth", "isj", "--output", str(tmp_path / "out.csv")],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    scored = pd.read_csv(tmp_path / "out.csv").log_density
    own = dkde.log_density(rows, rows, 1.0, covariance=single)
    np.testing.assert_allclose(scored, own, rtol=1e-9)


def test_rows_that_do_not_count():
    x = some_rows()
    rows = np.append(x, [np.nan, 30.0])[:, None]
    weights = np.append(np.ones(len(x)), [1.0, 0.0])
    found = dkde.KernelDensity(bandwidth="isj", nan="drop").fit(rows, sample_weight=weights)
    assert found.bandwidth_ == dkde.KernelDensity(bandwidth="isj").fit(x[:, None]).bandwidth_


def test_weights_are_read_once_beside_the_rows():
    """For their effective number, the range and the histogram: each reads them once."""
    reads = []

    def read(values):
        reads.append(len(values))
        return values

    rows = some_rows()[:, None]
    weights = da.from_array(np.ones(len(rows)), chunks=-1).map_blocks(
        read, dtype=float, meta=np.empty(0)
    )
    counted = {}
    for bandwidth in (1.0, "isj"):
        reads.clear()
        dkde.log_density(rows[:5], rows, bandwidth, weights=weights)
        counted[bandwidth] = len(reads)
    assert counted["isj"] - counted[1.0] == 3


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (np.zeros((9, 1)), {}, "does not vary"),
        (np.append(some_rows(), 1e9)[:, None], {}, "cannot tell bandwidths below"),
        (np.ones((9, 2)) * np.arange(9.0)[:, None], {"covariance": "full"}, "leave covariance out"),
        (np.ones((9, 2)) * np.arange(9.0)[:, None], {"bandwidth": ["isj", 1.0]}, "stands alone"),
    ],
)
def test_what_is_refused(rows, options, message):
    call = {"bandwidth": "isj"} | options
    with pytest.raises(InputError, match=message):
        dkde.log_density(rows, rows, **call)
