"""Reading from a bucket through Zarr: obstore, which dkde uses, and s3fs.

A server of buckets (moto) runs in a process of its own on this machine, so what is measured is
the client's own work, and not a network. Both clients read the same chunks, all of an array at
once, with Zarr's own number of requests at a time; the order alternates from round to round.

    python benchmarks/stores.py
    python benchmarks/stores.py --chunks 2000x64KiB 200x4MiB --repeats 5
"""

import argparse
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import numpy as np
import zarr
from record import add_json_option, keep, new_record
from zarr.storage import FsspecStore, ObjectStore

URL = "s3://bucket/benchmark"
UNITS = {"KiB": 2**10, "MiB": 2**20}
# The credentials are the server's, which takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server with one empty bucket, in another process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen([sys.executable, "-c", serve], stderr=subprocess.DEVNULL)
    try:
        import boto3

        for _ in range(300):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        address = f"http://127.0.0.1:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
        yield address
    finally:
        process.terminate()
        process.wait()


def with_obstore(address: str) -> Any:
    from obstore.store import from_url

    return ObjectStore(from_url(URL))


def with_s3fs(address: str) -> Any:
    return FsspecStore.from_url(URL, storage_options={"endpoint_url": address})


CLIENTS: dict[str, Callable[[str], Any]] = {"obstore": with_obstore, "s3fs": with_s3fs}


def installed() -> list[str]:
    """Clients of the right kind: s3fs was without asyncio until 2021, which Zarr needs."""
    found = []
    for name in CLIENTS:
        with suppress(PackageNotFoundError):
            if name != "s3fs" or int(version(name).split(".")[0]) >= 2021:
                found.append(name)
    return found


def measure(n_chunks: int, chunk_bytes: int, repeats: int, address: str) -> dict[str, list[float]]:
    """Seconds that each client takes to read an array of so many chunks, of each round."""
    rows = np.random.default_rng(0).integers(0, 256, (n_chunks, chunk_bytes), np.uint8)
    name = f"{n_chunks}-{chunk_bytes}"
    array = zarr.create_array(
        with_obstore(address), name=name, shape=rows.shape, dtype=rows.dtype,
        chunks=(1, chunk_bytes), compressors=None,
    )  # fmt: skip
    array[:] = rows
    clients = installed()
    opened = {
        client: zarr.open_array(CLIENTS[client](address), path=name, mode="r") for client in clients
    }
    for client in clients:
        if not np.array_equal(opened[client][:3], rows[:3]):
            raise SystemExit(f"{client} reads otherwise")
    seconds: dict[str, list[float]] = {client: [] for client in clients}
    for turn in range(repeats):
        for client in clients[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            opened[client][:]
            seconds[client].append(time.perf_counter() - start)
    return seconds


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows, of each kind of chunks and client."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunks", nargs="+", default=["2000x64KiB", "200x4MiB"], metavar="NxSIZE")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    os.environ.update(KEYS)
    names = ["zarr", "obstore", "s3fs", "moto", "aiobotocore"]
    for name in names:
        with suppress(PackageNotFoundError):
            print(f"{name} {version(name)}", end=", ")
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors")
    print(f"{zarr.config.get('async.concurrency')} requests at a time, median of {options.repeats}")
    figures: list[dict[str, Any]] = []
    with serving() as address:
        os.environ.update(AWS_ENDPOINT_URL=address, AWS_ALLOW_HTTP="true", AWS_REGION="us-east-1")
        for chunks in options.chunks:
            n_chunks, _, size = chunks.partition("x")
            chunk_bytes = int(size[:-3]) * UNITS[size[-3:]]
            seconds = measure(int(n_chunks), chunk_bytes, options.repeats, address)
            for client, times in seconds.items():
                middle = median(times)
                figures.append({
                    "chunks": int(n_chunks), "chunk_bytes": chunk_bytes, "client": client,
                    "seconds": middle, "times": times,
                })  # fmt: skip
                rate = int(n_chunks) * chunk_bytes / 2**20 / middle
                print(
                    f"{chunks:>12} {client:8} {middle:7.2f} s ({min(times):.2f} to "
                    f"{max(times):.2f}), {1e3 * middle / int(n_chunks):6.2f} ms a chunk, "
                    f"{rate:6.0f} MiB/s"
                )
            if len(seconds) == 2:
                ratio = median(seconds["s3fs"]) / median(seconds["obstore"])
                print(f"{chunks:>12} s3fs / obstore {ratio:.2f}")
    keep(new_record("stores", options, figures, names), options.json)
    return figures


if __name__ == "__main__":
    main()
