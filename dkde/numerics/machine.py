"""The machine properties that select compiled code and linear algebra, and so the last bit.

OpenBLAS contains code of its matrix product for several kinds of processors, and chooses one when
it is loaded. On a processor that is newer than the library it may choose code that uses half of
the vector units.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np  # noqa: F401  loads its BLAS, which threadpool_info lists only then
from threadpoolctl import threadpool_info

# Vector instructions, oldest first: their name, the features of a processor that they need, and the
# kinds of processors whose code in OpenBLAS uses these instructions and no newer ones.
_LEVELS: Mapping[str, tuple[tuple[str, frozenset[str], frozenset[str]], ...]] = {
    "x86": (
        (
            "SSE",
            frozenset(),
            frozenset({
                "katmai", "coppermine", "northwood", "prescott", "banias", "atom", "core2",
                "penryn", "dunnington", "nehalem", "athlon", "opteron", "opteron_sse3",
                "barcelona", "bobcat", "nano",
            }),
        ),
        (
            "AVX",
            frozenset({"avx"}),
            frozenset({"sandybridge", "bulldozer", "piledriver", "steamroller"}),
        ),
        ("AVX2", frozenset({"avx2", "fma"}), frozenset({"haswell", "zen", "excavator"})),
        (
            "AVX-512",
            frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}),
            frozenset({"skylakex", "cooperlake", "sapphirerapids"}),
        ),
    ),
    "arm": (
        (
            "NEON",
            frozenset(),
            frozenset({"armv8", "cortexa53", "cortexa57", "cortexa72", "cortexa73", "neoversen1"}),
        ),
        (
            "SVE",
            frozenset({"sve"}),
            frozenset({"armv8sve", "neoversev1", "neoversen2", "a64fx"}),
        ),
    ),
}  # fmt: skip


def processor() -> str:
    """Return the processor type for compilation: this machine's, unless numba's target is set."""
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
    # A digest of the difference is enough to see that two machines compile for the same features.
    differ = set(features.split(",")) ^ set(get_host_cpu_features().flatten().split(","))
    digest = hashlib.sha256(",".join(sorted(differ)).encode()).hexdigest()[:12]
    return {
        "processor": processor(),
        "features": f"others ({digest})" if differ - {""} else "its own",
        "optimisation": str(int(config.OPT)),
        "svml": str(bool(config.USING_SVML)),
    }


def altered_target() -> dict[str, str]:
    """Return the parts of the target set by the user; empty where numba chose all."""
    from numba.core import config

    chosen = target()
    asked = {}
    # numba itself leaves features out on some processors: only the user's settings count here.
    if config.CPU_FEATURES is not None or "NUMBA_ENABLE_AVX" in os.environ:
        asked["features"] = chosen["features"]
    # numba's default level is 3.
    if chosen["optimisation"] != "3":
        asked["optimisation"] = chosen["optimisation"]
    return {key: value for key, value in asked.items() if value != "its own"}


def blas() -> str:
    """Return the name, version and processor kind of NumPy's library of linear algebra."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # Other packages, such as SciPy, may have loaded a library of their own.
    own = [library for library in found if "numpy" in library["filepath"]] or found
    parts = ("internal_api", "version", "architecture")
    names = {" ".join(str(library[part]) for part in parts if library.get(part)) for library in own}
    return ", ".join(sorted(names)) or "unknown"


@dataclass(frozen=True)
class BlasKernels:
    """The code that one library of linear algebra runs.

    Parameters
    ----------
    package : str
        The package that brought the library: ``"numpy"``, ``"scipy"``, or the name of its file.
    library : str
        The library's name, such as ``"openblas"``.
    version : str
        Empty where the library does not report it.
    architecture : str
        The kind of processor whose code it runs, such as ``"SkylakeX"``; empty where the library
        does not report it.
    threads : int
    """

    package: str
    library: str
    version: str
    architecture: str
    threads: int


def chosen_kernels() -> list[BlasKernels]:
    """Return the code that each loaded library of linear algebra runs."""
    return [
        BlasKernels(
            _package(library["filepath"]),
            library["internal_api"],
            library.get("version") or "",
            library.get("architecture") or "",
            library["num_threads"],
        )
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def older_kernels() -> str | None:
    """Return a line if NumPy's OpenBLAS runs code for an older processor than this one.

    Returns
    -------
    str or None
        None where the code fits the processor, and where this is unknown: for other libraries,
        and for kinds of processors that are not listed here.
    """
    from llvmlite.binding import get_host_cpu_features

    features = {name for name, has in get_host_cpu_features().items() if has}
    for kernels in chosen_kernels():
        # dkde's matrix products are NumPy's: SciPy's own library does none of them.
        if kernels.library != "openblas" or kernels.package == "scipy":
            continue
        instructions = _unused(kernels.architecture, features)
        if instructions is not None:
            return (
                f"OpenBLAS {kernels.version} runs its code for {kernels.architecture}, without "
                f"this processor's {instructions}: matrix products may take twice as long; a newer "
                "NumPy may choose better"
            )
    return None


def _unused(architecture: str, features: set[str]) -> str | None:
    """Return the newest vector instructions of a processor, if the code uses older ones."""
    # Kinds of x86 and ARM processors have different names: the code's kind says which it is.
    for levels in _LEVELS.values():
        used = [i for i, (_, _, kinds) in enumerate(levels) if architecture.lower() in kinds]
        if used:
            newest = max(i for i, (_, needed, _) in enumerate(levels) if needed <= features)
            return levels[newest][0] if newest > used[0] else None
    return None


def _package(file: str) -> str:
    """Return the package that brought a library, by the folder that wheels keep it in."""
    parts = file.replace("\\", "/").split("/")
    for name in ("numpy", "scipy"):
        if {f"{name}.libs", name} & set(parts):
            return name
    return parts[-1]
