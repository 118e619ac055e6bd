"""The works that dkde and others are timed on."""

import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import peers_packages as packages
from peers_measure import Array, Score, Way, Work, exact_log_density
from roofline import BANDWIDTHS, pictures, product
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

import dkde
from dkde.workers.cluster import n_processors

TOLERANCE = 1e-9  # dkde's default in float64
NUMBERS = (1, 2, 3, 4, 5, 6, 7)
_FEWEST = 100  # rows, however small the scale


@dataclass(frozen=True)
class Data:
    """Where rows come from, and how many there are of them.

    `folder` is for what a run writes; `store` a data set with the pictures, if given.
    """

    folder: Path
    scale: float = 1.0
    store: str | None = None

    def size(self, rows: int) -> int:
        return max(min(rows, _FEWEST), round(rows * self.scale))

    def pictures(self) -> tuple[Array, Array, str]:
        """Training rows and, in random order, queries; and their name."""
        train, query = _pictures(self.store, self.size(60_000), self.size(10_000))
        return train, query, "made-up pictures" if self.store is None else Path(self.store).stem

    def normal(self, rows: int, d: int, seed: int) -> Array:
        return np.random.default_rng(seed).standard_normal((rows, d))

    def digits(self, rows: int, d: int, noise: float, seed: int) -> Array:
        """The digits in d principal components, resampled with Gaussian noise."""
        source = PCA(d, svd_solver="full").fit_transform(load_digits().data)
        rng = np.random.default_rng(seed)
        chosen = source[rng.integers(len(source), size=rows)]
        return chosen + noise * rng.standard_normal((rows, d))


@cache
def _pictures(store: str | None, n_train: int, n_query: int) -> tuple[Array, Array]:
    if store is None:
        return pictures(n_train, 0), pictures(n_query, 1)
    catalog = dkde.Catalog(store)
    both = [catalog.rows(name) for name in ("train+valid", "test")]
    train, query = (np.asarray(rows.read(0, rows.n_rows, decode=True), float) for rows in both)
    return train[:n_train], query[np.random.default_rng(0).permutation(len(query))[:n_query]]


def scott(train: Array) -> float:
    n, d = train.shape
    return float(n ** (-1 / (d + 4)))


def accuracy(function: Callable[..., Any], tolerance: float) -> dict[str, float]:
    """The option for a tolerance, where the function has it."""
    return {"tol": tolerance} if "tol" in inspect.signature(function).parameters else {}


def ours(
    train: Array, bandwidths: float | Sequence[float] | Array,
    tolerance: float = TOLERANCE, precision: str = "float64",
) -> Way:  # fmt: skip
    options: dict[str, Any] = {"precision": precision}
    if precision == "float64":
        options |= accuracy(dkde.log_density, tolerance)

    def score(queries: Array) -> Array:
        return dkde.log_density(queries, train, bandwidths, **options)

    name = "dkde" if precision == "float64" else f"dkde, {precision}"
    return Way(name, lambda: score, start=1000, patience=30.0)


def product_alone(train: Array, precision: str) -> Way:
    """The product of both sides in row blocks, into one buffer that is reused."""

    def prepare() -> Score:
        rows = np.ascontiguousarray(train, precision)
        held: dict[int, Callable[[], None]] = {}

        def score(queries: Array) -> None:
            if len(queries) not in held:
                held[len(queries)] = product(np.ascontiguousarray(queries, precision), rows)
            with threadpool_limits(n_processors(), user_api="blas"):
                held[len(queries)]()

        return score

    return Way(f"matrix product alone, {precision}", prepare)


def others(
    peers: Sequence[packages.Peer], train: Array, bandwidth: float, tolerance: float
) -> dict[str, Any]:
    """The ways of the peers that are installed, and the names of those that are not."""
    here = [peer.way(train, bandwidth, tolerance) for peer in peers if peer.version]
    return {"ways": tuple(here), "missing": tuple(p.name for p in peers if not p.version)}


def dense(data: Data, precision: str) -> Work:
    """All pairs, from a store: of whole numbers, and of the same pixels as other numbers."""
    train, query, name = data.pictures()
    train = train[: data.size(10_000)]
    store = data.folder / f"{precision}.zarr"
    keep(store, train=train, test=query)

    def score(queries: Array) -> Array:
        selector = f"test[:{len(queries)}]"
        options = {"source": str(store), "precision": precision}
        return dkde.score(selector, "train", BANDWIDTHS, **options)["log_density"].values

    whole = Way(f"dkde, {precision}", lambda: score, start=1000, patience=30.0)
    plain = ours(train, BANDWIDTHS, precision=precision)
    return Work(
        1,
        f"{name}, {shape(query, train)}, {len(BANDWIDTHS)} bandwidths, {precision}",
        query,
        exact_log_density(train, BANDWIDTHS),
        (whole, product_alone(train, precision), replace(plain, name="dkde, pixels decoded")),
        ("<=", 1.3),
    )


def one_bandwidth(data: Data) -> Work:
    train, query, name = data.pictures()
    found = others((packages.TORCH,), train, 0.17, TOLERANCE)
    return Work(
        2,
        f"{name}, {shape(query, train)}, h = 0.17, in memory",
        query,
        exact_log_density(train, 0.17),
        (ours(train, 0.17), product_alone(train, "float64"), *found["ways"]),
        (">=", 5.0),
        found["missing"],
    )


def stored(data: Data) -> Work:
    """From a store to a kept result. dkde's queries are the store's, in the same order."""
    train, query, name = data.pictures()
    store = data.folder / "rows.zarr"
    keep(store, train=train, test=query)
    numbers = count()

    def score(queries: Array) -> Array:
        output = data.folder / f"scores-{next(numbers)}.zarr"
        selector = f"test[:{len(queries)}]"
        result = dkde.score(selector, "train", 0.17, source=str(store), output=output)
        values = result["log_density"].values[0]
        shutil.rmtree(output)
        return values

    peers = packages.SKLEARN_DEFAULT, packages.SKLEARN_ONE_LEAF
    found = others(peers, train, 0.17, TOLERANCE)
    return Work(
        3,
        f"{name}, {shape(query, train)}, h = 0.17, dkde from a store to a kept result",
        query,
        exact_log_density(train, 0.17),
        (Way("dkde", lambda: score, start=1000, patience=30.0), *found["ways"]),
        (">=", 300.0),
        found["missing"],
    )


def grid(data: Data) -> Work:
    train, query, name = data.pictures()
    bandwidths = np.geomspace(0.05, 0.5, 20)
    naive = Way(
        "NumPy, logsumexp, one bandwidth at a time",
        lambda: packages.naive_grid(train, bandwidths),
        start=64,
    )
    return Work(
        4,
        f"{name}, {shape(query, train)}, 20 bandwidths from 0.05 to 0.5",
        query,
        exact_log_density(train, bandwidths),
        (ours(train, bandwidths), naive),
        (">=", 30.0),
    )


def plane(data: Data) -> Work:
    n = data.size(1_000_000)
    train, query = data.normal(n, 2, 0), data.normal(n, 2, 1)
    h = scott(train)
    peers = (
        packages.SKLEARN, packages.KDEPY_TREE, packages.KDEPY_FFT, packages.FINUFFT,
        packages.MLPACK, packages.SCIPY, packages.STATSMODELS, packages.TORCH, packages.KEOPS,
    )  # fmt: skip
    found = others(peers, train, h, 1e-6)
    return Work(
        5,
        f"standard normal, {shape(query, train)}, Scott's h = {h:.3g}, tolerance 1e-6",
        query,
        exact_log_density(train, h),
        (ours(train, h, 1e-6), *found["ways"]),
        (">=", 200.0),
        found["missing"],
    )


def digits(data: Data) -> Work:
    h = 3.79
    train = data.digits(data.size(200_000), 15, h, 0)
    query = data.digits(data.size(20_000), 15, h, 1)
    peers = (
        packages.SKLEARN, packages.MLPACK, packages.SCIPY, packages.STATSMODELS, packages.TORCH,
        packages.KEOPS,
    )  # fmt: skip
    found = others(peers, train, h, TOLERANCE)
    return Work(
        6,
        f"noisy digits, {shape(query, train)}, h = {h}, tolerance {TOLERANCE:g}",
        query,
        exact_log_density(train, h),
        (ours(train, h), *found["ways"]),
        (">=", 150.0),
        found["missing"],
    )


def keep(store: Path, **splits: Array) -> None:
    """Import splits into a store: pictures in 256ths, as bytes."""
    file = store.with_suffix(".npz")
    raw = {name: np.rint(rows * 256).astype(np.uint8) for name, rows in splits.items()}
    if all((raw[name] / 256 == rows).all() for name, rows in splits.items()):
        np.savez(file, **raw)
        dkde.import_dataset(file, store, scale=1 / 256)
    else:
        np.savez(file, **splits)
        dkde.import_dataset(file, store)


def shape(query: Array, train: Array) -> str:
    return f"{len(query):,} queries × {len(train):,} rows × {train.shape[1]}"


WORKS: dict[int, tuple[Callable[[Data], Work], ...]] = {
    1: (lambda data: dense(data, "float64"), lambda data: dense(data, "float32")),
    2: (one_bandwidth,),
    3: (stored,),
    4: (grid,),
    5: (plane,),
    6: (digits,),
}


@contextmanager
def data_for(scale: float, store: str | None) -> Iterator[Data]:
    with tempfile.TemporaryDirectory(prefix="dkde-peers-") as folder:
        yield Data(Path(folder), scale, store)
