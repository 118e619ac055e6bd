"""Processes of this machine."""

import psutil


def is_alive(pid: int, started: float) -> bool:
    """Return whether a process exists that began at that time, in seconds since the epoch."""
    try:
        # One that is younger has the number of another that is gone.
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE  # killed, and not yet waited for
        return bool(process.create_time() <= started + 1 and not gone)
    except psutil.Error:
        return False
