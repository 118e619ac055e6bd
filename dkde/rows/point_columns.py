"""Coordinates of points in Parquet files, by the names that they have as features.

A file stores points as one column. Their coordinates can be named as any other column can: as
features, as weights, or in a filter. A column of the file, or a partition, of such a name comes
first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dkde.rows.points import Points, coordinates_of_arrow, main_geometry, points_of_field

if TYPE_CHECKING:
    import pyarrow as pa

# The key of a field's metadata under which the path of its statistics is noted.
PATH = b"dkde.statistics"


@dataclass(frozen=True)
class Coordinate:
    """One coordinate of a column of points.

    Parameters
    ----------
    column : str
        The column of points.
    axis : int
        0 for x or the longitude, 1 for y or the latitude.
    points : Points
        The names and units of both, and the CRS.
    """

    column: str
    axis: int
    points: Points


def coordinates_in(schema: pa.Schema) -> dict[str, Coordinate]:
    """Return the coordinates of all points in a schema, those of the main geometry first."""
    main, found = main_geometry(schema), dict[str, Coordinate]()
    for field in sorted(schema, key=lambda field: field.name != main):
        if (points := points_of_field(field, schema.metadata)) is not None:
            for axis, name in enumerate(points.names):
                found.setdefault(name, Coordinate(field.name, axis, points))
    return found


def with_coordinates(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the schema of a file with the coordinates of its points that are named.

    The metadata of such a field say where its statistics are: in the parts of points that are
    stored as x and y, or in the boxes that the file says cover them. They are empty for others,
    of which no row group can be passed over.
    """
    import pyarrow as pa

    lacking = [name for name in names if name not in schema.names]
    known = coordinates_in(schema) if lacking else {}
    for name in lacking:
        if name in known:
            path = _statistics(schema, known[name])
            noted = {PATH: json.dumps(path)}
            schema = schema.append(pa.field(name, pa.float64(), metadata=noted))
    return schema


def _statistics(schema: pa.Schema, coordinate: Coordinate) -> list[str]:
    """Return the path of a column that holds a coordinate's values; empty if there is none."""
    from pyarrow import types

    own = [coordinate.column, "xy"[coordinate.axis]]
    try:
        about = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
        boxes = about["columns"][coordinate.column]["covering"]["bbox"]
        # The box of a point is the point, unless it was rounded to fewer digits.
        paths = [own, list(boxes[("xmin", "ymin")[coordinate.axis]])]
    except (ValueError, KeyError, TypeError):
        paths = [own]
    for path in paths:
        if len(path) != 2 or path[0] not in schema.names:
            continue
        kind = schema.field(path[0]).type
        at = kind.get_field_index(path[1]) if types.is_struct(kind) else -1
        if at >= 0 and types.is_float64(kind.field(at).type):
            return path
    return []


def column_of_batch(
    batch: pa.RecordBatch, coordinate: Coordinate, decoded: dict[str, Any], where: str, row: int
) -> Any:
    """Return a coordinate of the points in a batch as a column of Arrow.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        The rows, with the column of points.
    coordinate : Coordinate
        The coordinate.
    decoded : dict
        Both coordinates of columns that were decoded already, by column.
    where : str
        The name of the file, for messages.
    row : int
        The number of the first row, for messages.
    """
    import pyarrow as pa

    if coordinate.column not in decoded:
        label = f"{where}: column {coordinate.column!r}"
        points = batch.column(coordinate.column)
        # Who names a coordinate knows that another one is left out.
        decoded[coordinate.column] = coordinates_of_arrow(points, label, row, tells=False)
    return pa.array(decoded[coordinate.column][:, coordinate.axis])


def stored_names(names: Iterable[str], made: Mapping[str, Coordinate]) -> tuple[str, ...]:
    """Return the columns that are read for some names, each once."""
    return tuple(dict.fromkeys(made[name].column if name in made else name for name in names))
