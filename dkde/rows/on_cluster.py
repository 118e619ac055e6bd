"""Dask arrays computed within a task, also where a cluster holds some of their chunks."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

import dask.array as da
from dask.core import flatten

from dkde.errors import ClusterError
from dkde.typing import Array

# Seconds for chunks to be known as finished, before a task gives up its thread to wait for them.
_PATIENCE = 2.0
# Threads of a worker share the sides that were sent to it.
_BINDING = Lock()


def computed_here(array: da.Array, *, on_cluster: bool) -> Array:
    """Compute a lazy array on this thread: a task occupies one, and plans memory for one only.

    Parameters
    ----------
    array : dask.array.Array
        The array.
    on_cluster : bool
        Whether a cluster holds chunks (``persist()``, ``scatter()``). They are brought here first.

    Raises
    ------
    ClusterError
        When the cluster no longer holds such a chunk.
    """
    if on_cluster:
        array = _brought_here(array)
    found: Array = array.compute(scheduler="synchronous")
    return found


def _brought_here(array: da.Array) -> da.Array:
    """Return the same array, with the chunks that it needs from a cluster in its graph."""
    graph = dict(array.__dask_graph__().cull(set(flatten(array.__dask_keys__()))))
    values = {key: _unwrapped(value) for key, value in graph.items()}
    futures = {key: value for key, value in values.items() if is_future(value)}
    graph |= dict(zip(futures, _gathered(list(futures.values()), array), strict=True))
    return da.Array(graph, array.name, array.chunks, meta=array)


def holds_futures(array: da.Array) -> bool:
    """Return whether a cluster holds chunks of an array."""
    return any(map(is_future, graph_values(array)))


def graph_values(array: da.Array) -> Iterator[Any]:
    """Yield the values in the graph's materialized layers; lazy layers stay lazy."""
    for layer in array.__dask_graph__().layers.values():
        if layer.is_materialized():
            yield from map(_unwrapped, layer.values())


def _unwrapped(value: Any) -> Any:
    # Newer versions of Dask wrap data in nodes, which have it as their attribute value.
    return getattr(value, "value", value)


def is_future(value: Any) -> bool:
    """Return whether a value of a graph is a result that a cluster holds."""
    # distributed takes long to import. If nobody has imported it, there are no futures.
    return "distributed" in sys.modules and isinstance(value, sys.modules["distributed"].Future)


def _gathered(futures: Sequence[Any], array: da.Array) -> list[Any]:
    """Return the results that a cluster holds, brought to this process.

    Raises
    ------
    ClusterError
        When the client that held them is closed, or the results are lost for good.
    """
    if not futures:
        return []
    from distributed import CancelledError, rejoin, secede, wait

    gone = ClusterError(
        f"the Dask array of shape {array.shape} has chunks that a cluster held (persist(), "
        "scatter()), and holds no longer; keep its client open, or pass the array from before"
    )
    client, seceded = _client_of(futures), False
    if client is None or client.status == "closed":
        raise gone
    try:
        with client.as_current():
            try:
                wait(list(futures), timeout=_PATIENCE)
            except TimeoutError:
                # What is not there yet may need the thread of this task: results of a worker that
                # ended are made anew.
                with suppress(ValueError):  # no task of a worker, and no thread to give up
                    secede()
                    seceded = True
            found: list[Any] = client.gather(list(futures))
    except CancelledError as error:
        raise gone from error
    finally:
        if seceded:
            rejoin()
    return found


def _client_of(futures: Sequence[Any]) -> Any:
    """Return the client that brings results to this process: a worker's, or the user's own.

    None if there is none.
    """
    from distributed import get_client

    with _BINDING:
        unbound = [future for future in futures if future.client is None]
        if not unbound:
            return futures[0].client
        try:
            client = get_client()
        except ValueError:
            return None
        # Those that came with a task know no client yet, and the scheduler does not know that
        # this worker waits for them.
        for future in unbound:
            future.bind_client(client)
        # No public call says so without a task of its own, which would wait for this thread:
        # distributed's own client sends this message when it connects to a scheduler again.
        keys = [future.key for future in unbound]
        client._send_to_scheduler({"op": "client-desires-keys", "keys": keys, "client": client.id})
        return client
