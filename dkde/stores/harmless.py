"""Metadata of Zarr arrays: the codecs and types that they name must be known to be harmless.

Some codecs run any code that a chunk holds, when the chunk is decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dkde.errors import DataSetError, one_line, scrubbed
from dkde.stores.limits import check_unpacked
from dkde.stores.unpacking import ChunkLayout, layout_of

# Each of these codecs turns bytes into numbers or text and does nothing else. Any other codec is
# refused, whether it is known to be dangerous (pickle) or is not known at all.
_NUMBERS = {
    "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize",
    "shuffle", "zfpy", "zlib", "zstd",
}  # fmt: skip
_OBJECTS = {"categorize", "json2", "msgpack2", "vlen-array", "vlen-bytes", "vlen-utf8"}
# The names of the codecs in metadata of Zarr v2 and of v3.
_CODECS_2 = frozenset({*_NUMBERS, *_OBJECTS, "base64"})
_CODECS_3 = frozenset({
    "blosc", "bytes", "cast_value", "crc32c", "endian", "gzip", "scale_offset", "sharding_indexed",
    "transpose", "vlen-bytes", "vlen-utf8", "zstd", *(f"numcodecs.{name}" for name in _NUMBERS),
})  # fmt: skip
# The types of numbers, text and times, as v2 and v3 name them. O, Python objects, passes here, and
# is refused later unless a codec turns them into text.
_TYPE_2 = re.compile(r"[<>|=]?([biufcmMSUV]\d*(\[\w+\])?|O)")
_TYPE_3 = re.compile(
    r"bool|u?int(8|16|32|64)|b?float(16|32|64)|complex(64|128)|r\d+|string|bytes|raw_bytes"
    r"|(variable_length|null_terminated)_(bytes|utf8)|fixed_length_utf32|struct(ured)?"
    r"|numpy\.(datetime|timedelta)64"
)
# The names of metadata in a store.
METADATA = ("zarr.json", ".zarray", ".zmetadata")
# Python's objects of JSON are up to this many times as long as its text, as of empty lists.
_JSON_TIMES = 20


class CodecError(DataSetError):
    """The refusal of an array whose codecs or type are not known to be harmless."""


def check_metadata(where: str, key: str, content: bytes) -> dict[str, ChunkLayout]:
    """Refuse metadata that name a codec or a type which is not known to be harmless.

    The layouts of the chunks of the arrays are returned, by the paths of these.

    Parameters
    ----------
    where : str
        The store, for messages.
    key : str
        The key of the metadata in the store.
    content : bytes
        The metadata, as JSON.

    Raises
    ------
    CodecError
        When the metadata name an unknown codec or type, or are nested too deeply.
    """
    check_unpacked(f"{scrubbed(where)}/{key}", "its metadata", _JSON_TIMES * len(content), 0)
    found: dict[str, ChunkLayout] = {}
    try:
        document = json.loads(content)
    except ValueError:
        return found  # Zarr cannot read it either, and reports that
    except RecursionError:
        raise CodecError(
            f"{scrubbed(where)}/{key}: its metadata are nested too deeply to be read; they are "
            "damaged, or made to do harm"
        ) from None
    path, _, name = key.rpartition("/")
    if name not in METADATA:
        return found
    if name == ".zmetadata" and isinstance(document, dict):
        listed = document.get("metadata")
        entries = listed.items() if isinstance(listed, dict) else ()
        # The entries of attributes are left out: a user's attribute may be called "dtype".
        plain = {key: value for key, value in entries if key.rpartition("/")[2] != ".zattrs"}
        document = {"metadata": plain}
    for array, fields in _arrays(path, document):
        for fault in _faults(fields):
            place = f"{scrubbed(where)}/{array}".rstrip("/")
            raise CodecError(
                f"{place}: {fault}, which is not known to be harmless: decoding may run any code, "
                "so nothing was decoded; if you trust the store, write the array again with "
                "another codec, such as zstd"
            )
        try:
            layout = layout_of(fields)
        except Exception as error:  # metadata may hold anything; without a layout, no chunk is read
            raise CodecError(
                f"{scrubbed(where)}/{array}: its metadata do not say what its chunks hold "
                f"({one_line(error)}); they are damaged, write the array again"
            ) from None
        if layout is not None:
            found[array.strip("/")] = layout
    return found


def _arrays(path: str, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the metadata of arrays with their paths: a document's own and the consolidated ones."""
    if not isinstance(document, Mapping):
        return
    yield path, document
    # Version 2 lists consolidated metadata under "metadata"; version 3 has the same under
    # "consolidated_metadata". Entries may hold such lists again.
    consolidated = document.get("consolidated_metadata")
    for listed in (document.get("metadata"), consolidated):
        entries = listed.get("metadata", listed) if isinstance(listed, Mapping) else {}
        for name, entry in entries.items() if isinstance(entries, Mapping) else ():
            inner = f"{path}/{name.removesuffix('.zarray')}".strip("/")
            yield from _arrays(inner, entry)


def _faults(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of an array's codecs and types.

    Fields of both versions are checked, whichever version the metadata claim to be.
    """
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
    """Yield the codecs of Zarr v3, and those in their configurations (as of shards)."""
    for codec in codecs if isinstance(codecs, list) else [] if codecs is None else [codecs]:
        yield codec
        configuration = codec.get("configuration") if isinstance(codec, Mapping) else None
        if isinstance(configuration, Mapping):
            for within in ("codecs", "index_codecs"):
                yield from _nested(configuration.get(within))


def _is_plain(dtype: Any) -> bool:
    """Return whether a Zarr v2 dtype is of numbers, text or times, or of objects as a whole.

    A structured dtype must not have fields that are objects: no codec turns those into text.
    """
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
