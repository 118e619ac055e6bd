"""Sums of lone query rows over the training rows that lie as lone, without reading the others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dkde.engine.leaves import QueryRows, TrainRows, check_distances, train_rows
from dkde.engine.reading import Reading
from dkde.engine.shelf import SHELF
from dkde.engine.task import Survey, Task
from dkde.numerics import logsum
from dkde.numerics.cell_sums import Marks
from dkde.numerics.frame import Frame, Points
from dkde.numerics.leaf_sums import LeafSums
from dkde.rows.side import Rows
from dkde.typing import FloatArray


def sparse_sums(
    query: QueryRows,
    rows: Rows,
    task: Task,
    survey: Survey,
    bandwidths: Sequence[int],
    frame: Frame,
) -> tuple[FloatArray, Marks]:
    """Return the partial result of pairs with the training rows in sparse cells.

    It is over all training rows for those query rows from which the others are farther away than
    what may be left out.

    Parameters
    ----------
    query : QueryRows
        In leaves.
    rows : Rows
        The training rows, for messages.
    task : Task
    survey : Survey
        With the moments of all training rows.
    bandwidths : sequence of int
        Which of the task's.
    frame : Frame
        The frame of both sides.

    Returns
    -------
    array (2 n_bandwidths + 4, rows)
    array (rows,) of bool
        Of which query rows it is the partial result.
    """
    whole = survey.whole
    assert query.leaves is not None
    assert whole is not None
    n_rows = query.leaves.n_rows
    result = logsum.identity(len(bandwidths), n_rows)
    values = whole.sparse.rows
    if values is None:
        return result, np.zeros(n_rows, np.bool_)

    weights = whole.sparse.weights

    def make() -> TrainRows:
        return train_rows([Reading(0, values, weights, None)], rows, frame, len(values))

    train = SHELF.get((survey.key, "sparse"), make, others=False)
    if len(train.trees) != 1:  # weights so unlike that they have several units
        return result, np.zeros(n_rows, np.bool_)
    tree, total, others = train.trees[0].tree, float(task.n_train), float(whole.sparse.n_others)
    if weights is not None:
        total = whole.sparse.total(tree.shift)
        others = max(total - tree.total, 0.0)
    some = replace(task, bandwidths=task.bandwidths[list(bandwidths)])
    sums = LeafSums(query.leaves, some.terms(frame))
    check_distances(query, train, some, frame.n_features)
    train.add_to(sums, None, total)
    # The cells are those of coordinates in float64, whatever the precision of pairs.
    at = Points.of(query.values, replace(frame, precision="float64")).coordinates
    far = whole.sparse.squared_distances(at)
    done = sums.leaves_out_for(others, far, total, tree.shift)
    result[:, query.leaves.order] = sums.log_sums()
    logsum.split(result).missing[:] = whole.n_missing
    return result, done
