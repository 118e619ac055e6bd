"""Reading of pickled NumPy arrays without letting the pickle run anything.

The well-known MNIST and CIFAR files are pickles, and a pickle is a program. Only plain
containers, numbers, strings and NumPy arrays are admitted. The few names that an array's pickle
calls are bound to functions of this module, never to NumPy's own: NumPy's ``__setstate__`` is C
code that was not written for hostile input.

The interpreter is the one in Python, `pickle._Unpickler`, and not its twin in C, where a list of
admitted names is not enough, for three reasons. The C code allocates a table as long as the
largest memo index that the pickle names (64 GiB for a pickle of ten bytes). It reads a whole
frame at once, so that operations cannot be counted. And it hashes any key of a dictionary, which
never ends for deeply nested tuples that share their parts. In Python each of these is one method
that can be replaced. With ``encoding="bytes"`` the interpreter passes on a string's bytes without
a copy, so that an array takes its size once.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from dkde.datasets.formats.files import MAX_BYTES, reading
from dkde.errors import DataSetError
from dkde.stores.limits import VARIABLE
from dkde.typing import Array

# Far more than any published file needs (CIFAR-100's train has half a million operations), and
# far less than it takes to fill the memory with empty lists.
_MAX_OPERATIONS = 2_000_000
# NumPy 1's own limit of dimensions.
_MAX_NDIM = 32
# Signed and unsigned integers, floats and bool, by kind and size in bytes.
_DTYPE = re.compile(r"[biuf][1-8]")
# Refused: opcodes that use copyreg's extensions, persistent ids or out-of-band buffers, opcodes
# that instantiate classes (NumPy's arrays need REDUCE only), and sets, which hash their content.
_REFUSED_OPCODES = (
    pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID,
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
)  # fmt: skip


def load(file: IO[bytes], *, name: str | Path, limit: int = MAX_BYTES) -> Any:
    """Load one pickle of plain containers and numeric NumPy arrays that fills `file`.

    Parameters
    ----------
    file : binary file
        It is read to its end, so that gzip compares the checksum there.
    name : str or Path
        The name of the file in messages.
    limit : int
        The most bytes that the pickle can hold; an object that promises more is refused unread.

    Returns
    -------
    object
        Keys of dictionaries are str. Other strings that Python 2 wrote stay bytes, which saves
        a copy. Arrays are read-only.

    Raises
    ------
    DataSetError
        If the pickle names anything that is not admitted, if it is truncated, damaged or too
        large, or if bytes follow it.
    """
    with reading(Path(name), "pickle"):
        try:
            value = _ArrayUnpickler(file, name, min(limit, MAX_BYTES)).load()
        # The dispatch table has no refused opcode, and the memo no object that was not made.
        except KeyError as error:
            raise pickle.UnpicklingError(f"operation or memo {error} is not admitted") from error
        if isinstance(value, _Made):
            raise pickle.UnpicklingError("an array without content")
        if file.read(1):
            raise DataSetError(f"{name}: bytes follow the pickle, so it is not a data file")
        return value


def label_array(labels: object) -> Array | None:
    """Return a pickle's labels as integers (n,), or None if they are anything else.

    A list is checked before NumPy gets it. ``np.asarray`` would make an array of any size from a
    few nested lists that each hold the previous one twice.

    Examples
    --------
    >>> label_array([3, 1])
    array([3, 1])
    >>> label_array([[3], [1]])
    """
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.asarray(labels)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    return labels.astype(labels.dtype.newbyteorder("="))


class _BoundedReader:
    """A file that counts bytes and operations, and refuses too many before it allocates."""

    def __init__(self, file: IO[bytes], name: str | Path, limit: int) -> None:
        self._file, self._name = file, name
        self._bytes_left, self._operations_left = limit, _MAX_OPERATIONS

    def _count(self, n_bytes: int) -> None:
        self._bytes_left -= n_bytes
        self._operations_left -= 1
        if self._bytes_left < 0:
            raise DataSetError(
                f"{self._name}: the pickle promises more than the file can hold, or than "
                f"{MAX_BYTES / 2**30:.0f} GiB; it is truncated or damaged: fetch it again, save "
                f"the array as .npy, or allow more of a gzipped one ({VARIABLE}=8GiB in the "
                "environment)"
            )
        if self._operations_left < 0:
            raise DataSetError(f"{self._name}: the pickle has too many parts to be a data file")

    # Each operation of the interpreter reads its opcode by a call, so a bound of calls bounds them.
    def read(self, n: int) -> bytes:
        if n < 0:
            raise DataSetError(f"{self._name}: the pickle is damaged (a negative length)")
        self._count(n)
        data = self._file.read(n)
        if len(data) < n:
            raise EOFError(f"{n} bytes promised, {len(data)} found")
        return data

    def readline(self) -> bytes:
        # Only names and numbers of protocol 0 are lines; the bound keeps them short.
        line = self._file.readline(4096)
        self._count(len(line))
        return line


class _Made:
    """An object that a pickle makes in two steps (the second is BUILD): a dtype or an array."""

    def __init__(self, value: np.dtype[Any] | Array | None = None) -> None:
        self.value = value


class _Memo(dict[int, Any]):
    """The objects that the pickle made before, by number; an array in its present state."""

    # A pickle notes an array before BUILD gives it content, and may refer to it afterwards.
    def __getitem__(self, index: int) -> Any:
        found = super().__getitem__(index)
        is_array = isinstance(found, _Made) and isinstance(found.value, np.ndarray)
        return found.value if is_array else found


def _dtype(name: object, align: object = False, copy: object = True) -> _Made:
    """Return a numeric dtype, in place of numpy.dtype."""
    text = name.decode("latin1") if isinstance(name, bytes) else name
    # Objects ("O8"), bytes ("V..."), texts ("U...") and structured dtypes are refused here.
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        # Only a text is shown: printing a container that shares its parts might never end.
        shown = repr(text[:40]) if isinstance(text, str) else f"of {type(text).__name__}"
        raise pickle.UnpicklingError(f"it holds an array of dtype {shown}, and not of numbers")
    return _Made(np.dtype(text))


def _array(data: object, dtype: object, shape: object, order: object) -> Array:
    """Return a read-only array that shares the bytes `data`, after checks of all arguments."""
    # Bytes only: the array shares them, while each array from a text would be a copy.
    number = dtype.value if isinstance(dtype, _Made) else None
    if not isinstance(number, np.dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array without a dtype or without bytes")
    # Few and bounded sizes, because the product of many large integers would fill the memory.
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_NDIM
        or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape)
    ):
        raise pickle.UnpicklingError("an array without a shape")
    if math.prod(shape) * number.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(data, number).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(cls: object, shape: object, typecode: object) -> _Made:
    """Return an array without content, in place of NumPy's function of that name."""
    return _Made()  # the shape here is always (0,); BUILD brings the real one


def _scalar(dtype: object, data: object) -> object:
    """Return a NumPy scalar, in place of NumPy's function of that name."""
    return _array(data, dtype, (), "C")[()]


# The pickles of arrays name numpy.ndarray, as an argument of `_reconstruct`, and never call it.
_ADMITTED: dict[tuple[str, str], Callable[..., object] | None] = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _dtype,
}
# NumPy 2 renamed its module numpy.core; files of both versions are read.
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _array


def _with_text_keys(opcode: bytes, keys: slice) -> Callable[[Any], None]:
    """Return the operation of `opcode`, which fills a dictionary, with its keys checked first.

    `keys` is the part of the interpreter's stack that holds the keys.
    """
    fill = pickle._Unpickler.dispatch[opcode[0]]

    def run(self: Any) -> None:
        self.stack[keys] = [self._key(key) for key in self.stack[keys]]
        fill(self)

    return run


class _ArrayUnpickler(pickle._Unpickler):
    stack: list[Any]

    def __init__(self, file: IO[bytes], name: str | Path, limit: int) -> None:
        # Without fix_imports the names arrive as they are written, and not renamed for Python 3.
        stream: Any = _BoundedReader(file, name, limit)
        super().__init__(stream, fix_imports=False, encoding="bytes")
        self.memo = _Memo()
        self._name, self._bytes_to_convert = name, limit

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ADMITTED:
            raise DataSetError(
                f"{self._name}: the pickle names {module}.{name}, which is not part of a NumPy "
                "array; nothing was run and nothing imported; save its arrays as .npy or .npz"
            )
        return _ADMITTED[module, name]

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        # Python 3 writes bytes in this way in protocols 0 to 2. Any other codec is refused, as it
        # might run code of its own.
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", b"latin1"):
            raise pickle.UnpicklingError("bytes that are not spelled in latin1")
        self._count_converted(text)
        return text.encode("latin1")

    def _key(self, key: object) -> object:
        # Hashing tuples that share their parts, nested sixty deep, would never end.
        if not isinstance(key, str | bytes | int):
            raise pickle.UnpicklingError("a dictionary whose keys are neither text nor numbers")
        if isinstance(key, bytes):
            self._count_converted(key)
            return key.decode("latin1")
        return key

    def _count_converted(self, text: str | bytes) -> None:
        # The sum of all conversions is bounded by the file's size: a pickle may convert one text
        # again and again, and each copy takes memory.
        self._bytes_to_convert -= len(text)
        if self._bytes_to_convert < 0:
            raise pickle.UnpicklingError("it makes more bytes than it can hold")

    def _build(self: Any) -> None:
        # BUILD gives a dtype its byte order, and an array its shape, dtype and content.
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Made) or not isinstance(state, tuple):
            raise pickle.UnpicklingError("a pickle may not change what it names")
        if isinstance(made.value, np.dtype):
            order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|"):
                raise pickle.UnpicklingError("unknown byte order")
            made.value = made.value.newbyteorder(order)
        else:
            _, shape, dtype, fortran, data = state
            made.value = _array(data, dtype, shape, "F" if fortran else "C")
            self.stack[-1] = made.value

    def _skip_frame(self: Any) -> None:
        # A frame is a hint for buffering. It is ignored, so that every operation is counted.
        self.read(8)

    def _load_bytearray(self: Any) -> None:
        # Read as bytes: the library's own method allocates the promised size before it reads.
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(n_bytes))

    dispatch = {  # noqa: RUF012  (its base class has it so)
        **{
            code: run
            for code, run in pickle._Unpickler.dispatch.items()
            if code not in {opcode[0] for opcode in _REFUSED_OPCODES}
        },
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _with_text_keys(pickle.SETITEM, slice(-2, -1)),
        pickle.SETITEMS[0]: _with_text_keys(pickle.SETITEMS, slice(None, None, 2)),
        pickle.DICT[0]: _with_text_keys(pickle.DICT, slice(None, None, 2)),
        pickle.FRAME[0]: _skip_frame,
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }
