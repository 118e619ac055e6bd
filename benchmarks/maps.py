"""How long maps take: a Dataset of axes in, a DataArray out; beside KDEpy's FFT in the plane.

Rows are standard normals (seed 5), or 200 clusters of 5 bandwidths in a box of 5,000 a side; grids
reach over the bounding box of the rows. The far grid, over +-15, is given as points, and stands
beside scikit-learn's tree at an atol of 1e-9. On the sphere rows are places in the two belts of
docs/xarray.md (seed 7), maps of the whole of it, and bandwidths in km. Times are of public calls on
all cores, medians, the two sides in turn in one process; beside each stands its seconds of
processor, which other work on the machine changes less. Errors are of log-densities: dkde's largest
one in units of the tolerance, against sums in extended precision at a sample of cells, half of them
where moments meet pairs (of the far grid: amid the rows); and the share of the cells in which the
other side differs from dkde by more than 0.01.

    python benchmarks/maps.py
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import dask
import numpy as np
import xarray as xr
from leaves import exact
from record import add_json_option, keep, new_record

import dkde

PLANE, SPACE = (1280, 960), (128, 128, 128)
# The rows, the shape of the grid, the bandwidth and the tolerance.
CASES: list[tuple[str, tuple[int, ...], float, float]] = [
    ("normal", PLANE, 0.1, 1e-6), ("normal", PLANE, 0.1, 1e-9), ("normal", PLANE, 0.01, 1e-6),
    ("normal", PLANE, 0.01, 1e-9), ("normal", PLANE, 1.0, 1e-6), ("normal", PLANE, 0.002, 1e-6),
    ("clusters", PLANE, 1.0, 1e-6), ("normal", SPACE, 0.15, 1e-6), ("normal", SPACE, 0.15, 1e-9),
]  # fmt: skip
# Cells of longitude and of latitude, and the bandwidths in km.
SPHERE, SPHERE_BANDWIDTHS, SPHERE_TOL, EARTH = (1440, 720), (100.0, 500.0), 1e-6, 6371.0
FAR, FAR_H, FAR_TOL = (250, 250), 0.1, 1e-6  # over +-15
_FFT_FROM = 0.1  # the least bandwidth at which KDEpy's grid has several lines in one


def rows_of(kind: str, n: int, d: int, h: float) -> np.ndarray:
    random = np.random.default_rng(5)
    rows = random.standard_normal((n, d))
    if kind == "clusters":
        centres = random.uniform(-2500 * h, 2500 * h, (200, d))
        rows = centres[random.integers(0, 200, n)] + 5 * h * rows
    return rows


def fft(rows: np.ndarray, lines: list[np.ndarray], h: float) -> np.ndarray:
    """Log-densities by KDEpy."""
    from KDEpy import FFTKDE

    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, len(lines))
    found = FFTKDE(kernel="gaussian", bw=h).fit(rows).evaluate(points)
    logs: np.ndarray = np.log(np.maximum(found, 1e-300)).reshape([len(along) for along in lines])
    return logs


def largest_error(
    values: np.ndarray, moments: np.ndarray, lines: list[np.ndarray], rows: np.ndarray, h: float,
    n: int,
) -> float:  # fmt: skip
    """The largest error at a sample of cells, relative to max(1, |log p|)."""
    random = np.random.default_rng(0)
    norm = np.log(np.longdouble(len(rows))) + len(lines) * np.log(np.sqrt(2 * np.pi) * h)
    worst = 0.0
    for chosen in (np.ones_like(moments), moments != np.roll(moments, 1, axis=0)):
        there = np.argwhere(chosen)
        for at in there[random.integers(0, len(there), n)] if len(there) else ():
            point = np.array([along[i] for along, i in zip(lines, at, strict=True)])
            exponents = ((rows - point.astype(np.longdouble)) ** 2).sum(axis=1)
            exponents /= -2 * np.longdouble(h) ** 2
            top = exponents.max()
            true = top + np.log(np.exp(exponents - top).sum()) - norm
            found = float(np.longdouble(values[tuple(at)]) - true)
            worst = max(worst, abs(found) / max(1, abs(float(true))))
    return worst


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    begin, used = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - begin, time.process_time() - used, found


def in_turn(
    calls: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the median times of calls, the first of which compiles, and what each returned."""
    calls["dkde"]()
    several: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    values = {}
    for name in [*calls] * repeats:
        seconds, processor, values[name] = timed(calls[name])
        several[name].append((seconds, processor))
    figures = {}
    for name, times in several.items():
        figures[f"{name}_seconds"], figures[f"{name}_processor"] = map(
            statistics.median, zip(*times, strict=True)
        )
    return figures, values


def measure(
    rows: np.ndarray, lines: list[np.ndarray], h: float, tol: float, *, peer: bool, options: Any
) -> dict[str, Any]:
    names = "xyz"[: len(lines)]
    grid = xr.Dataset(coords=dict(zip(names, lines, strict=True)))
    train = xr.Dataset({name: ("row", rows[:, j]) for j, name in enumerate(names)})
    calls: dict[str, Callable[[], Any]] = {
        "dkde": lambda: dkde.log_density(grid, train, h, tol=tol).compute()
    }
    if peer:
        calls["peer"] = lambda: fft(rows, lines, h)
    figures, found = in_turn(calls, options.repeats)
    values = found["dkde"].transpose(*names).values
    errors = dkde.log_density(grid, train, h, tol=tol, return_error=True)[1]
    bounds = errors.transpose(*names).values
    # Bounds of sums of pairs are far smaller than those of moments.
    error = largest_error(values, bounds > 1e-3 * tol, lines, rows, h, options.checked)
    figures |= {
        "error_of_tol": error / tol,
        "bound_of_tol": float((bounds / np.maximum(1, np.abs(values))).max() / tol),
    }
    if peer:
        wrong = np.abs(found["peer"] - values) > 0.01
        figures |= {"peer": "KDEpy", "peer_share_wrong": float(wrong.mean())}
    return figures


def measure_far(rows: np.ndarray, options: Any) -> dict[str, Any]:
    """Measure a far grid, given as points: few are near enough to the rows for moments."""
    from sklearn.neighbors import KernelDensity

    line, n = np.linspace(-15, 15, max(2, FAR[0] // options.divide)), options.checked
    cells = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    calls: dict[str, Callable[[], Any]] = {
        "dkde": lambda: dkde.log_density(cells, rows, FAR_H, tol=FAR_TOL)
    }
    if options.peers:
        tree = KernelDensity(bandwidth=FAR_H, atol=1e-9)
        calls["peer"] = lambda: tree.fit(rows).score_samples(cells)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "values of train go")  # it asks whether this is meant
        figures, found = in_turn(calls, options.repeats)
        errors = dkde.log_density(cells, rows, FAR_H, tol=FAR_TOL, return_error=True)[1]
    random, near = np.random.default_rng(0), np.flatnonzero(np.abs(cells).max(axis=1) < 5)
    some = np.r_[random.choice(near, min(n, len(near))), random.choice(len(cells), n)]
    true = exact(cells[some], rows, FAR_H)
    wrong = np.abs(found["dkde"][some] - true) / np.maximum(1, np.abs(true))
    figures |= {
        "error_of_tol": float(wrong.max()) / FAR_TOL,
        "bound_of_tol": float((errors / np.maximum(1, np.abs(found["dkde"]))).max()) / FAR_TOL,
    }
    if options.peers:
        close = np.abs(found["peer"] - found["dkde"]) <= 0.01  # not where theirs is infinite
        figures |= {"peer": "scikit-learn", "peer_share_wrong": float((~close).mean())}
    return figures


def belts(n: int) -> np.ndarray:
    """Latitudes and longitudes of n places."""
    rng = np.random.default_rng(7)
    north_south = rng.uniform(size=n) < 0.4
    along = rng.uniform(size=n)
    lat = np.where(north_south, 60 * along - 45, 45 - 65 * along) + rng.normal(0, 2, n)
    lon = np.where(north_south, 5 * np.cos(4 * along) - 75, 140 + 50 * along)
    lon = (lon + rng.normal(0, 2, n) + 180) % 360 - 180
    return np.column_stack([lat, lon])


def unit_vectors(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Places in extended precision."""
    radian = np.longdouble("3.14159265358979323846264338327950288") / 180
    lat, lon = (each.astype(np.longdouble) * radian for each in (lat, lon))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def measure_sphere(places: np.ndarray, km: float, options: Any) -> dict[str, Any]:
    """A map of the sphere: the second of two calls, as the first one compiles."""
    n_lon, n_lat = (max(2, n // options.divide) for n in SPHERE)
    lines = {
        name: (name, (np.arange(n) + 0.5) * full / n - full / 2, {"units": units})
        for name, n, full, units in (
            ("lat", n_lat, 180, "degrees_north"), ("lon", n_lon, 360, "degrees_east"),
        )
    }  # fmt: skip
    grid = xr.Dataset(coords=lines)
    train = xr.Dataset({
        name: ("event", places[:, j], {"units": lines[name][2]["units"]})
        for j, name in enumerate(("lat", "lon"))
    })  # fmt: skip

    def call() -> Any:
        return dask.compute(*dkde.log_density(
            grid, train, km / EARTH, kernel="vonmises_fisher", tol=SPHERE_TOL, return_error=True,
        ))  # fmt: skip

    call()
    seconds, processor, (found, bounds) = timed(call)
    h = np.longdouble(km / EARTH)
    norm = np.log(np.longdouble(len(places)) * 2 * np.pi * h * h * -np.expm1(-2 / (h * h)))
    vectors, worst = unit_vectors(*places.T), 0.0
    random = np.random.default_rng(0)
    for _ in range(options.checked):
        i, j = random.integers(0, n_lat), random.integers(0, n_lon)
        point = unit_vectors(grid.lat.values[i], grid.lon.values[j])
        exponents = ((vectors - point) ** 2).sum(axis=1) / (-2 * h * h)
        top = exponents.max()
        true = top + np.log(np.exp(exponents - top).sum()) - norm
        wrong = float(abs(np.longdouble(found.values[i, j]) - true))
        worst = max(worst, wrong / max(1.0, abs(float(true))))
    relative = float((bounds / np.maximum(1, abs(found))).max())
    return {
        "dkde_seconds": seconds, "dkde_processor": processor,
        "error_of_tol": worst / SPHERE_TOL, "bound_of_tol": relative / SPHERE_TOL,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--divide", type=int, default=1, help="divide the lines of each axis by it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checked", type=int, default=20, help="cells, twice as many in all")
    parser.add_argument("--sphere-rows", type=int, default=8_000_000)
    parser.add_argument("--only-sphere", action="store_true")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    has_kdepy = options.peers and find_spec("KDEpy") is not None
    if options.peers and not has_kdepy:
        print("KDEpy is not installed: left out")
    print(f"{options.rows} rows; seconds, and in brackets seconds of processor")
    print(
        "rows      grid          h      tol    dkde            error, bound / tol    "
        "the other        wrong by 0.01  dkde / it"
    )
    figures = []
    for kind, full, h, tol in [] if options.only_sphere else CASES:
        shape = tuple(max(2, n // options.divide) for n in full)
        rows = rows_of(kind, options.rows, len(shape), h)
        low, high = rows.min(axis=0) - 0.01, rows.max(axis=0) + 0.01
        lines = [np.linspace(a, b, n) for a, b, n in zip(low, high, shape, strict=True)]
        row: dict[str, Any] = {"rows": kind, "grid": "x".join(map(str, shape)), "h": h, "tol": tol}
        peer = full == PLANE and kind == "normal" and h >= _FFT_FROM and has_kdepy
        row |= measure(rows, lines, h, tol, peer=peer, options=options)
        figures.append(row)
        print(in_words(row), flush=True)
    if not options.only_sphere:
        shape = "x".join(str(max(2, n // options.divide)) for n in FAR)
        row = {"rows": "far", "grid": shape, "h": FAR_H, "tol": FAR_TOL}
        row |= measure_far(rows_of("normal", options.rows, 2, FAR_H), options)
        figures.append(row)
        print(in_words(row), flush=True)
    places = belts(options.sphere_rows)
    for km in SPHERE_BANDWIDTHS:
        shape = "x".join(str(max(2, n // options.divide)) for n in SPHERE)
        row = {"rows": "belts", "grid": shape, "h": km, "tol": SPHERE_TOL}
        row |= measure_sphere(places, km, options)
        figures.append(row)
        print(in_words(row), flush=True)
    keep(new_record("maps", options, figures, ["KDEpy", "scikit-learn"]), options.json)
    return figures


def in_words(row: dict[str, Any]) -> str:
    peer = ""
    if "peer_seconds" in row:
        peer = (
            f"  {row['peer_seconds']:5.2f} ({row['peer_processor']:5.2f})  "
            f"{row['peer_share_wrong']:13.3f}  {row['dkde_seconds'] / row['peer_seconds']:.2f}"
        )
    return (
        f"{row['rows']:8s}  {row['grid']:11s}  {row['h']:<5.4g}  {row['tol']:5.0e}  "
        f"{row['dkde_seconds']:5.2f} ({row['dkde_processor']:5.2f})  "
        f"{row['error_of_tol']:9.1e}, {row['bound_of_tol']:9.1e}{peer}"
    )


if __name__ == "__main__":
    main()
