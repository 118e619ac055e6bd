"""Samples as a data set: like any other, it can be shown, and scored under."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from dkde.datasets.claiming import SeenUrl
from dkde.datasets.formats import SourceSplit
from dkde.datasets.formats.arrays import array_batches
from dkde.datasets.placing import dkde_version, place_dataset
from dkde.rows.side import Rows
from dkde.stores.targets import Seen
from dkde.typing import Array


def write_samples(
    seen: Seen | SeenUrl,
    splits: Mapping[str, Array],
    *,
    like: Rows,
    labels: Mapping[str, Array],
    options: Mapping[str, Any],
    extras: Mapping[str, Mapping[str, Array]],
) -> None:
    """Write arrays (n_samples, n_features) as the splits of a data set.

    Parameters
    ----------
    seen : Seen or SeenUrl
        The place, as :func:`dkde.datasets.placing.check_target` found it.
    like : Rows
        Whose picture shape they have, and that they are said to come from.
    labels : mapping of name to array (n_samples,)
        Of each split.
    options : mapping
        How they were made, JSON values.
    extras : mapping of group to mapping of name to array
        What else belongs to them.

    Raises
    ------
    InputError, DataSetError
    """
    shapes = {(part.image_shape, part.layout) for part in like.parts}
    shape, layout = shapes.pop() if len(shapes) == 1 else (None, None)
    ranges = [part.value_range for part in like.parts if part.value_range is not None]
    shown = None
    if len(ranges) == len(like.parts):
        shown = min(low for low, _ in ranges), max(high for _, high in ranges)
    place_dataset(
        seen,
        [
            SourceSplit(
                name, len(values), values.shape[1], values.dtype,
                partial(array_batches, values), image_shape=shape, layout=layout, labels=labels,
                display_range=shown, features=like.parts[0].features,
            )
            for name, values in splits.items()
        ],
        attributes={
            "source": like.label,
            "source_format": "samples",
            "source_checksum": None,
            "import_options": dict(options),
            "dkde_version": dkde_version(),
        },
        extras=extras,
    )  # fmt: skip
