"""What the last bit depends on is told and the same each time; what OpenBLAS chose, too."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from dkde.numerics import machine

AVX2 = {"sse2": True, "avx": True, "avx2": True, "fma": True, "avx512f": False}
AVX512 = AVX2 | {f"avx512{part}": True for part in ("f", "cd", "bw", "dq", "vl")}
_WITH_AVX2 = {"haswell", "zen", "skylakex", "cooperlake", "sapphirerapids"}
NEON, SVE = {"neon": True}, {"neon": True, "sve": True}


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Return what is said of a library and a processor."""

    def say(architecture: str | None, features: dict[str, bool], **other: str) -> str | None:
        library = {
            "user_api": "blas", "internal_api": "openblas", "version": "0.3.20", "num_threads": 2,
            "architecture": architecture, "filepath": "/x/numpy.libs/libscipy_openblas64_.so",
        }  # fmt: skip
        monkeypatch.setattr(machine, "threadpool_info", lambda: [library | other])
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
        return machine.older_kernels()

    return say


@pytest.mark.parametrize(
    ("architecture", "features", "instructions"),
    [
        ("Prescott", AVX512, "AVX-512"),
        ("Nehalem", AVX2, "AVX2"),
        ("Sandybridge", AVX2, "AVX2"),
        ("Haswell", AVX512, "AVX-512"),
        ("Zen", AVX512, "AVX-512"),
        ("armv8", SVE, "SVE"),
    ],
)
def test_code_for_an_older_processor(chosen, architecture, features, instructions):
    line = chosen(architecture, features)
    assert line.startswith(f"OpenBLAS 0.3.20 runs its code for {architecture}, without this ")
    assert f"processor's {instructions}: matrix products may take twice as long" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("architecture", "features"),
    [
        ("SkylakeX", AVX512),
        ("Sapphirerapids", AVX512),
        ("Haswell", AVX2),
        ("Zen", AVX2),
        ("Nehalem", {"sse2": True}),
        # A part of AVX-512 is not enough for its code.
        ("Haswell", AVX2 | {"avx512f": True}),
        ("neoversen1", NEON),
        ("neoversev1", SVE),
        ("VORTEX", NEON),
        ("a kind of tomorrow", AVX512),
        (None, AVX512),
    ],
)
def test_code_that_fits_or_is_not_known(chosen, architecture, features):
    assert chosen(architecture, features) is None


def test_other_libraries_are_not_judged(chosen):
    assert chosen("Nehalem", AVX512, internal_api="mkl") is None
    assert chosen("Nehalem", AVX512, filepath="/x/scipy.libs/libscipy_openblas.so") is None
    assert chosen("Nehalem", AVX512, filepath=r"C:\x\numpy.libs\openblas.dll") is not None
    assert chosen("Nehalem", AVX512, user_api="openmp") is None


def test_what_is_loaded_here():
    (own,) = [k for k in machine.chosen_kernels() if k.package == "numpy"] or [None]
    if own is None or own.library != "openblas":
        pytest.skip("NumPy's library here is not OpenBLAS")
    assert own.architecture
    assert own.threads >= 1


def test_a_library_that_was_told_to_run_older_code():
    (own, *_) = machine.chosen_kernels()
    if own.library != "openblas" or own.architecture.lower() not in _WITH_AVX2:
        pytest.skip("needs OpenBLAS on a processor with AVX2")
    say = "from dkde.numerics.machine import older_kernels; print(older_kernels())"
    told = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    printed = subprocess.check_output([sys.executable, "-c", say], env=told, text=True)
    assert "runs its code for Nehalem, without this processor's AVX" in printed


def test_the_processor_is_named_as_the_compiler_names_it():
    from llvmlite.binding import get_host_cpu_name

    assert machine.processor() == get_host_cpu_name() != ""


def test_numpys_library_alone_is_named(monkeypatch):
    assert np.ones((2, 2)).dot(np.ones(2)).tolist() == [2, 2]
    assert machine.blas() not in ("", "unknown")
    own = {
        "user_api": "blas", "internal_api": "openblas", "version": "1", "architecture": "Zen",
        "filepath": "/x/numpy.libs/a.so",
    }  # fmt: skip
    other = {**own, "internal_api": "mkl", "architecture": None, "filepath": "/x/torch/b.so"}
    threads = {"user_api": "openmp", "filepath": "/x/numpy/c.so"}
    for found, name in (
        ([own, other, threads], "openblas 1 Zen"),
        ([other], "mkl 1"),
        ([threads], "unknown"),
    ):
        monkeypatch.setattr(machine, "threadpool_info", lambda found=found: found)
        assert machine.blas() == name
