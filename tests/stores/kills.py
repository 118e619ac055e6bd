"""Import over a data set again and again, killed each time one step later.

Arguments: a folder with `a.npz`, `b.npz` and the data set `old`; `flags`, or `none` for a system
that can neither rename exclusively nor exchange. In `1`, `2`, ... is then what each kill left.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import dkde
from dkde.datasets import placing
from dkde.stores import renaming

STEPS = ("rename", "replace", "link", "mkdir", "rmdir", "unlink", "scandir")


def killing(step: int, system: str) -> None:
    """Kill this process before a system call of those that put a data set in its place."""
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return call

    def publish(*arguments: Any) -> None:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        flagged = None if system == "none" else counted(renaming._call())
        renaming._call = lambda: flagged  # type: ignore[assignment]
        kept(*arguments)

    kept = placing.publish
    placing.publish = publish  # type: ignore[assignment]


def main() -> None:
    folder, system = Path(sys.argv[1]), sys.argv[2]
    step, status = 0, -1
    while status != 0:
        step += 1
        here = folder / str(step)
        shutil.copytree(folder / "old", here / "s.zarr")
        child = os.fork()
        if child == 0:
            killing(step, system)
            dkde.import_dataset(folder / "b.npz", here / "s.zarr", overwrite=True, index=False)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status not in (0, signal.SIGKILL):
            sys.exit(f"step {step}: status {status}")


if __name__ == "__main__":
    main()
