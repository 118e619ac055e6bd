"""What the last bit depends on is told, and is the same each time."""

import numpy as np

from dkde.numerics import machine


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
