"""One Gaussian, of which little can be left out: beside PyTorch's and PyKeOps' dense sums.

python benchmarks/one_gaussian.py
python benchmarks/one_gaussian.py --optimum --tol 1e-6

Rows are standard normals, and h is 0.1 or near the likelihood's optimum (``--optimum``), where most
pairs matter. Both sides take as many queries as are asked for, the peers the first of them, scaled
(``--peer-queries``). The peers sum in float64 and in float32; dkde's values are float64 throughout,
and its public call includes its trees. What the peers compile and copy is done before they are
timed. Seconds are medians; processor seconds are those of all threads, and say more where the
machine has other work. Errors are differences from sums in extended precision, over 16 queries, in
nats.
"""

import argparse
import contextlib
import sys
from typing import Any

import numpy as np
from leaves import exact, optimum, timed
from peers_packages import KEOPS, TORCH, Peer
from record import add_json_option, keep, new_record

import dkde
from dkde.rows.model_rows import normal

PEERS = (TORCH, KEOPS)
PRECISIONS = (np.float64, np.float32)


def of_peer(
    peer: Peer, query: Any, train: Any, h: float, options: argparse.Namespace, precision: type
) -> dict[str, Any]:
    """Return the figures of a peer, from a sample of the queries."""
    first = query[: options.peer_queries].astype(precision)
    with contextlib.redirect_stdout(sys.stderr):  # PyKeOps says that it compiles
        score = peer.log_density(train.astype(precision), h, options.tol)
        score(first[:64])
        seconds, processor, found = timed(lambda: score(first), options.peer_repeats)
    scale = len(query) / len(first)
    return {
        "way": f"{peer.name} {peer.version}, {precision.__name__}",
        "seconds": seconds * scale, "processor_seconds": processor * scale, "values": found,
    }  # fmt: skip


def measure(d: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of one number of features, dkde's first."""
    rng = np.random.default_rng(d)
    train, query = normal(options.rows, d, rng), normal(options.queries, d, rng)
    h = optimum(train) if options.optimum else options.bandwidth
    dkde.log_density(query[:300], train[:9000], h, tol=options.tol)  # compiles
    seconds, processor, found = timed(
        lambda: dkde.log_density(query, train, h, tol=options.tol), options.repeats
    )
    rows = [{
        "way": f"dkde, tol {options.tol:g}", "seconds": seconds, "processor_seconds": processor,
        "values": found,
    }]  # fmt: skip
    for peer in PEERS:
        if peer.version is None:
            continue
        for precision in PRECISIONS:
            rows.append(of_peer(peer, query, train, h, options, precision))
    some = slice(0, min(16, len(query), options.peer_queries))
    expected = exact(query[some], train, h)
    for row in rows:
        row["error"] = float(np.abs(row.pop("values")[some] - expected).max())
        row |= {"features": d, "bandwidth": h}
    return rows


def line(row: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return a row of the table, with the ratios to dkde's."""
    ratios = ["", ""]
    if row is not ours:
        ratios = [f"{row[key] / ours[key]:.1f} ×" for key in ("seconds", "processor_seconds")]
    cells = [f"{row['features']}", f"{row['bandwidth']:.3f}", row["way"], f"{row['seconds']:.2f}"]
    cells += [f"{row['processor_seconds']:.2f}", *ratios, f"{row['error']:.1e}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--features", type=int, nargs="+", default=(5, 8))
    parser.add_argument("--bandwidth", type=float, default=0.1)
    parser.add_argument(
        "--optimum", action="store_true", help="the bandwidth by the likelihood of 2,000 rows"
    )
    parser.add_argument("--tol", type=float, default=1e-9)
    parser.add_argument("--peer-queries", type=int, default=500, help="queries that peers sum")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-repeats", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    for peer in PEERS:
        if peer.version is None:
            print(f"{peer.distribution} is not installed: left out")
    print(f"{options.queries:,} queries x {options.rows:,} rows of a standard normal\n")
    heads = ["features", "h", "way", "seconds", "processor seconds", "ratio", "by processor"]
    print(f"| {' | '.join([*heads, 'error, nats'])} |")
    print(f"| ---: | ---: | --- |{' ---: |' * 5}")
    figures = []
    for d in options.features:
        rows = measure(d, options)
        figures += rows
        for row in rows:
            print(line(row, rows[0]), flush=True)
    names = tuple(peer.distribution for peer in PEERS)
    keep(new_record("one_gaussian", options, figures, names), options.json)
    return figures


if __name__ == "__main__":
    main()
