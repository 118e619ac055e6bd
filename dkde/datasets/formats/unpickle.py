"""Read pickled NumPy arrays without letting the pickle run anything.

The well-known MNIST and CIFAR files are pickles, and a pickle is a program. Of that program
only this is admitted: plain containers, numbers, strings, and NumPy arrays. The few names that
an array's pickle calls are bound to functions of this module, never to NumPy's own: NumPy's
``__setstate__`` is C code that was not written for hostile input.

The interpreter is the standard library's in Python, `pickle._Unpickler`, and not its twin in C,
in which an allow-list of names is not enough. C fills a table as long as the largest index of the
memo that the pickle names (64 GiB for a pickle of ten bytes), reads a frame at once, so that
what it makes cannot be counted, and hashes any key of a dictionary, which of tuples in tuples,
shared, takes for ever. In Python each of these is one method. With ``encoding="bytes"`` it hands
over a string's bytes uncopied, so that an array takes its size once.
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
from dkde.typing import Array

# Far above any published file (CIFAR-100's train has half a million operations), far below
# what fills a memory with empty lists.
_MAX_OPERATIONS = 2_000_000
_MAX_NDIM = 32
_DTYPE = re.compile(r"[biuf][1-8]")
# Left out: what hands control to copyreg, to persistent ids or to out-of-band buffers, what
# instantiates classes (NumPy's arrays need REDUCE only), and sets, which hash what they hold.
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
        Read to its end, so that a checksum at the end (gzip's) is checked as well.
    name : str or Path
        What to call the file in messages.
    limit : int
        Bytes that the pickle can hold at most; what promises more is refused unread.

    Returns
    -------
    object
        Keys of dictionaries are str. Other strings that Python 2 wrote stay bytes, which saves
        a copy. Arrays are read-only.

    Raises
    ------
    DataSetError
        If the pickle names anything but the admitted, or is truncated, damaged or too large,
        or something follows it.
    """
    with reading(Path(name), "pickle"):
        try:
            value = _ArrayUnpickler(file, name, min(limit, MAX_BYTES)).load()
        except KeyError as error:
            raise pickle.UnpicklingError(f"operation or memo {error} is not admitted") from error
        if isinstance(value, _Made):
            raise pickle.UnpicklingError("an array without content")
        if file.read(1):
            raise DataSetError(f"{name}: something follows the pickle; it is not a data file")
        return value


def label_array(labels: object) -> Array | None:
    """A pickle's labels as integers (n,), or None if they are anything else.

    Looked at before NumPy is: of a few lists nested and shared, each twice in the next,
    ``np.asarray`` would make an array of any size.

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
    """A file that counts what is asked of it, and refuses before it allocates."""

    def __init__(self, file: IO[bytes], name: str | Path, limit: int) -> None:
        self._file, self._name = file, name
        self._bytes_left, self._operations_left = limit, _MAX_OPERATIONS

    def _count(self, n_bytes: int) -> None:
        self._bytes_left -= n_bytes
        self._operations_left -= 1
        if self._bytes_left < 0:
            raise DataSetError(
                f"{self._name}: the pickle promises more than the file can hold, or than "
                f"{MAX_BYTES / 2**30:.0f} GiB; it is truncated or damaged, or should be a .npy"
            )
        if self._operations_left < 0:
            raise DataSetError(f"{self._name}: the pickle has too many parts to be a data file")

    def read(self, n: int) -> bytes:
        if n < 0:
            raise DataSetError(f"{self._name}: the pickle is damaged (a negative length)")
        self._count(n)
        data = self._file.read(n)
        if len(data) < n:
            raise EOFError(f"{n} bytes promised, {len(data)} found")
        return data

    def readline(self) -> bytes:
        line = self._file.readline(4096)
        self._count(len(line))
        return line


class _Made:
    """An object that a pickle makes in two steps (the second is BUILD): a dtype or an array."""

    def __init__(self, value: np.dtype[Any] | Array | None = None) -> None:
        self.value = value


class _Memo(dict[int, Any]):
    """The objects made before; for arrays, their present state."""

    def __getitem__(self, index: int) -> Any:
        found = super().__getitem__(index)
        is_array = isinstance(found, _Made) and isinstance(found.value, np.ndarray)
        return found.value if is_array else found


def _dtype(name: object, align: object = False, copy: object = True) -> _Made:
    text = name.decode("latin1") if isinstance(name, bytes) else name
    # "O8", "V...", "U..." and structured dtypes stop here: nothing but numbers gets in.
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        # Only text is shown: a container that shares its parts could be printed for ever.
        shown = repr(text[:40]) if isinstance(text, str) else f"of {type(text).__name__}"
        raise pickle.UnpicklingError(f"it holds an array of dtype {shown}, and not of numbers")
    return _Made(np.dtype(text))


def _array(data: object, dtype: object, shape: object, order: object) -> Array:
    # Bytes alone, which an array shares: of text every array would be a copy.
    number = dtype.value if isinstance(dtype, _Made) else None
    if not isinstance(number, np.dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array without a dtype or without bytes")
    # Few and small, or their product alone would fill the memory.
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
    return _Made()  # the shape here is always (0,); the real one comes by BUILD


def _scalar(dtype: object, data: object) -> object:
    return _array(data, dtype, (), "C")[()]


# numpy.ndarray is named by arrays' pickles, and never called.
_ADMITTED: dict[tuple[str, str], Callable[..., object] | None] = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _dtype,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _array


def _with_text_keys(opcode: bytes, keys: slice) -> Callable[[Any], None]:
    """Return the operation that fills a dictionary, for keys that can be hashed at once."""
    fill = pickle._Unpickler.dispatch[opcode[0]]

    def run(self: Any) -> None:
        self.stack[keys] = [self._key(key) for key in self.stack[keys]]
        fill(self)

    return run


class _ArrayUnpickler(pickle._Unpickler):
    stack: list[Any]

    def __init__(self, file: IO[bytes], name: str | Path, limit: int) -> None:
        # Without fix_imports the names arrive as written, and no renaming can slip one in.
        stream: Any = _BoundedReader(file, name, limit)
        super().__init__(stream, fix_imports=False, encoding="bytes")
        self.memo = _Memo()
        self._name, self._bytes_to_convert = name, limit

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ADMITTED:
            raise DataSetError(
                f"{self._name}: the pickle names {module}.{name}, which is no NumPy array; "
                "nothing of it was run, and it is not imported"
            )
        return _ADMITTED[module, name]

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        # How Python 3 writes bytes in protocols 0 to 2; any other codec might run its own code.
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", b"latin1"):
            raise pickle.UnpicklingError("bytes that are not spelled in latin1")
        self._count_converted(text)
        return text.encode("latin1")

    def _key(self, key: object) -> object:
        # To hash a tuple that holds itself, shared, sixty times over would take for ever.
        if not isinstance(key, str | bytes | int):
            raise pickle.UnpicklingError("a dictionary whose keys are neither text nor numbers")
        if isinstance(key, bytes):
            self._count_converted(key)
            return key.decode("latin1")
        return key

    def _count_converted(self, text: str | bytes) -> None:
        # Each text once: one that is converted over and over would fill the memory.
        self._bytes_to_convert -= len(text)
        if self._bytes_to_convert < 0:
            raise pickle.UnpicklingError("it makes more bytes than it can hold")

    def _build(self: Any) -> None:
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
        # A frame is a hint for buffering; read without it, every operation is counted.
        self.read(8)

    def _load_bytearray(self: Any) -> None:
        # As bytes: the library's own allocates, and fills with zeros, before it reads.
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
