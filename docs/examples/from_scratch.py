"""A Gaussian KDE of pictures: sweeps of MNIST and CIFAR, and other libraries at one bandwidth.

python docs/examples/from_scratch.py --data mnist.pkl.gz --cifar cifar-100-python.tar.gz
python docs/examples/from_scratch.py --data mnist.pkl.gz --rows 200 --repeats 1
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

import dkde

try:
    from statsmodels.nonparametric.kernel_density import KDEMultivariate
except ImportError:
    KDEMultivariate = None

SEED = 1573368177
BANDWIDTHS = [0.05, 0.08, 0.1, 0.2, 0.5, 1, 1.5, 2]
# The article's figures, of ten rows each.
PUBLISHED = [-13044.42, -4473.172, -2585.103, -377.8456, -326.022, -759.3353, -1056.648, -1274.786]
PUBLISHED_TEST = -319.5088
COMPARED = 0.2
VALID_START = 10_000
N_COMPONENTS = 50


def statsmodels_density(query: np.ndarray, train: np.ndarray) -> np.ndarray:
    if KDEMultivariate is None:
        raise ImportError("not installed")
    d = train.shape[1]
    with warnings.catch_warnings():  # of its divisions by zero
        warnings.simplefilter("ignore")
        return np.log(KDEMultivariate(train, "c" * d, bw=[COMPARED] * d).pdf(query))


def tree_density(query: np.ndarray, train: np.ndarray, leaf_size: int = 40) -> np.ndarray:
    return KernelDensity(bandwidth=COMPARED, leaf_size=leaf_size).fit(train).score_samples(query)


# Log-densities of query rows under training rows: with the identity as C, and with SciPy's.
Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
SAME_KERNEL: dict[str, Estimate] = {
    "dkde": lambda query, train: dkde.log_density(query, train, COMPARED),
    "scikit-learn": tree_density,
    "  in one leaf": lambda query, train: tree_density(query, train, len(train)),
    "statsmodels": statsmodels_density,
}
FULL: dict[str, Estimate] = {
    "dkde, full": lambda query, train: dkde.log_density(query, train, COMPARED, covariance="full")
}
SCIPY: dict[str, Estimate] = {
    "SciPy": lambda query, train: gaussian_kde(train.T, bw_method=COMPARED).logpdf(query.T)
}


def sweep(store: str, n: int, name: str, repeats: int, out: Path) -> xr.Dataset:
    """The sweep of n rows against the n after VALID_START, with its table, its CSV and its time."""
    catalog = dkde.Catalog(store)
    start = min(VALID_START, catalog.rows("train").n_rows // 2)
    n, n_test = min(n, start), min(n, catalog.rows("test").n_rows)
    sides = {"train": f"train[:{n}]", "valid": f"train[{start}:{start + n}]"}
    result = dkde.sweep(**sides, test=f"test[:{n_test}]", source=store, bandwidths=BANDWIDTHS)
    article = name == "mnist" and n == 10
    print(f"\n{name}, {n} x {n} x {result.attrs['n_features']}")
    print(f"bandwidth  mean log-likelihood  standard error{'  the article' * article}")
    best = float(result.best_bandwidth)
    means, errors = result.mean_log_likelihood.values, result.standard_error.values
    for h, mean, error, published in zip(BANDWIDTHS, means, errors, PUBLISHED, strict=True):
        ending = (f"{published:13.7g}" if article else "") + ("  *" if h == best else "")
        print(f"{h:9g}  {mean:19.4f}  {error:14.4f}{ending}")
    published = f", in the article {PUBLISHED_TEST}" if article else ""
    print(f"test at {best:g}: {float(result.test_mean_log_likelihood):.4f}{published}")

    columns = ["mean_log_likelihood", "standard_error", "bits_per_dimension", "n_zero_density"]
    result[columns].to_dataframe()[columns].to_csv(out / f"{name}-{n}.csv")
    seconds = []
    for _ in range(repeats):
        began = perf_counter()
        dkde.sweep(**sides, source=store, bandwidths=BANDWIDTHS)
        seconds.append(perf_counter() - began)
    print(f"{np.mean(seconds):.2f} s, mean of {repeats}")
    return result


def compare(estimates: dict[str, Estimate], a: np.ndarray, b: np.ndarray, n_query: int) -> dict:
    """Means of the log-densities, the first rows of b under a and the first of a under b."""
    found = {}
    for name, estimate in estimates.items():
        try:
            rows = [estimate(b[:n_query], a), estimate(a[:n_query], b)]
            found[name] = [float(values.mean()) for values in rows]
            print(f"{name:14s}  {found[name][0]:17.4f}  {found[name][1]:17.4f}")
            if name.startswith("dkde"):
                sums = [float(logsumexp(values) - np.log(len(values))) for values in rows]
                print(f"{'  log of mean':14s}  {sums[0]:17.4f}  {sums[1]:17.4f}")
                found[f"{name}, log of mean"] = sums
        except (ImportError, ValueError, np.linalg.LinAlgError) as error:
            found[name] = type(error).__name__
            reason = "not installed" if isinstance(error, ImportError) else found[name]
            print(f"{name:14s}  {reason:>17s}  {reason:>17s}")
    return found


def libraries(store: str, n: int) -> dict:
    """Other libraries at COMPARED, both ways round: on pictures, and on principal components."""
    catalog = dkde.Catalog(store)
    selectors = f"train[:{n}]", f"train[{VALID_START}:{VALID_START + n}]"
    a, b = (catalog.rows(s).read(0, n, decode=True).astype(float) for s in selectors)
    n_query = min(n, 50)
    print(f"\nat {COMPARED}, {n} rows of 784 pixels, {n_query} scored")
    print("                valid under train  train under valid")
    found = {"pixels": compare(SAME_KERNEL | SCIPY, a, b, n_query)}
    if n > N_COMPONENTS:
        axes = np.linalg.svd(a - a.mean(axis=0), full_matrices=False)[2][:N_COMPONENTS]
        print(f"  of {N_COMPONENTS} components")
        a, b = a @ axes.T, b @ axes.T
        found["components"] = compare(SAME_KERNEL | FULL | SCIPY, a, b, n_query)
    return found


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, such as mnist.pkl.gz")
    parser.add_argument("--cifar", help="an archive in the layout of CIFAR-100's")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for pictures and CSV")
    parser.add_argument("--rows", type=int, default=VALID_START, help="of each side, at most")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/mnist.zarr"
        dkde.import_dataset(options.data, store, shuffle_seed=SEED)
        dkde.plot_pictures("train", options.out / "mnist.png", rows=20, columns=20, source=store)
        for n in (10, options.rows):
            found["mnist", n] = sweep(store, n, "mnist", options.repeats, options.out)
            found["libraries", n] = libraries(store, n)
        if options.cifar:
            store = f"{folder}/cifar.zarr"
            dkde.import_dataset(options.cifar, store, shuffle_seed=SEED)
            dkde.plot_pictures("train", options.out / "cifar.png", rows=4, source=store)
            found["cifar"] = sweep(store, options.rows, "cifar", options.repeats, options.out)
    return found


if __name__ == "__main__":
    main()
