"""What compiled code and the linear algebra library are chosen by, and with them the last bit."""

import platform

import numpy as np  # noqa: F401  what loads its library
from threadpoolctl import threadpool_info


def processor() -> str:
    """The processor's type, as the compiler of the hot loop tells it."""
    from llvmlite.binding import get_host_cpu_name

    return get_host_cpu_name() or platform.processor() or platform.machine()


def blas() -> str:
    """NumPy's library of linear algebra: its name, its version, what processors it works as."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # Other packages may have brought their own.
    own = [library for library in found if "numpy" in library["filepath"]] or found
    parts = ("internal_api", "version", "architecture")
    names = {" ".join(str(library[part]) for part in parts if library.get(part)) for library in own}
    return ", ".join(sorted(names)) or "unknown"
