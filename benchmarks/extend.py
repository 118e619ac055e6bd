"""What it costs to add a hundredth of the rows to a finished result, beside the result itself.

In the plane, where sums are by expansions, rows are added to the training rows: every query row is
evaluated anew. With 32 features pairs are summed, and rows are added to either side. Each command
is a process of its own, as a user starts it. Some rows of the extended result are compared with the
sum over all training rows. Seconds are those that passed; in brackets, those in which processors
worked. On two cores it takes half an hour, and 20 GB of disk.

    python benchmarks/extend.py
    python benchmarks/extend.py --share 0.02 --base plane
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from record import add_json_option, keep, new_record
from scale import BLOCK, Session, direct, relative, rows_of, session

import dkde
from dkde.typing import FloatArray

NEW = 0.01


class Base(NamedTuple):
    """What is scored, and the share of its time that an addition to either side may take."""

    name: str
    n_features: int
    n_train: int
    n_query: int
    bandwidths: tuple[float, ...]
    targets: dict[str, float]


TOL = 1e-6
PLANE = tuple(np.geomspace(0.03, 0.12, 8).round(4).tolist())
BASES = [
    Base("plane", 2, 30_000_000, 30_000_000, PLANE, {"train": 0.6}),
    Base("more training rows", 2, 100_000_000, 5_000_000, PLANE, {"train": 0.6}),
    Base("pairs", 32, 1_000_000, 150_000, (2.0, 4.0), {"train": 0.03, "query": 0.03}),
]


def normals(n_rows: int, n_features: int, seed: int) -> Iterator[FloatArray]:
    """Yield rows of a standard normal, block by block."""
    rng = np.random.default_rng(seed)
    for start in range(0, n_rows, BLOCK):
        yield rng.standard_normal((min(BLOCK, n_rows - start), n_features))


def taken(command: Sequence[str], output: Path) -> Session:
    """Return what a command of dkde takes, as a process of its own."""
    whole = [sys.executable, "-m", "dkde", "--quiet", *command, "--output", str(output)]
    found = session(whole)
    if found.status:
        raise SystemExit(f"{' '.join(whole)}: ended with status {found.status}")
    return found


def error(store: Path, extended: Path, of: Base, added: str, n_checked: int) -> float:
    """Return the largest error of some rows that were there, and of some that were added."""
    group = zarr.open_group(store, mode="r")
    query, train, new = (group[f"{name}/x"] for name in ("query", "train", f"new-{added}"))
    rows = np.random.default_rng().choice(query.shape[0], n_checked, replace=False).tolist()
    values, parts = rows_of(query, rows), [train]
    if added == "train":
        parts.append(new)
    else:
        some = new[:n_checked]
        values = np.concatenate([values, some])
        rows += range(query.shape[0], query.shape[0] + len(some))
    found = xr.open_zarr(extended, chunks=None)["log_density"].isel(sample=rows)
    return max(
        relative(found.isel(bandwidth=i).values, direct(values, parts, h))
        for i, h in enumerate(of.bandwidths)
    )


def measure(of: Base, share: float, folder: Path, n_checked: int) -> Iterator[dict[str, Any]]:
    """Make the base, with so large a share of its rows, and extend it by rows of each side."""
    sizes = {
        name: max(1000, int(share * n))
        for name, n in (("train", of.n_train), ("query", of.n_query))
    }
    sizes |= {f"new-{name}": int(NEW * n) for name, n in sizes.items()}
    store, base, extended = (folder / f"{name}.zarr" for name in ("rows", "base", "extended"))
    sides = {
        name: partial(normals, n_rows, of.n_features, seed)
        for seed, (name, n_rows) in enumerate(sizes.items())
    }
    dkde.import_rows(sides, store, index=False)
    bandwidths = ",".join(map(repr, of.bandwidths))
    before = taken(
        ["score", str(store), "--train", "train", "--query", "query", "--bandwidth", bandwidths,
         "--tol", repr(TOL)], base,
    )  # fmt: skip
    for added, target in of.targets.items():
        after = taken(["extend", str(base), f"--{added}", f"new-{added}"], extended)
        yield {
            "base": of.name, "added": added, **sizes,
            "base_seconds": before.passed, "base_worked": before.worked,
            "extended_seconds": after.passed, "extended_worked": after.worked,
            "share": after.passed / before.passed, "share_worked": after.worked / before.worked,
            "target_at_most": target, "bound": TOL,
            "error": error(store, extended, of, added, n_checked),
        }  # fmt: skip
        shutil.rmtree(extended)
    for place in (store, base):
        shutil.rmtree(place)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", nargs="+", choices=[base.name for base in BASES])
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each base")
    parser.add_argument("--check", type=int, default=16, help="compare so many rows")
    parser.add_argument("--folder", help="where data are written; by default a temporary one")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    chosen = [base for base in BASES if not options.base or base.name in options.base]
    figures: list[dict[str, Any]] = []
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for base in chosen:
            list(measure(base, min(0.01, options.share), Path(folder), 1))  # compiles what is used
        print("| base | train | query | new rows | s base | s extended | share | at most | error | "
              "bound |\n|---|" + "---:|" * 9)  # fmt: skip
        for base in chosen:
            for row in measure(base, options.share, Path(folder), options.check):
                figures.append(row)
                say(row)
    keep(new_record("extend", options, figures), options.json)
    return figures


def say(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    added = row["added"]
    sizes = f"{row['train']:,} | {row['query']:,} | {row[f'new-{added}']:,} {added}"
    print(
        f"| {row['base']} | {sizes} | "
        f"{row['base_seconds']:.1f} ({row['base_worked']:.1f}) | "
        f"{row['extended_seconds']:.1f} ({row['extended_worked']:.1f}) | "
        f"{row['share']:.3f} ({row['share_worked']:.3f}) | {row['target_at_most']} | "
        f"{row['error']:.1e} | {row['bound']:.0e} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
