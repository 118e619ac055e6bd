"""New digits from a density: scikit-learn's gallery example, by exact cross-validation.

python docs/examples/digits.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

import dkde

BANDWIDTHS = np.logspace(-1, 1, 20)
N_NEW = 44


def tree_scores(features: np.ndarray) -> np.ndarray:
    """Mean fold scores (n_bandwidths,) by scikit-learn's default tree: a fit for each."""
    search = GridSearchCV(KernelDensity(), {"bandwidth": BANDWIDTHS}, cv=5).fit(features)
    return search.cv_results_["mean_test_score"]


def print_scores(exact: np.ndarray, tree: np.ndarray) -> None:
    print(f"bandwidth  mean fold score  scikit-learn {sklearn.__version__}  off by")
    for h, ours, theirs in zip(BANDWIDTHS, exact, tree, strict=True):
        mark = "  *" if ours == exact.max() else ""
        print(f"{h:9.4f}  {ours:15.2f}  {theirs:18.2f}  {(theirs - ours) / abs(ours):6.2%}{mark}")


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for digits.png")
    options = parser.parse_args(arguments)

    digits = load_digits().data
    pca = PCA(n_components=15).fit(digits)
    features = pca.transform(digits)

    density = dkde.KernelDensityCV(bandwidths=BANDWIDTHS, cv=5).fit(features)
    exact = density.cv_results_["mean_test_score"]
    tree = tree_scores(features)
    print(f"{len(digits)} digits, {digits.shape[1]} pixels, {features.shape[1]} components")
    print_scores(exact, tree)
    print(f"\nbest bandwidth {density.bandwidth_:.12g}, mean fold score {density.best_score_:.2f}")

    new = pca.inverse_transform(density.sample(N_NEW, random_state=0))
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "digits.png"
    dkde.plot_samples(f"train[:{N_NEW}]", new, picture, columns=11, source="digits")
    print(f"{N_NEW} new digits below {N_NEW} real ones in {picture.name}")
    return {"best": density.bandwidth_, "exact": exact, "tree": tree, "new": new}


if __name__ == "__main__":
    main()
