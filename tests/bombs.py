"""Small files that unpack to very much, one for each way in which a format can say so."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# What a bomb unpacks to, and what its files may take.
HUGE, SMALL = 3_300_000_000, 4 * 2**20
_PIECE = 2**24

Maker = Callable[[Path], Path]


def deflated(head: bytes, n_bytes: int, tail: bytes = b"", piece: bytes = b"") -> bytes:
    """A DEFLATE stream of a head, a piece repeated up to n bytes, and a tail, made in no time."""
    piece = piece or bytes(_PIECE)
    packer = zlib.compressobj(9, wbits=-15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush equal pieces are packed as equal bytes.
    again = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (n_bytes // len(piece)) + packer.compress(tail) + packer.flush()


def gzipped(file: Path, head: bytes, n_bytes: int, tail: bytes = b"", piece: bytes = b"") -> Path:
    """Write a gzip file; its checksum is wrong, which is seen after all is unpacked."""
    start = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    file.write_bytes(start + deflated(head, n_bytes, tail, piece) + bytes(8))
    return file


def _npy(shape: tuple[int, ...], dtype: str = "|u1", order: bool = False) -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _npz(members: dict[str, tuple[bytes, int]]) -> Maker:
    """A zip file whose members are a head and zeros; their checksums are wrong."""

    def make(folder: Path) -> Path:
        body, listing = b"", b""
        for name, (head, size) in members.items():
            data = deflated(head, size - size % _PIECE, bytes(size % _PIECE))
            whole = f"{name}.npy".encode()
            sizes = struct.pack("<III", 0, len(data), len(head) + size)
            common = (
                struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + struct.pack("<HH", len(whole), 0)
            )
            listing += (
                b"PK\1\2\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + whole
            )
            body += b"PK\3\4" + common + whole + data
        end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(listing), len(body), 0)
        (folder / "x.npz").write_bytes(body + listing + b"PK\5\6" + end)
        return folder / "x.npz"

    return make


def npz(size: int = HUGE) -> Maker:
    return _npz({"x": (_npy((size // 1000, 1000)), size // 1000 * 1000)})


def npz_by_columns(size: int = HUGE) -> Maker:
    return _npz({"x": (_npy((size // 1000, 1000), order=True), size // 1000 * 1000)})


def npz_labels(size: int = HUGE) -> Maker:
    return _npz({"x": (_npy((4, 4)), 16), "x_label": (_npy((size,)), size)})


def idx(size: int = HUGE) -> Maker:
    head = struct.pack(">BBBBII", 0, 0, 8, 2, size // _PIECE * 16, _PIECE // 16)
    return lambda folder: gzipped(folder / "x-idx2-ubyte.gz", head, size)


def idx_labels(size: int = HUGE) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "f").mkdir()
        n = size // _PIECE * _PIECE
        (folder / "f/train-images-idx3-ubyte").write_bytes(
            struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 1, 1) + bytes(4)
        )
        head = struct.pack(">BBBBI", 0, 0, 8, 1, n)
        gzipped(folder / "f/train-labels-idx1-ubyte.gz", head, n)
        return folder / "f"

    return make


def _pickled(n: int) -> tuple[bytes, bytes]:
    """A pickle of three pairs of which the first holds n bytes, before and after these."""
    rows = np.zeros((1, 1), np.uint8)
    whole = pickle.dumps(((rows, [0]), (rows, [0]), (rows, [0])), 4)
    # The first array's shape and content.
    at = whole.index(b"K\x01K\x01\x86")
    whole = whole[:at] + b"J" + struct.pack("<i", n // 1000) + b"M\xe8\x03\x86" + whole[at + 5 :]
    at = whole.index(b"C\x01\x00", at)
    return whole[:at] + b"\x8e" + struct.pack("<Q", n), whole[at + 3 :]


def mnist(size: int = HUGE) -> Maker:
    n = size // (1000 * 2**14) * (1000 * 2**14)
    head, tail = _pickled(n)
    # Without frames, whose lengths would be others.
    return lambda folder: gzipped(folder / "x.pkl.gz", head, n, tail, bytes(1000 * 2**14))


def cifar(size: int = HUGE) -> Maker:
    n = size // (3072 * 2**12) * (3072 * 2**12)

    def make(folder: Path) -> Path:
        data = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 1]}, 2)
        head = io.BytesIO()
        with tarfile.open(fileobj=head, mode="w") as archive:
            info = tarfile.TarInfo("cifar/test")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("cifar/train")
        inner = b"\x80\x04}\x8c\x04data\x8e" + struct.pack("<Q", n)
        info.size = len(inner) + n + 2
        start = head.getvalue()[: 512 + -(-len(data) // 512) * 512] + info.tobuf() + inner
        padding = -(len(inner) + n + 2) % 512
        tail = b"s." + bytes(padding) + bytes(1024)
        return gzipped(folder / "c.tar.gz", start, n, tail, bytes(3072 * 2**12))

    return make


def commas(n: int = 65_000, rows: int = 1) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "x.csv").write_bytes((b"," * n + b"\n") * rows)
        return folder / "x.csv"

    return make


def wide_csv(n: int = 400_000, more: bytes = b"1\n") -> Maker:
    def make(folder: Path) -> Path:
        (folder / "x.csv").write_bytes(b"a" + b",1" * n + b"\n1" + b",2" * n + b"\n" + more)
        return folder / "x.csv"

    return make


def csv_zeros(size: int = HUGE) -> Maker:
    return lambda folder: gzipped(folder / "x.csv.gz", b"a,b\n", size, piece=b"0,0\n" * 2**22)


def csv_one_line(size: int = HUGE) -> Maker:
    return lambda folder: gzipped(folder / "x.csv.gz", b"a,b\n0,", size, piece=b"0" * 2**24)


def csv_first_line(size: int = HUGE) -> Maker:
    return lambda folder: gzipped(folder / "x.csv.gz", b"a", size, piece=b"," * 2**24)


def _png(width: int, height: int, colour: int, more: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    bands = {0: 1, 2: 3}[colour]
    packer, row = zlib.compressobj(9), bytes(1 + width * bands)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )  # fmt: skip


def png(side: int = 13_000, colour: int = 2, n: int = 4) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "f").mkdir()
        content = _png(side, side, colour)
        for i in range(n):
            (folder / f"f/{i}.png").write_bytes(content)
        return folder / "f"

    return make


def jpeg(side: int = 13_000) -> Maker:
    def make(folder: Path) -> Path:
        from PIL import Image

        (folder / "f").mkdir()
        Image.new("L", (side, side)).save(folder / "f/0.jpg", quality=1)
        return folder / "f"

    return make


# ---- Zarr ----


def zarr_3(
    codecs: list[Any], chunk: bytes, shape: Any, chunks: Any = None, kind: str = "uint8"
) -> Maker:
    """A store of one array of version 3, whose first chunk is given."""

    def make(folder: Path) -> Path:
        root = folder / "x.zarr"
        (root / "v/c/0").mkdir(parents=True)
        array = {
            "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": kind,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks or shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0 if kind != "string" else "", "codecs": codecs, "attributes": {},
            "dimension_names": ["row", "column"],
        }  # fmt: skip
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        (root / "zarr.json").write_text(json.dumps(group))
        (root / "v/zarr.json").write_text(json.dumps(array))
        (root / "v/c/0/0").write_bytes(chunk)
        return root

    return make


def zarr_2(compressor: Any, filters: Any, chunk: bytes, shape: Any, dtype: Any = "|u1") -> Maker:
    """A store of one array of version 2, whose only chunk is given."""

    def make(folder: Path) -> Path:
        root = folder / "x.zarr"
        (root / "v").mkdir(parents=True)
        array = {
            "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "fill_value": 0,
            "order": "C", "compressor": compressor, "filters": filters,
        }  # fmt: skip
        (root / ".zgroup").write_text('{"zarr_format": 2}')
        (root / "v/.zarray").write_text(json.dumps(array))
        (root / "v/.zattrs").write_text('{"_ARRAY_DIMENSIONS": ["row", "column"]}')
        (root / "v/0.0").write_bytes(chunk)
        return root

    return make


def lzma_zeros(size: int) -> bytes:
    return lzma.compress(bytes(_PIECE), preset=1) * (size // _PIECE)


def bz2_zeros(size: int) -> bytes:
    return bz2.compress(bytes(_PIECE)) * (size // _PIECE)


def gzip_zeros(size: int) -> bytes:
    return gzip.compress(bytes(_PIECE), 9, mtime=0) * (size // _PIECE)


def zlib_zeros(size: int) -> bytes:
    return b"\x78\xda" + deflated(b"", size) + bytes(4)


def _packed(codec: Any, size: int = 2**31 - 2**10) -> bytes:
    """Zeros as a codec of numcodecs packs them: about two gigabytes, the most that some take."""
    return bytes(codec.encode(np.zeros(size, np.uint8)))


BYTES: dict[str, Any] = {"name": "bytes"}
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
BLOSC = {
    "name": "blosc",
    "configuration": {
        "typesize": 1, "cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0
    },
}  # fmt: skip
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def _shard(
    inner: bytes, n: int, shape: Any, chunks: Any, more: int = 0, is_checked: bool = True
) -> Maker:
    """A shard whose index names the same chunk again and again, and more bytes than are there."""
    import google_crc32c

    index = np.array([[0, len(inner) + more]] * n, "<u8").tobytes()
    if is_checked:
        index += struct.pack("<I", google_crc32c.value(index))
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": chunks, "codecs": [BYTES, ZSTD],
            "index_codecs": [_LITTLE, {"name": "crc32c"}][: 1 + is_checked],
            "index_location": "end",
        },
    }  # fmt: skip
    return zarr_3([sharding], inner + index, shape)


def _gzip_in_gzip() -> bytes:
    return gzip.compress(gzip_zeros(HUGE))


def hdf5_twice(folder: Path) -> Path:
    """A chunk that is packed twice, so that its packed bytes are few and become few at first."""
    import h5py

    with h5py.File(folder / "x.nc", "w") as file:
        filters = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        filters.set_chunk((64, 64))
        filters.set_deflate(5)
        filters.set_deflate(5)
        space = h5py.h5s.create_simple((64, 64))
        made = h5py.h5d.create(file.id, b"v", h5py.h5t.STD_U8LE, space, dcpl=filters)
        made.write_direct_chunk((0, 0), zlib.compress(zlib_zeros(HUGE)))
    return folder / "x.nc"


def _hdf5(shape: Any, chunk: bytes) -> Maker:
    def make(folder: Path) -> Path:
        import h5py

        with h5py.File(folder / "x.nc", "w") as file:
            options = {"chunks": tuple(shape), "compression": "gzip"} if chunk else {}
            found = file.create_dataset("v", tuple(shape), "u1", **options)
            if chunk:
                found.id.write_direct_chunk((0, 0), chunk)
        return folder / "x.nc"

    return make


def parquet_list(folder: Path) -> Path:
    """Two lists of very many equal numbers, which a dictionary holds once."""
    import pyarrow as pa
    from pyarrow import parquet

    values = np.zeros(2**24, np.float32)
    lists = pa.ListArray.from_arrays(np.array([0, 2**23, 2**24], np.int32), values)
    parquet.write_table(pa.table({"v": lists}), folder / "x.parquet", compression="zstd")
    return folder / "x.parquet"


def zarr_metadata(folder: Path) -> Path:
    """Metadata of empty lists in lists."""
    root = zarr_3([BYTES], bytes(8), [2, 4])(folder)
    text = (root / "v/zarr.json").read_text()
    lists = ",".join(["[]"] * 10_000_000)
    (root / "v/zarr.json").write_text(text[:-1] + f', "extra": [{lists}]}}')
    return root


_SMALL = [2, 4]


def _of_zarr() -> dict[str, Callable[[], Maker]]:
    import numcodecs

    wide = [2, 2**30 - 2**9]
    return {
        "zstd": lambda: zarr_3([BYTES, ZSTD], _packed(numcodecs.Zstd(3)), wide),
        "zstd, longer than declared": lambda: zarr_3(
            [BYTES, ZSTD], _packed(numcodecs.Zstd(3)), _SMALL
        ),
        "blosc": lambda: zarr_3([BYTES, BLOSC], _packed(numcodecs.Blosc()), _SMALL),
        "lz4": lambda: zarr_3(
            [BYTES, {"name": "numcodecs.lz4", "configuration": {}}],
            _packed(numcodecs.LZ4(), 2**30), _SMALL,
        ),
        "gzip": lambda: zarr_3([BYTES, {"name": "gzip", "configuration": {"level": 5}}],
                               gzip_zeros(HUGE), _SMALL),
        "lzma": lambda: zarr_3([BYTES, {"name": "numcodecs.lzma", "configuration": {}}],
                               lzma_zeros(HUGE), _SMALL),
        "bz2": lambda: zarr_3([BYTES, {"name": "numcodecs.bz2", "configuration": {}}],
                              bz2_zeros(HUGE), _SMALL),
        "v2, zlib": lambda: zarr_2({"id": "zlib", "level": 1}, None, zlib_zeros(HUGE), _SMALL),
        "v2, gzip in gzip": lambda: zarr_2(
            {"id": "gzip", "level": 1}, [{"id": "gzip", "level": 1}], _gzip_in_gzip(), _SMALL
        ),
        "v2, text": lambda: zarr_2(
            None, [{"id": "vlen-utf8"}], struct.pack("<I", 2**31 - 1) + bytes(100), _SMALL, "|O"
        ),
        "v3, text": lambda: zarr_3(
            [{"name": "vlen-utf8"}], struct.pack("<I", 2**31 - 1) + bytes(100), _SMALL,
            kind="string",
        ),
        "v2, differences of differences": lambda: zarr_2(
            None, [{"id": "delta", "dtype": "<f8", "astype": "|i1"}] * 7, bytes(1000), _SMALL
        ),
        "v2, numbers as long text": lambda: zarr_2(
            None,
            [{"id": "fixedscaleoffset", "dtype": "<U4000", "astype": "|i1", "scale": 1,
              "offset": 0}],
            bytes(200_000), _SMALL,
        ),
        "shard without a checksum": lambda: _shard(
            _packed(numcodecs.Zstd(3)), 1, _SMALL, _SMALL, is_checked=False
        ),
        "shard, past its end": lambda: _shard(
            _packed(numcodecs.Zstd(3)), 2, _SMALL, [1, 4], more=2**40
        ),
        "chunk in a shard": lambda: _shard(_packed(numcodecs.Zstd(3)), 2, _SMALL, [1, 4]),
        "one chunk many times in a shard": lambda: _shard(
            _packed(numcodecs.Zstd(3), 2**24), 256, [256, 2**24], [1, 2**24]
        ),
        "metadata": lambda: zarr_metadata,
    }  # fmt: skip


# What is read as a file, as the variable v of a store, and as an array of Zarr.
FILES: dict[str, Callable[[], Maker]] = {
    "npz": npz, "npz by columns": npz_by_columns, "npz, labels": npz_labels, "idx": idx,
    "idx, labels": idx_labels, "mnist": mnist, "cifar": cifar, "csv, commas": commas,
    "csv, columns": wide_csv, "csv, zeros": csv_zeros, "csv, a cell": csv_one_line,
    "csv, first line": csv_first_line, "png": png, "png, grey": lambda: png(13_000, 0, 1),
    "many flat pngs": lambda: png(2_000, 2, 400), "jpeg": jpeg,
    "parquet, lists": lambda: parquet_list,
}  # fmt: skip
VARIABLES: dict[str, Callable[[], Maker]] = {
    "hdf5, longer than declared": lambda: _hdf5([64, 64], zlib_zeros(HUGE)),
    "hdf5, a wide row": lambda: _hdf5([4, 10**9], b""),
    "hdf5, a chunk": lambda: _hdf5([2**21, 1000], zlib_zeros(2**21 * 1000)),
    "hdf5, packed twice": lambda: hdf5_twice,
    "zarr, a wide row": lambda: zarr_3([BYTES], b"", [2, 10**10], [1, 100]),
}
ARRAYS = _of_zarr()
