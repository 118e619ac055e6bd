"""Other packages' Gaussian kernel density estimates, each behind one function.

``package(train, bandwidth, tolerance)`` does what is done once, and returns the function from
queries to log-densities. Packages are imported by the function that uses them: those that are
not installed are listed, and left out.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from peers_measure import Array, Score, Way, exact_log_density
from scipy.special import logsumexp

_PAIRS = 30_000_000  # that dense peers work on at a time: 240 MB of distances


@dataclass(frozen=True)
class Peer:
    """A package's way of computing log-densities.

    `start` queries are its first sample, and `patience` is that of its `Way`.
    """

    name: str
    distribution: str
    log_density: Callable[[Array, float, float], Score]
    start: int
    note: str = ""
    exact: Callable[[Array, float], Score] | None = None
    patience: float = 3.0

    @property
    def version(self) -> str | None:
        """The installed version, if any."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def way(self, train: Array, bandwidth: float, tolerance: float) -> Way:
        return Way(
            f"{self.name} {self.version}",
            lambda: self.log_density(train, bandwidth, tolerance),
            start=self.start,
            patience=self.patience,
            exact=None if self.exact is None else self.exact(train, bandwidth),
            note=self.note,
            may_fail=True,
        )


def _log(density: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(density)


def _log_norm(train: Array, bandwidth: float) -> float:
    n, d = train.shape
    return float(np.log(n) + d * np.log(bandwidth) + d / 2 * np.log(2 * np.pi))


def _row_blocks(train: Array, queries: Array) -> list[Array]:
    step = max(1, _PAIRS // len(train))
    return [queries[i : i + step] for i in range(0, len(queries), step)]


def sklearn_tree(train: Array, bandwidth: float, tolerance: float) -> Score:
    from sklearn.neighbors import KernelDensity

    model = KernelDensity(bandwidth=bandwidth, algorithm="kd_tree", rtol=tolerance, atol=0)
    return model.fit(train).score_samples


def sklearn_default(train: Array, bandwidth: float, tolerance: float) -> Score:
    from sklearn.neighbors import KernelDensity

    return KernelDensity(bandwidth=bandwidth).fit(train).score_samples


def sklearn_one_leaf(train: Array, bandwidth: float, tolerance: float) -> Score:
    from sklearn.neighbors import KernelDensity

    model = KernelDensity(bandwidth=bandwidth, leaf_size=len(train))
    return model.fit(train).score_samples


def kdepy_tree(train: Array, bandwidth: float, tolerance: float) -> Score:
    from KDEpy import TreeKDE

    # In many dimensions densities are far below any absolute tolerance: it is not for those.
    model = TreeKDE(kernel="gaussian", bw=bandwidth).fit(train)
    return lambda queries: _log(model.evaluate(queries, eps=tolerance))


def kdepy_fft(train: Array, bandwidth: float, tolerance: float) -> Score:
    """A grid of 1,024 points a side that reaches 5 bandwidths beyond the data, interpolated."""
    from KDEpy import FFTKDE
    from scipy.interpolate import RegularGridInterpolator

    low, high = train.min(axis=0) - 5 * bandwidth, train.max(axis=0) + 5 * bandwidth
    axes = [np.linspace(a, b, 1024) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, train.shape[1])
    density = FFTKDE(kernel="gaussian", bw=bandwidth).fit(train).evaluate(grid)
    table = density.reshape([len(axis) for axis in axes])
    look_up = RegularGridInterpolator(axes, table, bounds_error=False, fill_value=0.0)
    return lambda queries: _log(look_up(queries))


def finufft_kde(train: Array, bandwidth: float, tolerance: float) -> Score:
    """Two transforms between points in the plane and frequencies, and a Gaussian between these.

    Frequencies and images in the periods beside are left out where they are below a hundredth of
    the tolerance, of a kernel's height, and the transforms get this hundredth, too. Nothing bounds
    the relative error of a small density, which can even be negative.
    """
    import finufft

    tolerance /= 100  # as errors of several kinds add up, and are of the largest values
    middle = (train.max(axis=0) + train.min(axis=0)) / 2
    reach = bandwidth * np.sqrt(-2 * np.log(tolerance))

    def score(queries: Array) -> Array:
        sides = [np.ascontiguousarray((side - middle).T) for side in (train, queries)]
        # The period holds the queries, so that all is done at each call.
        period = 2 * max(float(np.abs(side).max()) for side in sides) + reach
        unit = 2 * np.pi / period
        n_modes = 2 * int(np.ceil(np.sqrt(-2 * np.log(tolerance)) / bandwidth / unit)) + 1
        along = np.exp(-((unit * (np.arange(n_modes) - n_modes // 2) * bandwidth) ** 2) / 2)
        ones = np.ones(len(train), complex)
        two = finufft.nufft2d1(*(unit * sides[0]), ones, (n_modes, n_modes), eps=tolerance)
        two *= np.multiply.outer(along, along) / (len(train) * period**2)
        found = finufft.nufft2d2(*(unit * sides[1]), two, eps=tolerance).real
        return _log(np.maximum(found, 0))

    return score


def scipy_kde(train: Array, bandwidth: float, tolerance: float) -> Score:
    from scipy.stats import gaussian_kde

    model = gaussian_kde(train.T, bw_method=bandwidth)

    def score(queries: Array) -> Array:
        found = _log(model(queries.T))  # faster than logpdf, where that is not needed
        lost = np.isneginf(found)
        if lost.any():
            found[lost] = model.logpdf(queries[lost].T)
        return found

    return score


def exact_scipy(train: Array, bandwidth: float) -> Score:
    """SciPy's bandwidth matrix is h² times the covariance: exact in whitened coordinates."""
    covariance = np.atleast_2d(np.cov(train, rowvar=False))
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
    score = exact_log_density(train @ whiten, bandwidth)
    log_volume = np.linalg.slogdet(whiten)[1]
    return lambda queries: score(queries @ whiten) + log_volume


def statsmodels_kde(train: Array, bandwidth: float, tolerance: float) -> Score:
    from statsmodels.nonparametric.kernel_density import KDEMultivariate

    d = train.shape[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "After 0.17", FutureWarning)  # of a generator not used
        model = KDEMultivariate(train, var_type="c" * d, bw=np.full(d, bandwidth))
    return lambda queries: _log(np.atleast_1d(model.pdf(queries)))


def mlpack_kde(train: Array, bandwidth: float, tolerance: float) -> Score:
    """Both of its trees are built at each call, of copies, as it puts rows in another order."""
    from mlpack import kde

    def score(queries: Array) -> Array:
        found = kde(
            reference=train.copy(), query=queries.copy(), bandwidth=bandwidth, rel_error=tolerance,
            kernel="gaussian", tree="kd-tree", algorithm="dual-tree",
        )  # fmt: skip
        return _log(np.asarray(found["predictions"]).ravel())

    return score


def torch_dense(train: Array, bandwidth: float, tolerance: float) -> Score:
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(train))
    squares = (rows**2).sum(dim=1)
    log_norm, factor = _log_norm(train, bandwidth), -1 / (2 * bandwidth**2)

    def score(queries: Array) -> Array:
        sums = []
        for block in _row_blocks(train, queries):
            points = torch.from_numpy(np.ascontiguousarray(block))
            distances = torch.addmm(squares, points, rows.T, alpha=-2.0)
            distances += (points**2).sum(dim=1)[:, None]
            sums.append(torch.logsumexp(distances.clamp_(min=0.0).mul_(factor), dim=1))
        return torch.cat(sums).numpy() - log_norm

    return score


def keops_dense(train: Array, bandwidth: float, tolerance: float) -> Score:
    from pykeops.numpy import LazyTensor

    log_norm, factor = _log_norm(train, bandwidth), -1 / (2 * bandwidth**2)
    rows = LazyTensor(np.ascontiguousarray(train)[None, :, :])

    def score(queries: Array) -> Array:
        points = LazyTensor(np.ascontiguousarray(queries)[:, None, :])
        exponents = ((points - rows) ** 2).sum(dim=2) * factor
        return exponents.logsumexp(axis=1).ravel() - log_norm

    return score


def naive_grid(train: Array, bandwidths: Array) -> Score:
    """NumPy and SciPy's logsumexp, one bandwidth at a time."""
    squares = (train**2).sum(axis=1)

    def one(queries: Array, bandwidth: float) -> Array:
        found = []
        for rows in _row_blocks(train, queries):
            distances = (rows**2).sum(axis=1)[:, None] + squares - 2 * rows @ train.T
            found.append(logsumexp(-distances / (2 * bandwidth**2), axis=1))
        return np.concatenate(found) - _log_norm(train, bandwidth)

    return lambda queries: np.stack([one(queries, float(h)) for h in bandwidths])


SKLEARN = Peer("scikit-learn kd_tree, rtol", "scikit-learn", sklearn_tree, 16)
SKLEARN_DEFAULT = Peer("scikit-learn defaults", "scikit-learn", sklearn_default, 16)
SKLEARN_ONE_LEAF = Peer("scikit-learn one leaf", "scikit-learn", sklearn_one_leaf, 16)
KDEPY_TREE = Peer("KDEpy TreeKDE, eps", "KDEpy", kdepy_tree, 16, "its eps is absolute")
KDEPY_FFT = Peer("KDEpy FFTKDE", "KDEpy", kdepy_fft, 1000, "1024 × 1024 grid, interpolated")
FINUFFT = Peer("FINUFFT", "finufft", finufft_kde, 1000, "no bound on a density's logarithm")
SCIPY = Peer("SciPy gaussian_kde", "scipy", scipy_kde, 16, "h² times the covariance", exact_scipy)
STATSMODELS = Peer("statsmodels KDEMultivariate", "statsmodels", statsmodels_kde, 16)
# Of two trees a query costs the less the more there are: it gets the time to do all of them.
MLPACK = Peer("mlpack dual kd-tree, rel_error", "mlpack", mlpack_kde, 1000, patience=30.0)
TORCH = Peer("PyTorch dense", "torch", torch_dense, 64)
KEOPS = Peer("PyKeOps dense", "pykeops", keops_dense, 64)

PEERS = (
    SKLEARN, SKLEARN_DEFAULT, SKLEARN_ONE_LEAF, KDEPY_TREE, KDEPY_FFT, FINUFFT, SCIPY,
    STATSMODELS, MLPACK, TORCH, KEOPS,
)  # fmt: skip
