"""Certificates with which a scheduler and its workers' jobs authenticate each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from dkde.errors import ClusterError

if TYPE_CHECKING:
    from distributed.security import Security


def security_for(wanted: Any, folder: Path) -> Security | None:
    """Return Dask's own TLS settings; else certificates for this cluster alone, in files.

    Parameters
    ----------
    wanted : bool, None or Security
    folder : Path
        That jobs see, and nobody else: where certificates are written.

    Raises
    ------
    ClusterError
        When there is nothing to make them with.

    Notes
    -----
    The scheduler listens where jobs reach it, and so does everybody else: whoever talks to it
    without a certificate could run code.
    """
    from distributed.security import Security

    if wanted is None or wanted is False:
        return None
    if wanted is not True:
        found: Security = wanted
        return found
    if dask.config.get("distributed.comm.tls.scheduler.cert", None):
        return Security(require_encryption=True)
    try:
        made = Security.temporary().get_tls_config_for_role("worker")
    except ImportError as error:
        raise ClusterError(
            "certificates for the jobs need cryptography: python -m pip install 'dkde[jobqueue]'; "
            "or, where nobody else is in the network, give the cluster option security=false"
        ) from error
    for name in ("ca_file", "cert", "key"):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(made[name])
    pair = {
        f"tls_{role}_{name}": str(folder / name)
        for role in ("client", "scheduler", "worker")
        for name in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(folder / "ca_file"), **pair)
