"""Read pickled NumPy arrays without letting the pickle run anything.

The well-known MNIST and CIFAR files are pickles, and a pickle is a program. Of that program
only this is admitted: plain containers, numbers, strings, and NumPy arrays. The few names that
an array's pickle calls are bound to functions of this module, never to NumPy's own: NumPy's
``__setstate__`` is C code that was not written for hostile input.

The interpreter is the standard library's in Python, `pickle._Unpickler`, and not its twin in C.
It lets single opcodes be left out; it keeps the memo in a dictionary, where C fills a table as
long as the largest index that the pickle names (64 GiB for a pickle of ten bytes); and with
``encoding="bytes"`` it hands over a string's bytes uncopied, so that an array takes its size once.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from dkde.datasets.formats.files import reading
from dkde.errors import DataSetError
from dkde.typing import Array

# Far above any published file (CIFAR-100's train has half a million operations), far below
# what fills a memory with empty lists.
_MAX_OPERATIONS = 2_000_000
_MAX_BYTES = 4 * 2**30
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


def load(file: IO[bytes], *, name: str | Path, limit: int = _MAX_BYTES) -> Any:
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
        stream = _BoundedReader(file, name, min(limit, _MAX_BYTES))
        value = _resolve(_ArrayUnpickler(stream, name).load(), {})
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

    @property
    def bytes_left(self) -> int:
        return self._bytes_left

    def _count(self, n_bytes: int) -> None:
        self._bytes_left -= n_bytes
        self._operations_left -= 1
        if self._bytes_left < 0:
            raise DataSetError(
                f"{self._name}: the pickle promises more than the file can hold, or than "
                f"{_MAX_BYTES / 2**30:.0f} GiB; it is truncated or damaged, or should be a .npy"
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


class _Admitted:
    """A global that a pickle may name: it can be called, and not be changed by BUILD."""

    __slots__ = ("_call",)
    _call: Callable[..., object]

    def __init__(self, call: Callable[..., object]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError("a pickle may not change what it names")

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a pickle may not change what it names")


class _PickledDtype:
    """Stands for the numpy.dtype that the pickle builds in two steps: its name, its byte order."""

    def __init__(self, name: object, align: object = False, copy: object = True) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        # "O8", "V...", "U..." and structured dtypes stop here: nothing but numbers gets in.
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            # Only text is shown: a container that shares its parts could be printed for ever.
            shown = repr(text[:40]) if isinstance(text, str) else f"of {type(text).__name__}"
            raise pickle.UnpicklingError(f"it holds an array of dtype {shown}, and not of numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|"):
            raise pickle.UnpicklingError("unknown byte order")
        self.dtype = self.dtype.newbyteorder(order)


class _PickledArray:
    """Stands for the array whose shape, dtype and bytes come by BUILD."""

    array: Array | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: object, dtype: object, shape: object, order: object) -> Array:
    # Bytes alone, which an array shares: of text every array would be a copy.
    if not isinstance(dtype, _PickledDtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array without a dtype or without bytes")
    # Few and small, or their product alone would fill the memory.
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_NDIM
        or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape)
    ):
        raise pickle.UnpicklingError("an array without a shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(cls: object, shape: object, typecode: object) -> _PickledArray:
    return _PickledArray()  # the shape here is always (0,); the real one comes by BUILD


def _scalar(dtype: object, data: object) -> object:
    return _array(data, dtype, (), "C")[()]


def _not_called(*args: object) -> NoReturn:
    raise pickle.UnpicklingError("numpy.ndarray is named by array pickles, never called")


_ADMITTED = {
    **{
        (f"numpy.{core}.{module}", function): _Admitted(call)
        for core in ("core", "_core")
        for module, function, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
    ("numpy", "ndarray"): _Admitted(_not_called),
    ("numpy", "dtype"): _Admitted(_PickledDtype),
}


class _ArrayUnpickler(pickle._Unpickler):
    dispatch = {  # noqa: RUF012  (its base class has it so)
        code: run
        for code, run in pickle._Unpickler.dispatch.items()
        if code not in {opcode[0] for opcode in _REFUSED_OPCODES}
    }

    def __init__(self, file: Any, name: str | Path) -> None:
        # Without fix_imports the names arrive as written, and no renaming can slip one in.
        super().__init__(file, fix_imports=False, encoding="bytes")
        self._name = name
        self._bytes_to_encode = file.bytes_left

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        # How Python 3 writes bytes in protocols 0 to 2; any other codec might run its own code.
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", b"latin1"):
            raise pickle.UnpicklingError("bytes that are not spelled in latin1")
        # Each text once: one that is encoded over and over would fill the memory.
        self._bytes_to_encode -= len(text)
        if self._bytes_to_encode < 0:
            raise pickle.UnpicklingError("it makes more bytes than it can hold")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Admitted(self._encode)
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise DataSetError(
                f"{self._name}: the pickle names {module}.{name}, which is no NumPy array; "
                "nothing of it was run, and it is not imported"
            ) from None

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise pickle.UnpicklingError(f"operation or memo {error} is not admitted") from error

    def _skip_frame(self: Any) -> None:
        # A frame is a hint for buffering; read without it, every operation is counted.
        self.read(8)

    def _load_bytearray(self: Any) -> None:
        # As bytes: the library's own allocates, and fills with zeros, before it reads.
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(n_bytes))

    def _load_setitem(self: Any) -> None:
        _check_keys(self.stack[-2:-1])
        pickle._Unpickler.dispatch[pickle.SETITEM[0]](self)

    def _load_setitems(self: Any) -> None:
        _check_keys(self.stack[::2])
        pickle._Unpickler.dispatch[pickle.SETITEMS[0]](self)

    def _load_dict(self: Any) -> None:
        _check_keys(self.stack[::2])
        pickle._Unpickler.dispatch[pickle.DICT[0]](self)

    dispatch[pickle.SETITEM[0]] = _load_setitem
    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch[pickle.DICT[0]] = _load_dict
    dispatch[pickle.FRAME[0]] = _skip_frame
    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray


def _check_keys(keys: list[Any]) -> None:
    # To hash a tuple that holds itself, shared, sixty times over would take for ever.
    if not all(isinstance(key, str | bytes | int) for key in keys):
        raise pickle.UnpicklingError("a dictionary whose keys are neither text nor numbers")


def _resolve(value: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins by arrays; `done` by identity, as a pickle may share or nest itself."""
    if isinstance(value, _PickledArray):
        if value.array is None:
            raise pickle.UnpicklingError("an array without content")
        return value.array
    if not isinstance(value, tuple | list | dict):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, tuple):
        done[id(value)] = tuple(_resolve(item, done) for item in value)
    elif isinstance(value, list):
        done[id(value)] = value
        value[:] = [_resolve(item, done) for item in value]
    else:
        resolved: dict[Any, Any] = {}
        done[id(value)] = resolved
        for key, item in value.items():
            text = key.decode("latin1") if isinstance(key, bytes) else key
            resolved[text] = _resolve(item, done)
    return done[id(value)]
