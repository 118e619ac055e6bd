"""The restricted unpickler: arrays get in, nothing else does, nothing runs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dkde.datasets.formats import unpickle
from dkde.datasets.formats.unpickle import load
from dkde.errors import DataSetError


def loads(data: bytes, limit: int = 2**30) -> Any:
    return load(io.BytesIO(data), name="some.pkl", limit=limit)


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "<f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(protocol: int, dtype: str, order: Any) -> None:
    x = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype=dtype, order=order)
    value = loads(pickle.dumps({"x": x, "pair": (x, [1, 2])}, protocol))
    np.testing.assert_array_equal(value["x"], x)
    assert value["x"].dtype == x.dtype
    np.testing.assert_array_equal(value["pair"][0], x)
    assert value["pair"][1] == [1, 2]


def test_scalars_bytes_and_shared_arrays_come_back() -> None:
    x = np.zeros(3)
    value = loads(pickle.dumps([np.float64(2.5), b"\xff", x, x], 2))
    assert value[:2] == [2.5, b"\xff"]
    assert value[2] is value[3]


def test_python_2_keys_are_text() -> None:
    python_2 = b"\x80\x02}q\x01U\x04dataq\x02K\x07s."  # {'data': 7}
    assert loads(python_2) == {"data": 7}


@pytest.mark.parametrize("function", [os.system, eval, print, getattr])
@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_global_does_not_run(
    function: Any, protocol: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "ran"
    hostile = pickle.dumps((np.zeros(2), Runs(function, f"touch {mark}")), protocol)
    with pytest.raises(DataSetError, match=rf"some\.pkl: the pickle names .*{function.__name__}"):
        loads(hostile)
    assert not mark.exists()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="c16"),
        np.zeros(2, dtype="M8[s]"),
        {1, 2}.__class__,
        Path("x"),
    ],
    ids=["object", "text", "structured", "complex", "datetime", "class", "path"],
)
def test_anything_but_numbers_is_refused(value: Any) -> None:
    with pytest.raises(DataSetError, match=r"some\.pkl") as caught:
        loads(pickle.dumps(value, 2))
    assert "\n" not in str(caught.value)


def test_every_truncation_is_one_error() -> None:
    whole = pickle.dumps((np.arange(6.0).reshape(2, 3), [1, 2, {"a": 3}]), 2)
    for stop in range(len(whole)):
        with pytest.raises(DataSetError, match=r"some\.pkl"):
            loads(whole[:stop])


def test_a_changed_byte_raises_nothing_but_a_data_set_error() -> None:
    whole = pickle.dumps({"data": np.arange(6.0).reshape(2, 3)}, 2)
    for at in range(len(whole)):
        for value in (0, 0x2E, 0x52, 0x62, 0xFF):
            with contextlib.suppress(DataSetError):  # or a value, where only a number changed
                loads(whole[:at] + bytes([value]) + whole[at + 1 :])


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
STATE = b"(K\x01K\x01\x85cnumpy\ndtype\n(U\x02u1K\x00K\x01tR\x89U\x01xtb"
HOSTILE = {
    "huge string": b"\x80\x03B\xff\xff\xff\xff.",
    "huge string, 8 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b".",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40),
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "huge shape": b"\x80\x02"
    + ARRAY
    + b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
    + b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR\x89U\x00tb.",
    "change of what is named": b"\x80\x02cnumpy\ndtype\n}U\x05dtypeK\x01sb.",
    "array never filled": b"\x80\x02" + ARRAY + b".",
    "persistent id": b"\x80\x02Pnumber\n.",
    "extension": b"\x80\x02\x82\x01.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "array changed": b"\x80\x02" + ARRAY + b"q\x01" + STATE + b"0h\x01" + STATE + b".",
    "keys that take for ever": b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s.",
    "call of an array": b"\x80\x02cnumpy\nndarray\n)R.",
    "two pickles": b"\x80\x02K\x01.\x80\x02K\x01.",
    "empty": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_pickle_is_refused_in_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataSetError, match=r"some\.pkl"):
            # The limit as for a gzipped file, which could hold that much more than its size.
            loads(data, limit=1032 * max(len(data), 1000))
        assert tracemalloc.get_traced_memory()[1] < len(data) * 150 + 2**20
    finally:
        tracemalloc.stop()


def test_memo_index_costs_nothing() -> None:
    tracemalloc.start()
    try:
        assert loads(b"\x80\x02]r\xff\xff\xff\xff.") == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "use",
    [b"}h\x01K\x01s", b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1\x86R"],
    ids=["key", "encoded"],
)
def test_a_long_text_used_many_times_is_refused(use: bytes) -> None:
    kind = b"T" if use.startswith(b"}") else b"X"
    text = kind + struct.pack("<I", 2**20) + b"k" * 2**20 + b"q\x010"
    data = b"\x80\x02(" + text + use * 1000 + b"l."
    tracemalloc.start()
    try:
        with pytest.raises(DataSetError, match="makes more bytes than it can hold"):
            loads(data, limit=8 * len(data))
        assert tracemalloc.get_traced_memory()[1] < 16 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framed", [False, True])
def test_number_of_parts_is_bounded(framed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "_MAX_OPERATIONS", 1000)
    body = b"(" + b"]" * 1100 + b"l."
    frame = b"\x95" + struct.pack("<Q", len(body)) if framed else b""
    with pytest.raises(DataSetError, match="too many parts"):
        loads(b"\x80\x04" + frame + body)


def test_containers_that_hold_themselves_end() -> None:
    nested = b"\x80\x02]q\x00" + b"(h\x00h\x00tq\x00" * 60 + b"."  # 2**60 paths to the list
    assert isinstance(loads(nested), tuple)
    cycle: list[Any] = []
    cycle.append(cycle)
    value = loads(pickle.dumps(cycle, 2))
    assert value[0] is value


def test_a_name_of_two_lines_is_refused_in_one() -> None:
    name = b"\x8c\x05nump\n\x8c\x07ndarray\x93"
    with pytest.raises(DataSetError, match=r"names nump \.ndarray, which is not part"):
        loads(b"\x80\x04" + name + b".")
