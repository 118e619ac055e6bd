"""How much a chunk of a Zarr array would unpack to, before it is decoded.

The metadata say what a chunk is to become, and the codecs' own headers what it would become.
Streams without such a header are unpacked piece by piece and counted; nothing of them is kept.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from dkde.errors import DataSetError
from dkde.stores.child import TrialError, try_decoding
from dkde.stores.limits import allowed, check_unpacked, limit, size_text, too_large

# Codecs that keep the size, or nearly so, and those that multiply it by a known number at most.
_FACTORS = {
    **dict.fromkeys(
        ("adler32", "base64", "bitround", "bytes", "crc32", "crc32c", "delta", "endian",
         "fletcher32", "jenkins_lookup3", "shuffle", "transpose", "scale_offset"), 1,
    ),
    "astype": 8, "cast_value": 16, "fixedscaleoffset": 8, "packbits": 8, "quantize": 8,
}  # fmt: skip
# The options that name the type of what is decoded, and of what it becomes.
_NARROW, _WIDE = ("astype", "encode_dtype"), ("dtype", "decode_dtype")
# The most times that a stream can become as long, for those whose length no header states.
DEFLATE_RATIO = 1032
_RATIOS = {"gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO, "bz2": 2**16, "lzma": 2**14}
# The types of version 3 by their bits, and those of version 2 by their bytes or letters.
_BITS = re.compile(r"(?:u?int|b?float|complex|r|numpy\.datetime|numpy\.timedelta)(\d+)")
_LENGTH = re.compile(r"[<>|=]?([a-zA-Z?])(\d*)")
_STREAMS: Mapping[str, Any] = {
    "gzip": partial(zlib.decompressobj, wbits=31), "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor, "lzma": lzma.LZMADecompressor,
}  # fmt: skip
# Codecs of version 3 as those of numcodecs that decode the same; none for those that keep the size.
_PLAIN: Mapping[str, Mapping[str, Any]] = {
    **{name: {"id": name} for name in ("blosc", "gzip", "zstd")},
    "crc32c": {"id": "crc32c", "location": "end"},
    **{name: {} for name in ("bytes", "endian", "transpose", "scale_offset", "cast_value")},
}
_PIECE, _MOST_STREAMS = 2**18, 1000


@dataclass(frozen=True)
class ChunkLayout:
    """The size that a chunk of an array is to have, and the codecs that lead there.

    Parameters
    ----------
    n_bytes : int
        The bytes of its values; 0 where these are texts or bytes of any length.
    codecs : tuple of mapping
        The configurations of its codecs as numcodecs has them, in the order of decoding.
    inner : ChunkLayout, optional
        That of the chunks in it, if it is a shard.
    n_inner : int
        The number of these.
    index_at_end : bool
        Whether their places stand at the shard's end.
    index_checked : bool
        Whether a checksum follows them.
    """

    n_bytes: int
    codecs: tuple[Mapping[str, Any], ...]
    inner: ChunkLayout | None = None
    n_inner: int = 0
    index_at_end: bool = True
    index_checked: bool = True

    @property
    def index_bytes(self) -> int:
        """Return the bytes of the index of a shard, with its checksum if it has one."""
        return 16 * self.n_inner + 4 * self.index_checked


def layout_of(fields: Mapping[str, Any]) -> ChunkLayout | None:
    """Return the layout of an array's chunks by its metadata; None if these are of no array.

    Metadata that are not as Zarr has them raise any exception of Python.
    """
    if "chunk_grid" in fields:
        shape = fields["chunk_grid"]["configuration"]["chunk_shape"]
        return _layout_3(shape, item_bytes(fields["data_type"]), fields["codecs"])
    if "chunks" not in fields:
        return None
    filters = fields.get("filters") or []
    codecs = [fields.get("compressor"), *reversed(filters)]
    n_bytes = prod(fields["chunks"]) * item_bytes(fields["dtype"])
    return ChunkLayout(n_bytes, tuple(codec for codec in codecs if codec is not None))


def _layout_3(shape: list[int], size: int, codecs: list[Any]) -> ChunkLayout:
    found: list[Mapping[str, Any]] = []
    for codec in reversed(codecs):
        name = codec if isinstance(codec, str) else codec["name"]
        options = {} if isinstance(codec, str) else codec.get("configuration") or {}
        if name == "sharding_indexed":
            inner = options["chunk_shape"]
            n = prod(a // b for a, b in zip(shape, inner, strict=True))
            is_last = options.get("index_location", "end") == "end"
            within = _layout_3(inner, size, options["codecs"])
            is_checked = _is_checked(options.get("index_codecs"))
            return ChunkLayout(prod(shape) * size, tuple(found), within, n, is_last, is_checked)
        found.append({**options, "id": name.removeprefix("numcodecs.")})
    return ChunkLayout(prod(shape) * size, tuple(found))


def _is_checked(codecs: Any) -> bool:
    """Return whether a checksum follows the index of a shard, which is to be read as it is.

    Raises
    ------
    ValueError
        When the index is stored in another way, by which chunks could not be found.
    """
    names = []
    for codec in ["bytes", "crc32c"] if codecs is None else codecs:
        options = {} if isinstance(codec, str) else codec.get("configuration") or {}
        if options.get("endian", "little") != "little":
            raise ValueError("the index of its shards is not little-endian")
        names.append(codec if isinstance(codec, str) else codec["name"])
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise ValueError(f"the index of its shards is packed by {', '.join(map(str, names))}")
    return len(names) > 1


def item_bytes(kind: Any) -> int:
    """Return the bytes of a value by its type in metadata; 0 for those of any length."""
    if isinstance(kind, Mapping):
        options = kind.get("configuration") or {}
        if "fields" in options:
            kinds = (f["data_type"] if isinstance(f, Mapping) else f[-1] for f in options["fields"])
            return sum(map(item_bytes, kinds))
        length = options.get("length_bytes")
        return item_bytes(kind["name"]) if length is None else int(length)
    if isinstance(kind, list):  # the fields of version 2, some of which are arrays
        return sum(item_bytes(each[1]) * prod(each[2] if len(each) > 2 else []) for each in kind)
    if kind == "bool":
        return 1
    if found := _BITS.fullmatch(kind):
        return -(-int(found[1]) // 8)
    found = _LENGTH.match(kind)
    return 0 if found is None else int(found[2] or 0) * (4 if found[1] == "U" else 1)


def check_chunk(
    where: str, key: str, layout: ChunkLayout, data: memoryview, start: int | None
) -> None:
    """Refuse a chunk, or a part of a shard, that would unpack to far more than is stored.

    Parameters
    ----------
    where, key : str
        The store, and the key in it, for messages.
    layout : ChunkLayout
        The layout of the array's chunks.
    data : memoryview
        The bytes that are stored.
    start : int or None
        The first of the bytes of the chunk that these are; None if they are all of it.

    Raises
    ------
    DataSetError
    """
    if layout.inner is None:
        if start is None:  # a part of a chunk is not decoded
            _check(f"{where}/{key}", layout, data)
    elif start is not None:
        is_index = start < 0 if layout.index_at_end else (start, len(data)) == (
            0, layout.index_bytes
        )  # fmt: skip
        if not is_index:
            check_chunk(where, key, layout.inner, data, None)
    else:
        _check_packing(f"{where}/{key}", layout, data)
        check_unpacked(f"{where}/{key}", "the shard", layout.n_bytes, len(data))
        for part in _parts(layout, data):
            check_chunk(where, key, layout.inner, part, None)


def _parts(layout: ChunkLayout, data: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of the chunks of a shard, those at one place once."""
    size = layout.index_bytes
    if len(data) < size:
        return  # Zarr reports it
    at = len(data) - size if layout.index_at_end else 0
    index = np.frombuffer(data[at : at + 16 * layout.n_inner], "<u8").reshape(-1, 2)
    for offset, length in np.unique(index, axis=0).tolist():
        if offset < len(data):  # as Zarr does, up to the end of what is there
            yield data[offset : offset + length]


def _check_packing(where: str, layout: ChunkLayout, data: memoryview) -> None:
    """Refuse a shard that is packed as a whole: what is in it could not be checked."""
    if any(codec["id"] != "crc32c" for codec in layout.codecs):
        raise DataSetError(
            f"{where}: is a shard that is packed as a whole; write the array again with codecs for "
            "the chunks within shards alone"
        )


def _check(where: str, layout: ChunkLayout, data: memoryview) -> None:
    """Check a chunk codec by codec, as long as it is known what the next one gets."""
    n_stored, size, known = len(data), len(data), True
    most = allowed(n_stored)
    for codec in layout.codecs:
        name = str(codec.get("id"))
        if name in _FACTORS:
            size *= _factor(name, codec)
        else:
            # Only the outermost packing has its header at hand.
            found = unpacked_bytes(name, data, most) if known else None
            if found is None:
                _try(where, layout, data, most)
                return
            size, known = found, False
        # Of headers alone, what they say is compared with the metadata's word, too.
        if size > most:
            raise too_large(where, f"it would unpack to {size_text(size)} or more", n_stored)
    if not known:
        check_unpacked(where, "it", layout.n_bytes, n_stored)


def _factor(name: str, codec: Mapping[str, Any]) -> int:
    """Return how many times as long a codec of a known factor makes what it decodes."""
    try:
        wide, narrow = (
            [np.dtype(codec[key]).itemsize for key in keys if codec.get(key) is not None]
            for keys in (_WIDE, _NARROW)
        )
    except (TypeError, ValueError, SyntaxError):
        return _FACTORS[name]  # no codec can be made of it
    # Without a type of its own, what is stored is of the type of the values.
    return max(_FACTORS[name], -(-max(wide, default=1) // max(1, min(narrow or wide, default=1))))


def _try(where: str, layout: ChunkLayout, data: memoryview, most: int) -> None:
    """Refuse a chunk that a child process cannot decode in the memory that it may take."""
    codecs = [dict(_PLAIN.get(codec["id"], codec)) for codec in layout.codecs]
    try:
        try_decoding([codec for codec in codecs if codec], bytes(data), most)
    except TrialError as error:
        if not error.is_memory:
            raise DataSetError(f"{where}: cannot be decoded ({error}); it is damaged") from None
        what = f"it could not be unpacked in {size_text(most)} of memory"
        raise too_large(where, what, len(data)) from None


def unpacked_bytes(name: str, data: memoryview, most: int) -> int | None:
    """Return the bytes that packed ones become, more than ``most`` if more; None if unknown."""
    if name == "zstd":
        return content_size(bytes(data[:18]))
    if name == "blosc":
        return int.from_bytes(data[4:8], "little") if len(data) >= 16 else 0
    if name == "lz4":
        return int.from_bytes(data[:4], "little")
    if name not in _RATIOS:
        return None
    # A short one needs no look: it cannot become too long.
    longest = len(data) * _RATIOS[name]
    return longest if longest <= limit() else _streamed(name, data, most)


def _streamed(name: str, data: memoryview, most: int) -> int:
    """Return the bytes that a stream unpacks to, at least; streams may follow each other."""
    size = at = 0
    for _ in range(_MOST_STREAMS):
        stream: Any = _STREAMS[name]()
        try:
            while not stream.eof and at < len(data):
                piece = data[at : at + _PIECE]
                at += len(piece)
                size += _count(stream, piece, most - size)
                if size > most:
                    return size
        except (zlib.error, OSError, lzma.LZMAError, EOFError):
            return size  # the decoder reports what is damaged
        at -= len(stream.unused_data)
        if at >= len(data):
            return size
    return most + 1  # no writer makes so many


def _count(stream: Any, piece: memoryview, most: int) -> int:
    """Return the bytes that a piece of a stream unpacks to; little more than ``most`` if more."""
    size, left = 0, bytes(piece)
    while size <= most and not stream.eof:
        found = stream.decompress(left, _PIECE)
        size += len(found)
        # zlib hands back what it has not looked at; the others keep it.
        left = getattr(stream, "unconsumed_tail", b"")
        if not left and (len(found) < _PIECE or getattr(stream, "needs_input", False)):
            break
    return size


def content_size(head: bytes) -> int | None:
    """Return the unpacked size that a Zstandard frame states (RFC 8878, 3.1.1.1), if any."""
    # Four bytes of magic number, and a byte that describes the fields of the header.
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    has_window = not head[4] & 0x20
    size = (1, 2, 4, 8)[head[4] >> 6]
    if size == 1 and has_window:
        return None
    # The fields of the window and of the dictionary's number come before the size.
    at = 5 + has_window + (0, 1, 2, 4)[head[4] & 3]
    # A size of two bytes is stored less 256, as smaller ones take one byte.
    return int.from_bytes(head[at : at + size], "little") + (256 if size == 2 else 0)
