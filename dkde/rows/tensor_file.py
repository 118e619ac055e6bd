"""A tensor of a safetensors file as rows, of which a task reads its range."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError, InputError
from dkde.rows.row_source import RowSource, reading_rows
from dkde.typing import Array

# The dtypes of tensors that NumPy has not, and the one that holds all of their values.
_WIDER = {"BF16": np.dtype(np.float32)}
_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def tensors_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a file, by name."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _need_small_floats(path: Path) -> None:
    """Let NumPy know bfloat16: importing the package that has it is enough."""
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        raise InputError(
            f'{path}: reading bfloat16 needs ml_dtypes; pip install "dkde[safetensors]"'
        ) from None


def _opened(path: Path) -> Any:
    try:
        from safetensors import safe_open
    except ImportError:
        raise InputError(
            f'{path}: reading it needs safetensors; pip install "dkde[safetensors]"'
        ) from None
    return safe_open(path, "numpy")


@dataclass(frozen=True, eq=False)
class TensorSource(RowSource):
    """A tensor of two dims in a file; each task opens the file itself.

    Parameters
    ----------
    path : Path
        The absolute path.
    name : str
        The name of the tensor.
    shape : tuple of int
        The shape of the rows.
    dtype : dtype
        The dtype of the values; float32 for bfloat16, which NumPy has not.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path, name: str) -> "TensorSource":
        """Open a tensor of a file as a source.

        Raises
        ------
        DataSetError
            When it holds numbers of a type that NumPy has not.
        """
        # A relative path would name another file in a worker, or after a change of directory.
        path = path.absolute()
        with _opened(path) as file:
            return cls(path, name, *cls._layout(file.get_slice(name), path, name))

    @staticmethod
    def _layout(held: Any, path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        kind = held.get_dtype()
        if kind in _WIDER:
            _need_small_floats(path)
        if kind not in _DTYPES and kind not in _WIDER:
            raise DataSetError(
                f"{path}: tensor {name} holds {kind}, which NumPy has not; write it as F32"
            )
        return tuple(held.get_shape()), _WIDER.get(kind) or np.dtype(_DTYPES[kind])

    def stamp(self) -> Any:
        """Return a stamp of the content: the path, name, size and time of the file."""
        status = os.stat(self.path)
        return str(self.path), self.name, status.st_size, status.st_mtime_ns

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        with reading_rows(self.path, start, stop), _opened(self.path) as file:
            held = file.get_slice(self.name)
            found = self._layout(held, self.path, self.name)
            # The file may have been replaced since: its rows would not be those of the plan.
            if found != (self.shape, self.dtype):
                raise DataSetError(
                    f"{self.path}: tensor {self.name} was {self.dtype} of shape {self.shape} and "
                    f"is {found[1]} of shape {found[0]}; it changed since it was opened, open it "
                    "again"
                )
            return np.asarray(held[start:stop], self.dtype)
