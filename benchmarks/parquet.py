"""Rows read from Parquet files, beside the same rows from Zarr: seconds and memory.

Rows in random order are written in each form, and scored from each in a process of its own, in
turn. Nothing says where the rows of a chunk lie, so all are read, as from Parquet.

    python benchmarks/parquet.py
    python benchmarks/parquet.py --rows 50000000 --files 20 2000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr
from plans import status_bytes
from record import add_json_option, keep, new_record

import dkde
from dkde.workers.cluster import warm_up

PIECE, CHUNK = 2**20, 2**17


def pieces(n_rows: int, n_features: int) -> Iterator[Any]:
    """Yield the rows, piece by piece; the same ones each time."""
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, PIECE):
        yield rng.standard_normal((min(PIECE, n_rows - start), n_features), dtype=np.float32)


def write_zarr(path: Path, n_rows: int, n_features: int) -> None:
    array = zarr.create_array(
        str(path), shape=(n_rows, n_features), chunks=(min(n_rows, CHUNK), n_features), dtype="f4"
    )
    at = 0
    for piece in pieces(n_rows, n_features):
        array[at : at + len(piece)] = piece
        at += len(piece)


def write_parquet(path: Path, n_rows: int, n_features: int, n_files: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path.mkdir()
    names = [f"x{k}" for k in range(n_features)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    ends = [n_rows * (k + 1) // n_files for k in range(n_files)]
    at, writer = 0, None
    for piece in pieces(n_rows, n_features):
        table = pa.table([np.ascontiguousarray(column) for column in piece.T], schema)
        while len(table):
            if writer is None:
                name = path / f"part-{n_files - len(ends):05d}.parquet"
                writer = parquet.ParquetWriter(name, schema)
            kept = table.slice(0, ends[0] - at)
            writer.write_table(kept)
            table, at = table.slice(len(kept)), at + len(kept)
            if at == ends[0]:
                writer.close()
                writer = None
                ends.pop(0)


def measure(query: Path, train: Path, bandwidth: float) -> dict[str, Any]:
    """Score in this process; return seconds, peak bytes and planned bytes."""
    warnings.simplefilter("ignore")
    dkde.score(str(query), str(query), bandwidth)
    warm_up()
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start, cpu = time.perf_counter(), time.process_time()
    scored = dkde.score(str(query), str(train), bandwidth)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    taken = status_bytes("VmHWM") - before
    cost = dkde.plan(query=str(query), train=str(train), bandwidths=[bandwidth], baseline=False)
    planned = cost["block_bytes"] * cost["threads"] + cost["resident_bytes"] + cost["answer_bytes"]
    return {
        "seconds": seconds, "cpu": cpu, "taken": taken, "planned": planned,
        "sum": float(scored.log_density.sum()),
    }  # fmt: skip


def in_own_process(query: Path, train: Path, bandwidth: float) -> dict[str, Any]:
    call = [sys.executable, __file__, "--score", query, train, "--bandwidth", str(bandwidth)]
    done = subprocess.run([*map(str, call)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows, one for each form."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--files", type=int, nargs="+", default=[4, 400])
    parser.add_argument("--bandwidth", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where rows are written for a while")
    parser.add_argument("--score", nargs=2, help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    if options.score:
        query, train = map(Path, options.score)
        print(json.dumps(measure(query, train, options.bandwidth)))
        return []
    size = options.rows, options.features
    print(f"{options.rows} x {options.features}, {options.queries} query rows, "
          f"{os.cpu_count()} processors, median of {options.repeats}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        query = Path(folder, "query.npy")
        rng = np.random.default_rng(1)
        np.save(query, rng.standard_normal((options.queries, options.features), dtype=np.float32))
        forms = {"Zarr": Path(folder, "rows.zarr")}
        write_zarr(forms["Zarr"], *size)
        for n_files in options.files:
            forms[f"Parquet, {n_files} files"] = path = Path(folder, f"rows{n_files}")
            write_parquet(path, *size, n_files)
        runs: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
        for _ in range(options.repeats):
            for form, path in forms.items():
                runs[form].append(in_own_process(query, path, options.bandwidth))
    figures: list[dict[str, Any]] = []
    print("| rows from | seconds | of Zarr's | CPU s | MB taken | MB planned |")
    print("|---|---:|---:|---:|---:|---:|")
    for form, found in runs.items():
        row: dict[str, Any] = {"form": form, "sum": found[0]["sum"], "runs": found}
        row |= {name: median(each[name] for each in found) for name in ("seconds", "cpu")}
        row |= {name: max(each[name] for each in found) for name in ("taken", "planned")}
        row["ratio"] = row["seconds"] / (figures[0] if figures else row)["seconds"]
        figures.append(row)
        print(f"| {form} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['cpu']:.2f} | "
              f"{row['taken'] / 1e6:.0f} | {row['planned'] / 1e6:.0f} |")  # fmt: skip
    keep(new_record("parquet", options, figures, ["pyarrow"]), options.json)
    return figures


if __name__ == "__main__":
    main()
