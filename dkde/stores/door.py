"""The door through which every Zarr array is opened: what decodes it is known to be harmless.

A store's metadata name the codecs that its chunks are decoded by, and some codecs run whatever a
chunk says. So metadata are looked at as they come from the store, before Zarr or xarray sees them:
it takes no request of its own, and what is looked at is what is used. Arrays that users opened go
through the door before anything of them is decoded.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from dkde.errors import DataSetError, scrubbed

# Each of these makes numbers or text of bytes and nothing else. What is not among them is refused,
# known to be dangerous (pickle) or not known.
_NUMBERS = {
    "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize",
    "shuffle", "zfpy", "zlib", "zstd",
}  # fmt: skip
_OBJECTS = {"categorize", "json2", "msgpack2", "vlen-array", "vlen-bytes", "vlen-utf8"}
# As Zarr v2 and v3 name them.
_CODECS_2 = frozenset({*_NUMBERS, *_OBJECTS, "base64"})
_CODECS_3 = frozenset({
    "blosc", "bytes", "cast_value", "crc32c", "endian", "gzip", "scale_offset", "sharding_indexed",
    "transpose", "vlen-bytes", "vlen-utf8", "zstd", *(f"numcodecs.{name}" for name in _NUMBERS),
})  # fmt: skip
_TYPE_2 = re.compile(r"[<>|=]?([biufcmMSUV]\d*(\[\w+\])?|O)")
_TYPE_3 = re.compile(
    r"bool|u?int(8|16|32|64)|b?float(16|32|64)|complex(64|128)|r\d+|string|bytes|raw_bytes"
    r"|(variable_length|null_terminated)_(bytes|utf8)|fixed_length_utf32|struct(ured)?"
    r"|numpy\.(datetime|timedelta)64"
)
_METADATA = ("zarr.json", ".zarray", ".zmetadata")
# The keys at which the read that is under way finds nothing. Zarr reads in another thread, to
# which it hands the context.
LACKING: ContextVar[set[str] | None] = ContextVar("dkde-absent-keys", default=None)
# NumPy makes arrays of lists in lists up to here.
_DEEPEST = 64


class CodecError(DataSetError):
    """An array that is not opened, as what decodes it is not known to be harmless."""


class Folder(LocalStore):
    """A folder whose metadata go through the door."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes at a key."""
        prototype = default_buffer_prototype() if prototype is None else prototype
        return passed(str(self.root), key, await super().get(key, prototype, byte_range))

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """Return the bytes at a key, synchronously."""
        return passed(str(self.root), key, super().get_sync(key, **options))


def passed(where: str, key: str, value: Buffer | None) -> Buffer | None:
    """Return the bytes at a key if they are allowed; a missing chunk is recorded.

    Raises
    ------
    CodecError
    """
    if value is None:
        note_absent(key)
    elif key.rpartition("/")[2] in _METADATA:
        check_metadata(where, key, value.to_bytes())
    return value


def is_chunk(key: str) -> bool:
    """Return whether a key is a chunk's: it ends in a number or, of a single value, in c."""
    return key[-1:].isdigit() or key.endswith("/c")


def note_absent(key: str) -> None:
    """Record that a store has nothing at a key, if the key is of a chunk being read."""
    keys = LACKING.get()
    if keys is not None and is_chunk(key):
        keys.add(key)


def check_metadata(where: str, key: str, content: bytes) -> None:
    """Refuse metadata that name a codec or a type which is not known to be harmless.

    Parameters
    ----------
    where : str
        The store, for messages.
    key : str
        Of the metadata in it.

    Raises
    ------
    CodecError
    """
    try:
        document = json.loads(content)
    except ValueError:
        return  # nor can Zarr read it, and says so
    except RecursionError:
        raise CodecError(
            f"{scrubbed(where)}/{key}: its metadata are nested too deeply to be read; they are "
            "damaged, or made to do harm"
        ) from None
    path, _, name = key.rpartition("/")
    if name not in _METADATA:
        return
    if name == ".zmetadata" and isinstance(document, dict):
        listed = document.get("metadata")
        entries = listed.items() if isinstance(listed, dict) else ()
        # Attributes may be called anything, dtype too.
        plain = {key: value for key, value in entries if key.rpartition("/")[2] != ".zattrs"}
        document = {"metadata": plain}
    for array, fields in _arrays(path, document):
        for fault in _faults(fields):
            place = f"{scrubbed(where)}/{array}".rstrip("/")
            raise CodecError(
                f"{place}: {fault}, which is not known to be harmless, as decoding may run any "
                "code; nothing was decoded: if you trust the store, write the array anew with "
                "another codec, such as zstd"
            )


def location(array: zarr.Array[Any]) -> str:
    """Return where an array lies, for messages: a path, or its store's address."""
    store = array.store
    if isinstance(store, LocalStore):
        return str(store.root / array.path)
    return scrubbed(str(array.store_path))


def check_opened(values: Any, depth: int = 0) -> None:
    """Refuse an array, or one within lists, if what decodes it is not known to be harmless.

    Whatever a user passes is looked at before NumPy makes an array of it, which decodes it.

    Parameters
    ----------
    values : anything
    depth : int
        In how many lists they are.

    Raises
    ------
    CodecError
    """
    if isinstance(values, zarr.Array):
        for key, content in values.metadata.to_buffer_dict(default_buffer_prototype()).items():
            check_metadata(location(values), key, content.to_bytes())
    elif isinstance(values, np.ndarray) and values.dtype == object:
        check_opened(values.ravel().tolist(), depth)
    elif depth < _DEEPEST and isinstance(values, list | tuple):
        for value in values:
            if isinstance(value, list | tuple | np.ndarray | zarr.Array):  # and not each number
                check_opened(value, depth + 1)


def absolute(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array itself, or, if its store is a relative path, the same opened by the whole path.

    It goes through the door first, as it was opened elsewhere.

    A relative path means another folder in a worker, or after a change of directory, and
    chunks that are not found there read as the fill value without a word.

    Parameters
    ----------
    array : zarr.Array

    Returns
    -------
    zarr.Array
        Read-only if it was opened again.

    Raises
    ------
    DataSetError
        If it is not there, seen from the working directory of now, or what decodes it is not
        known to be harmless.
    """
    check_opened(array)
    store = array.store
    if not isinstance(store, LocalStore) or store.root.is_absolute():
        return array
    root = store.root.absolute()
    try:
        return zarr.open_array(
            Folder(root, read_only=True),
            path=array.path,
            mode="r",
            zarr_format=array.metadata.zarr_format,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetError(
            f"{store.root / array.path}: was opened by a relative path, and no array is at "
            f"{root / array.path}; open it by its whole path"
        ) from error


def _arrays(path: str, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return array metadata by path, their own and consolidated."""
    if not isinstance(document, Mapping):
        return
    yield path, document
    consolidated = document.get("consolidated_metadata")
    for listed in (document.get("metadata"), consolidated):
        entries = listed.get("metadata", listed) if isinstance(listed, Mapping) else {}
        for name, entry in entries.items() if isinstance(entries, Mapping) else ():
            inner = f"{path}/{name.removesuffix('.zarray')}".strip("/")
            yield from _arrays(inner, entry)


def _faults(fields: Mapping[str, Any]) -> Iterator[str]:
    """Return the faults of an array's codecs and dtype, for any version it claims."""
    filters, compressor = fields.get("filters"), fields.get("compressor")
    codecs = [*(filters if isinstance(filters, list) else [filters]), compressor]
    names = [_name(codec, "id") for codec in codecs if codec is not None]
    unknown = [name for name in names if name not in _CODECS_2]
    unknown += [
        name for codec in _nested(fields.get("codecs"))
        if (name := _name(codec, "name")) not in _CODECS_3
    ]  # fmt: skip
    yield from (f"its codec is {name!r}" for name in unknown)
    if "dtype" in fields:
        if not _is_plain(fields["dtype"]):
            yield f"its dtype is {fields['dtype']!r}"
        elif str(fields["dtype"]).endswith("O") and not _OBJECTS.intersection(names):
            yield "its values are Python objects, and none of its codecs makes text of them"
    if "data_type" in fields and not _is_known(fields["data_type"]):
        yield f"its data type is {fields['data_type']!r}"


def _name(codec: Any, key: str) -> str:
    return str(codec.get(key) if isinstance(codec, Mapping) else codec)


def _nested(codecs: Any) -> Iterator[Any]:
    """Codecs of Zarr v3, and those within them."""
    for codec in codecs if isinstance(codecs, list) else [] if codecs is None else [codecs]:
        yield codec
        configuration = codec.get("configuration") if isinstance(codec, Mapping) else None
        if isinstance(configuration, Mapping):
            for within in ("codecs", "index_codecs"):
                yield from _nested(configuration.get(within))


def _is_plain(dtype: Any) -> bool:
    """Return whether a Zarr v2 dtype is of numbers, text or times; objects only whole."""
    if isinstance(dtype, str):
        return _TYPE_2.fullmatch(dtype) is not None
    if not isinstance(dtype, list):
        return False
    return all(
        isinstance(field, list) and len(field) in (2, 3) and _is_plain(field[1])
        and not str(field[1]).endswith("O")
        for field in dtype
    )  # fmt: skip


def _is_known(data_type: Any) -> bool:
    """Return whether a Zarr v3 data type is of numbers, text or times."""
    if isinstance(data_type, str):
        return _TYPE_3.fullmatch(data_type) is not None
    if not isinstance(data_type, Mapping) or not isinstance(data_type.get("name"), str):
        return False
    configuration = data_type.get("configuration")
    fields = configuration.get("fields", []) if isinstance(configuration, Mapping) else []
    if not isinstance(fields, list) or not all(
        isinstance(field, Mapping) or (isinstance(field, list) and field) for field in fields
    ):
        return False
    types = [
        field.get("data_type") if isinstance(field, Mapping) else field[-1] for field in fields
    ]
    return _TYPE_3.fullmatch(data_type["name"]) is not None and all(map(_is_known, types))
