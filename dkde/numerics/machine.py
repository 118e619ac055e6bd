"""The machine properties that select compiled code and linear algebra, and so the last bit."""

import hashlib
import os
import platform
from functools import lru_cache

import numpy as np  # noqa: F401  what loads its library
from threadpoolctl import threadpool_info


def processor() -> str:
    """Return the processor type for compilation: this one's, unless numba's target is set."""
    from llvmlite.binding import get_host_cpu_name
    from numba.core import config

    named = config.CPU_NAME or get_host_cpu_name()
    return named or platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def target() -> dict[str, str]:
    """Return numba's target in this process: processor type, features, options."""
    from llvmlite.binding import get_host_cpu_features
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features as chosen_features

    asked = config.CPU_FEATURES
    features = chosen_features() if asked is None else asked
    differ = set(features.split(",")) ^ set(get_host_cpu_features().flatten().split(","))
    told = hashlib.sha256(",".join(sorted(differ)).encode()).hexdigest()[:12]
    return {
        "processor": processor(),
        "features": f"others ({told})" if differ - {""} else "its own",
        "optimisation": str(int(config.OPT)),
        "svml": str(bool(config.USING_SVML)),
    }


def altered_target() -> dict[str, str]:
    """Return the parts of the target set by the user; empty where numba chose all."""
    from numba.core import config

    chosen = target()
    asked = {}
    if config.CPU_FEATURES is not None or "NUMBA_ENABLE_AVX" in os.environ:
        asked["features"] = chosen["features"]
    if chosen["optimisation"] != "3":
        asked["optimisation"] = chosen["optimisation"]
    return {key: value for key, value in asked.items() if value != "its own"}


def blas() -> str:
    """NumPy's library of linear algebra: its name, its version, what processors it works as."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # Other packages may have brought their own.
    own = [library for library in found if "numpy" in library["filepath"]] or found
    parts = ("internal_api", "version", "architecture")
    names = {" ".join(str(library[part]) for part in parts if library.get(part)) for library in own}
    return ", ".join(sorted(names)) or "unknown"
