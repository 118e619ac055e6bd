"""A guard for programs whose main module starts processes without ``if __name__``.

A process that multiprocessing spawns imports the program's main module first. Where that starts
processes as it is imported, it would do so in each of them.
"""

import sys
from multiprocessing import process
from pathlib import Path
from types import FrameType

UNGUARDED = (
    "each worker runs this program's main module first, which would start workers again; put what "
    'the program does under: if __name__ == "__main__":'
)


def runs_unguarded() -> bool:
    """Return whether the main module is running and would start processes in its children.

    Where its text does not show it, such a process is the first to notice: there this exits.
    """
    if getattr(process.current_process(), "_inheriting", False):
        raise SystemExit(f"dkde: {UNGUARDED}")
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or not _is_running(vars(main)):  # a prompt, or a notebook
        return False
    try:
        return "__name__" not in Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return False


def _is_running(names: object) -> bool:
    """Return whether a module of these names is running, further up this call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False
