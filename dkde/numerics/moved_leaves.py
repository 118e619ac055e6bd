"""Query rows in leaves, moved to their images."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dkde.numerics.distances import GROUP
from dkde.numerics.images import Image
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.leaf_tiles import bounds_along
from dkde.numerics.tree import QUERY_LEAF, QueryLeaves, Tree
from dkde.typing import FloatArray

Marks = npt.NDArray[np.bool_]


def near_images(
    query: QueryLeaves,
    tree: Tree,
    images: Sequence[Image],
    axes: LeafAxes | None,
    limits: FloatArray,
) -> Iterator[tuple[QueryLeaves, Marks]]:
    """Yield images of query leaves, those leaves only that are within their limits of a tree.

    Parameters
    ----------
    query : QueryLeaves
    tree : Tree
    images : sequence of Image
        Of rows as they were read.
    axes : LeafAxes, optional
        Those of both sides.
    limits : array (rows,)
        Squared Euclidean distances beyond which pairs of a row do not matter.

    Yields
    ------
    QueryLeaves
        The leaves that are near, moved.
    array (rows,) of bool
        Which of the rows these are.
    """
    furthest = np.maximum.reduceat(limits, np.arange(0, len(limits), QUERY_LEAF))
    for image in images:
        here = image if axes is None else image.in_order(axes.columns)
        if axes is None or not len(axes.directions):
            low, high = here.of_boxes(query.low, query.high)
            with np.errstate(over="ignore", invalid="ignore"):
                apart = np.maximum(np.maximum(tree.low[0] - high, low - tree.high[0]), 0.0)
                # As in the walk, boxes at the limit itself are near.
                near = ~((apart * apart).sum(axis=1) > furthest)
        else:
            near = np.ones(query.n_leaves, np.bool_)
        if not near.any():
            continue
        some = query if near.all() else query.chosen(near)
        yield moved(some, here, axes), np.repeat(near, QUERY_LEAF)[: len(query.rows)]


def moved(query: QueryLeaves, image: Image, axes: LeafAxes | None) -> QueryLeaves:
    """Return the images of query rows in the same leaves.

    Parameters
    ----------
    image : Image
        Its columns in the order of the axes, if any.
    """
    rows = image.of(query.rows)
    if axes is None or not len(axes.directions):
        low, high = image.of_boxes(query.low, query.high)
        group_low, group_high = image.of_boxes(query.group_low, query.group_high)
        return replace(
            query, rows=rows, low=low, high=high, group_low=group_low, group_high=group_high
        )
    least, most = bounds_along(rows, axes.origin, axes.directions)
    leaves, groups = (np.arange(0, len(rows), each) for each in (QUERY_LEAF, GROUP))
    return replace(
        query, rows=rows,
        low=np.minimum.reduceat(least, leaves), high=np.maximum.reduceat(most, leaves),
        group_low=np.minimum.reduceat(least, groups),
        group_high=np.maximum.reduceat(most, groups),
    )  # fmt: skip
