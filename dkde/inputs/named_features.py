"""The features that users name in data frames of pandas, as numbers for scikit-learn's checks."""

from typing import Any

import pandas as pd

from dkde.inputs.frame_columns import is_plain
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand
from dkde.rows.columns import Columns


def as_numbers(data: Any, catalog: Catalog, role: str, like: Columns | None = None) -> Any:
    """Return a data frame with the named features as numbers; return any other data unchanged.

    Bools, times and lists are features where they are named.

    Parameters
    ----------
    data, catalog, role, like
        As for :func:`dkde.inputs.sides.operand`.
    """
    wanted = catalog.features
    if wanted is None or not isinstance(data, pd.DataFrame) or not set(wanted) <= set(data.columns):
        return data
    if all(map(is_plain, data[list(wanted)].dtypes)):
        return data
    found = operand(data, role, catalog, like)
    values = found.rows.read(0, found.rows.n_rows, decode=True)
    return pd.DataFrame(values, columns=found.features)
