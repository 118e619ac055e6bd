"""What each benchmark keeps beside its table: the figures, and what they were taken on."""

import argparse
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import dkde
from dkde.numerics.machine import chosen_kernels, older_kernels, processor
from dkde.workers.cluster import n_processors

PACKAGES = ("dkde", "numpy", "scipy", "numba", "zarr", "dask", "xarray")
_ROOT = Path(__file__).resolve().parents[1]


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the figures as JSON too, with machine, versions and commit; or write them to "
        "FILE",
    )


def new_record(
    benchmark: str, options: argparse.Namespace, figures: Any, packages: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what is kept of one run.

    Parameters
    ----------
    benchmark : str
        The script's name.
    options : argparse.Namespace
        What it was asked for.
    figures : Any
        What it measured, ready for JSON.
    packages : sequence of str
        Packages whose versions matter besides those of `PACKAGES`.
    """
    return {
        "benchmark": benchmark,
        "arguments": {k: v for k, v in vars(options).items() if k != "json"},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(*packages),
        "commit": commit(),
        "blas": [asdict(kernels) for kernels in chosen_kernels()],
        "slow_blas": older_kernels(),
        "figures": figures,
    }


def keep(record: dict[str, Any], place: str | None) -> None:
    """Print a record, or write it to a file, as the option says."""
    if place is None:
        return
    text = json.dumps(_finite(record), indent=1)
    if place == "-":
        print(text)
    else:
        dkde.write_whole(place, f"{text}\n".encode())


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "compiled_for": processor(),
        "cores": n_processors(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*packages: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in dict.fromkeys((*PACKAGES, *packages)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if found["dkde"] == "not installed":  # run from a checkout
        found["dkde"] = "checkout"
    return found


def commit() -> dict[str, Any] | None:
    """Return the checkout's commit, and whether tracked files differ; None without Git."""
    try:
        number = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no") != ""
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"number": number, "changed": changed}


def in_words(record: dict[str, Any]) -> str:
    """Return machine and versions as two lines, for people."""
    on, libraries = record["machine"], record["blas"]
    blas = {f"{b['library']} {b['version']} {b['architecture']}".strip() for b in libraries}
    parts = (
        f"processor {on['processor']}",
        f"cores {on['cores']}",
        f"memory {on['memory_bytes'] / 2**30:.0f} GiB",
        f"system {on['system']}",
        f"BLAS {', '.join(sorted(blas)) or 'unknown'}",
    )
    names = (f"{name} {number}" for name, number in record["versions"].items())
    return ", ".join(parts) + "\n" + ", ".join(names)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no word for: infinities and NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
