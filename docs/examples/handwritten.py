"""Handwritten digits from kernel densities: norms of one bandwidth, bandwidth matrices, samples.

python docs/examples/handwritten.py --data mnist.pkl.gz --out pictures
python docs/examples/handwritten.py --data mnist.pkl.gz --rows 1000
"""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import dkde

UNIVARIATE_BANDWIDTH = 2000  # of pixels 0-255
METRICS = ("euclidean", "manhattan", "chebyshev")
MATRICES = {
    "Scott": {"bandwidth": "scott", "covariance": "diag"},
    "Silverman": {"bandwidth": "silverman", "covariance": "diag"},
    "identity": {"bandwidth": 1.0, "covariance": "identity"},
}
BATCH = 100
LABEL, N_COMPONENTS, N_SHOWN = 7, 50, 10
SCALES = (0.01, 0.1, 1.0, 4.0)


def univariate(store: str, train: str, n_query: int) -> dict[str, np.ndarray]:
    """Log-scores (n_query,) for each metric, in batches: a block of a Dask array each."""
    pixels = dkde.open_dataset(store)["test"].x[:n_query].data.rechunk((BATCH, -1))
    lazy = {
        metric: dkde.log_density(
            pixels,
            train,
            UNIVARIATE_BANDWIDTH,
            kernel="univariate_gaussian",
            metric=metric,
            source=store,
        )
        for metric in METRICS
    }
    print(f"\nunivariate Gaussian of a norm, bandwidth {UNIVARIATE_BANDWIDTH}, batches of {BATCH}")
    print("metric     mean log-score       lowest      highest")
    scores = {}
    for metric, values in lazy.items():
        scores[metric] = found = values.compute()
        print(f"{metric:9s}  {found.mean():14.4f}  {found.min():11.4f}  {found.max():11.4f}")
    return scores


def multivariate(store: str, train: str, query: str) -> dict[str, Any]:
    """A result for each bandwidth matrix."""
    print("\nmultivariate Gaussian      h  features  mean log-likelihood  standard error")
    results = {}
    for name, matrix in MATRICES.items():
        with warnings.catch_warnings():
            # Which pixels are the same in all training rows: the border, mostly.
            warnings.filterwarnings("ignore", "the density is one on the")
            result = dkde.score(query, train, **matrix, singular="drop", source=store)
        results[name] = result = result.squeeze("bandwidth")
        # bits per dimension are -mean / (d log 2), d the dimensions that the density is one in
        mean, bits = float(result.mean_log_likelihood), float(result.bits_per_dimension)
        print(
            f"{name:21s} {float(result.bandwidth):.4f}  {-mean / (bits * np.log(2)):8.0f}  "
            f"{mean:19.4f}  {float(result.standard_error):14.4f}"
        )
    return results


def sevens(store: str, train: str, picture: Path) -> dict[float, np.ndarray]:
    """Samples of one class at each scale, from the same training rows with the same noise."""
    samples = {}
    for scale in SCALES:
        samples[scale], originals = dkde.sample(
            train,
            "scott",
            N_SHOWN,
            random_state=0,
            label=LABEL,
            pca=N_COMPONENTS,
            covariance="diag",
            covariance_scale=scale,
            return_sources=True,
            source=store,
        )
    below = np.concatenate(list(samples.values()))
    dkde.plot_samples(originals, below, picture, columns=N_SHOWN, like=train, source=store)

    labels = dkde.Catalog(store).rows(train).coordinates()["label"]
    n, d = int((labels == LABEL).sum()), N_COMPONENTS
    scott = n ** (-1 / (d + 4))
    silverman = (n * (d + 2) / 4) ** (-1 / (d + 4))
    print(f"\nsamples of label {LABEL}: {n} training rows, {d} components in {picture.name}")
    print("covariance_scale  noise, in standard deviations of each component")
    for scale in SCALES:
        print(f"{scale:16g}  {np.sqrt(scale) * scott:47.4f}")
    print(f"h: {scott:.4f} by Scott's rule, {silverman:.4f} by Silverman's")
    print(f"scaling_factor 0.01 without the square is covariance_scale {0.01 / silverman:.5f}")
    return samples


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, a file that dkde imports")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for handwritten.png")
    parser.add_argument("--rows", type=int, default=10_000, help="training rows; a tenth to score")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/pixels.zarr"
        # scale=1: what is stored is bytes, and here they are meant as such.
        dkde.import_dataset(options.data, store, scale=1)
        train, n_query = f"train[:{options.rows}]", options.rows // 10
        print(f"the first {options.rows} training and {n_query} test pictures, pixels 0-255")
        return {
            "univariate": univariate(store, train, n_query),
            "multivariate": multivariate(store, train, f"test[:{n_query}]"),
            "samples": sevens(store, train, options.out / "handwritten.png"),
        }


if __name__ == "__main__":
    main()
