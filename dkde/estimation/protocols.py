"""Published protocols that estimate log-likelihoods by Parzen windows, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dkde.datasets.dataset import open_root
from dkde.errors import Argument, DataSetError, InputError, Remedy, warn
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operand
from dkde.numerics.bandwidth import parse_bandwidths
from dkde.stores.door import check_opened
from dkde.typing import Names, RowsLike, Text

_SIDES = ("train", "valid", "test")
# The settings of a protocol, in the order in which a sweep takes them over.
SETTINGS = (*_SIDES, "bandwidths")


@dataclass(frozen=True)
class Take:
    """The rows of a split that a protocol uses: start up to stop, or all where stop is None."""

    split: str
    start: int = 0
    stop: int | None = None

    @property
    def selector(self) -> str:
        """Return the selector that names these rows."""
        return self.split if self.stop is None else f"{self.split}[{self.start or ''}:{self.stop}]"


@dataclass(frozen=True)
class Protocol:
    """The settings of a published protocol.

    Parameters
    ----------
    name : str
    reference : str
        Its publication.
    train_rows : int
        The number of training rows.
    takes : mapping of role to Take
        The rows of each role for which the user names none. Where train is not among them, the
        user must name training rows, and the first ones are taken.
    bandwidths : str
        The grid, as on the command line.
    shuffle_seed : int, optional
        The seed with which the training rows of its data set were shuffled.
    """

    name: str
    reference: str
    train_rows: int
    takes: Mapping[str, Take]
    bandwidths: str
    shuffle_seed: int | None = None


# The settings are copied from the publications and scripts, and must stay as they are there.
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "gan2014",
            "Goodfellow et al. (2014), Generative Adversarial Nets, section 5, and "
            "https://github.com/goodfeli/adversarial, parzen_ll.py",
            10_000,
            {"valid": Take("valid", stop=1000), "test": Take("test")},
            "logspace:-1:0:10",
        ),
        Protocol(
            "scratch2019",
            "McAteer, Gaussian KDE from Scratch, "
            "https://matthewmcateer.me/blog/gaussian-kde-from-scratch/",
            10_000,
            {
                "train": Take("train", stop=10_000),
                "valid": Take("train", 10_000, 20_000),
                "test": Take("test"),
            },
            "0.05,0.08,0.1,0.2,0.5,1,1.5,2",
            shuffle_seed=1573368177,
        ),
    )
}
# The density of both: scikit-learn's Gaussian, of one width in all directions.
_PLAIN = {"kernel": "gaussian", "metric": "euclidean", "covariance": "identity", "weights": None}


def follow_protocol(
    name: str,
    *,
    train: RowsLike = None,
    valid: RowsLike = None,
    test: RowsLike = None,
    bandwidths: Any = None,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    **density: Any,
) -> dict[str, Any]:
    """Return the settings of a sweep by a protocol; settings that are given replace its own.

    Parameters
    ----------
    name : {"gan2014", "scratch2019"}
        ``gan2014``, after Goodfellow et al. (2014) and their script: the first 10,000 rows of
        ``train``, which holds generated rows and must be named; bandwidths
        ``logspace:-1:0:10``, chosen by the first 1,000 rows of the split valid; the split test.
        ``scratch2019``, after McAteer's article: the first 10,000 rows of the split train,
        shuffled at the import with the seed 1573368177, and the next 10,000 for validation;
        bandwidths 0.05, 0.08, 0.1, 0.2, 0.5, 1, 1.5, 2; the split test.
    train, valid, test, bandwidths
        As for :func:`dkde.sweep`. What is given is used as it is, with a warning where it differs
        from the protocol. There is one exception: where ``train`` names no range of rows, gan2014
        takes the first ones.
    source : str or Catalog, optional
        The data set whose splits are meant.
    row_dim, lat, lon
        As for :func:`dkde.log_density`.
    density
        Kernel, metric, covariance and weights, where they are given. They are not changed; those
        that differ from the protocol are only named by the warning.

    Returns
    -------
    dict
        ``train``, ``valid``, ``test`` and ``bandwidths`` for :func:`dkde.sweep`, and
        ``protocol``, the record for its provenance.

    Raises
    ------
    InputError
        For an unknown name, and where the data have too few rows.

    Examples
    --------
    >>> import dkde
    >>> dkde.follow_protocol("gan2014", train="digits::train", source="digits")
    Traceback (most recent call last):
    dkde.errors.InputError: protocol gan2014 takes 10000 training rows, and digits::train has ...
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is not known; choose one of: {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    catalog = catalog_of(
        source,
        ("train", "valid", "test"),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
    )
    catalog = catalog.for_a_call((density.get("weights"),))
    if any(catalog.for_role(role).choice.where is not None for role in _SIDES):
        raise InputError(
            f"protocol {name} says which rows it takes; leave out ", Argument("where"),
            ", or the protocol"
        )  # fmt: skip
    given = {"train": train, "valid": valid, "test": test}
    # By role: the settings to use, and the protocol's own in words; then all differences.
    taken: dict[str, Any] = {}
    own, others = dict[str, str](), list[str]()
    for role in _SIDES:
        take = protocol.takes.get(role)
        # gan2014 has no training rows of its own: they are what a generator made.
        if take is None:
            taken[role] = _first_rows(protocol, given[role], catalog)
            own[role] = f"the first {protocol.train_rows} rows"
            n_rows = operand(taken[role], role, catalog).rows.n_rows
            if n_rows != protocol.train_rows:
                others.append(f"{n_rows} rows of {role}, not {protocol.train_rows}")
            continue
        own[role] = take.selector
        if given[role] is None:
            _check_there(protocol, role, take, catalog)
            taken[role] = take.selector
        else:
            taken[role] = given[role]
            if not isinstance(given[role], str) or given[role] != take.selector:
                others.append(f"{role} {_words(given[role])}, not {take.selector}")
    grid = parse_bandwidths(protocol.bandwidths)
    taken["bandwidths"], own["bandwidths"] = grid, protocol.bandwidths
    if bandwidths is not None:
        check_opened(bandwidths)
        taken["bandwidths"] = bandwidths
        if isinstance(bandwidths, str) or not np.array_equal(np.asarray(bandwidths), grid):
            others.append(f"bandwidths {_words(bandwidths)}, not {protocol.bandwidths}")
    others += [
        f"{option} {_words(density[option])}, not {plain or 'none'}"
        for option, plain in _PLAIN.items()
        if option in density and not _is_plain(density[option], plain)
    ]
    # Only the protocol's own training rows should be shuffled so; others were named already.
    if protocol.shuffle_seed is not None and taken["train"] == protocol.takes["train"].selector:
        others += _unshuffled(protocol, catalog)
    if others:
        warn(f"these differ from protocol {name}: {'; '.join(others)}")
    # Results keep the record: its keys may not be renamed.
    record = {"name": name, "reference": protocol.reference, "sets": own, "otherwise": others}
    return taken | {"protocol": record}


def _first_rows(protocol: Protocol, given: Any, catalog: Catalog) -> Any:
    """Return the first rows of given training rows; a range is returned as it is."""
    n = protocol.train_rows
    if given is None:
        raise InputError(
            f"protocol {protocol.name} needs {n} generated rows as train; name them ",
            Remedy("train"),
        )
    side = operand(given, "train", catalog)
    rows = side.rows
    # A part that is shorter than its source is a range, which the user has chosen.
    if any(len(part) < part.source.shape[0] for part in rows.parts):
        return given
    if rows.n_rows < n:
        raise InputError(
            f"protocol {protocol.name} takes {n} training rows, and {rows.label} has "
            f"{rows.n_rows}; generate more, or leave the protocol out"
        )
    return replace(side, rows=rows[:n])


def _check_there(protocol: Protocol, role: str, take: Take, catalog: Catalog) -> None:
    """Refuse a data set that does not have the rows of a protocol."""
    splits, data = catalog.splits(), catalog.location or "no data set"
    if take.split not in splits:
        # Without a data set the sentence reads "and no data set was named".
        has = f"has {', '.join(splits)}" if splits else "was named"
        raise InputError(
            f"protocol {protocol.name} takes {take.selector} as {role}, and {data} {has}; name "
            "others ",
            Remedy(role),
        )
    n_rows = len(splits[take.split])
    if take.stop is not None and n_rows < take.stop:
        raise InputError(
            f"protocol {protocol.name} takes {take.selector} as {role}, and {data} has {n_rows} "
            f"rows in {take.split}; name others ",
            Remedy(role),
            ", or leave the protocol out",
        )


def _unshuffled(protocol: Protocol, catalog: Catalog) -> list[str]:
    """Return the difference in shuffling between the data set and the protocol, if any."""
    try:
        options: Any = open_root(catalog.location or "").attrs.get("import_options") or {}
    except DataSetError:  # a file has no import options, and was not shuffled by dkde
        options = {}
    seed = options.get("shuffle_seed")
    if seed == protocol.shuffle_seed:
        return []
    found = "not shuffled" if seed is None else f"shuffled by {seed}"
    return [f"train was {found} when it was imported, not by {protocol.shuffle_seed}"]


def _is_plain(value: Any, plain: Any) -> bool:
    """Return whether an option has the value of the protocols; arrays never have."""
    return value is None if plain is None else isinstance(value, str) and value == plain


def _words(value: Any) -> str:
    """Return an argument as short text, for the warning."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value[:16]) + ",..." * (len(value) > 16)
    numbers = np.asarray(value) if isinstance(value, list | tuple | np.ndarray) else None
    if numbers is not None and numbers.ndim == 1 and len(numbers) <= 16:
        return ",".join(f"{number:.6g}" for number in numbers)
    return f"of type {type(value).__name__}"
