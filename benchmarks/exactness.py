"""How far scikit-learn's tree, and dkde, are from the naive sum.

python benchmarks/exactness.py                    # scikit-learn's digits
python benchmarks/exactness.py --data mnist.zarr  # 50 pictures under 10,000, at 0.2
"""

import argparse
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

import dkde


def naive(query: np.ndarray, train: np.ndarray, bandwidth: float) -> np.ndarray:
    """Log-densities (rows,) by the definition, a query at a time, in float64."""
    d = train.shape[1]
    log_norm = d * np.log(bandwidth * np.sqrt(2 * np.pi)) + np.log(len(train))
    exponents = (-((train - row) ** 2).sum(axis=1) / (2 * bandwidth**2) for row in query)
    return np.array([logsumexp(exponent) for exponent in exponents]) - log_norm


def sides(data: str | None) -> tuple[np.ndarray, np.ndarray, list[float]]:
    if data is None:
        dkde_digits = dkde.Catalog("digits")
        rows = [dkde_digits.rows(name) for name in ("test", "train")]
        bandwidths = [0.3, 0.5, 1.0, 2.0, 4.0]
    else:
        catalog = dkde.Catalog(data)
        rows = [catalog.rows(name) for name in ("train[10000:10050]", "train[:10000]")]
        bandwidths = [0.2]
    query, train = (side.read(0, side.n_rows, decode=True).astype(float) for side in rows)
    return query, train, bandwidths


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an imported MNIST, such as mnist.zarr")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    query, train, bandwidths = sides(options.data)
    print(f"{options.data or 'digits'}, {len(query)} x {len(train)} x {train.shape[1]}")
    print("bandwidth  mean, exact  scikit-learn's  worst row off  dkde's worst row off")
    figures = []
    for h in bandwidths:
        exact = naive(query, train, h)
        tree = KernelDensity(bandwidth=h).fit(train).score_samples(query)
        ours = dkde.log_density(query, train, h)
        row = {
            "bandwidth": h,
            "mean_exact": float(exact.mean()),
            "mean_scikit_learn": float(tree.mean()),
            "error_scikit_learn": float(abs(tree - exact).max()),
            "error_dkde": float(abs(ours - exact).max()),
        }
        figures.append(row)
        print(
            f"{h:9g}  {exact.mean():11.4f}  {tree.mean():14.4f}  "
            f"{row['error_scikit_learn']:13.4g}  {row['error_dkde']:20.2g}"
        )
    keep(new_record("exactness", options, figures, ["scikit-learn"]), options.json)
    return figures


if __name__ == "__main__":
    main()
