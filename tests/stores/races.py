"""Let two imports race for a place, twenty times; a line for each loser: place, source, message.

Arguments: a folder with `a.npy` and `c.npy`; `flags`, or `none` for a system that can neither
rename exclusively nor exchange.
"""

import multiprocessing
import sys
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError
from dkde.inputs import importing
from dkde.stores import renaming  # all that is needed, before the processes are forked


def bring(folder: Path, system: str, number: int, name: str, together: Any) -> None:
    if system == "none":
        renaming._call = lambda: None  # type: ignore[assignment]
    try:
        importing.import_dataset(
            folder / name,
            folder / f"{number}.zarr",
            index=False,
            progress=lambda *_: together.wait(60),
        )
    except DataSetError as error:
        sys.stdout.write(f"{number} {name} {error}\n")
        sys.stdout.flush()


def main() -> None:
    folder, system = Path(sys.argv[1]), sys.argv[2]
    context = multiprocessing.get_context("fork")
    for number in range(20):
        together = context.Barrier(2)
        pair = [
            context.Process(target=bring, args=(folder, system, number, name, together))
            for name in ("a.npy", "c.npy")
        ]
        for process in pair:
            process.start()
        for process in pair:
            process.join()
            if process.exitcode != 0:
                sys.exit(f"{number}: status {process.exitcode}")


if __name__ == "__main__":
    main()
