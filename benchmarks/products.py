"""Matrix products alone, as many as blocks of pictures need, for processes of their own."""

import numpy as np
from threadpoolctl import threadpool_limits

# Rows of a block of about a second, and of the pieces in which it is multiplied.
BLOCK_ROWS, _PIECE = 4000, 250


def multiply(n_blocks: int, n_train: int) -> None:
    """Multiply so many blocks, on one thread."""
    rng = np.random.default_rng(0)
    query, train = (rng.random((n, 784), np.float32) for n in (_PIECE, n_train))
    out = np.empty((_PIECE, n_train), np.float32)
    with threadpool_limits(1):
        for _ in range(n_blocks * BLOCK_ROWS // _PIECE):
            np.dot(query, train.T, out=out)
