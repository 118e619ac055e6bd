"""Parsers of the options' values."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

RULES = ("scott", "silverman", "isj")
ROLES = ("train", "query", "valid", "test")
COVARIANCES = ("identity", "diag", "full")


def parse_bandwidths(text: str | None, option: str = "--bandwidths") -> Any:
    """Return bandwidths from an option's text, or the name of a rule; None without a text.

    Raises
    ------
    InputError
        When the text cannot be read; the message names the option.
    """
    if text is None or text in RULES:
        return text
    if "=" in text:
        return parse_scales(text, option)
    import dkde

    words = [word.strip() for word in text.split(",")]
    if any(word in RULES for word in words):
        return [word if word in RULES else parse_bandwidth(word, option) for word in words]
    try:
        return dkde.parse_bandwidths(text)
    except dkde.InputError as error:
        raise dkde.InputError(f"{option}: {error}") from error


def parse_scales(text: str, option: str) -> dict[str, float | str]:
    """Return ``depth=10,time=2`` as numbers by name; lengths on the Earth, 100km, stay text.

    Raises
    ------
    InputError
        When the text cannot be read; the message names the option.

    Examples
    --------
    >>> parse_scales("lat,lon=100km,depth=20", "--bandwidth")
    {'lat,lon': '100km', 'depth': 20.0}
    """
    from dkde import InputError

    found: dict[str, float | str] = {}
    for part, name, value in _by_names(text, option):
        length = value.removesuffix("km")
        try:
            number = float(length)
        except ValueError:
            number = 0.0
        if not name or not 0 < number < float("inf"):
            raise InputError(
                f"{option} {text!r}: {part!r} is not NAME=NUMBER; write depth=10,time=2, a "
                "positive number for each feature"
            )
        found[name] = number if length == value else value
    return found


def parse_kernels(text: str) -> dict[str, str]:
    """Return ``lat,lon=vonmises_fisher,depth=gaussian`` as kernels by the names of features.

    Raises
    ------
    InputError
        When the text cannot be read.
    """
    from dkde import InputError

    found: dict[str, str] = {}
    for part, name, kernel in _by_names(text, "--kernel"):
        if not name or not kernel:
            raise InputError(
                f"--kernel {text!r}: {part!r} is not NAME=KERNEL; write "
                "lat,lon=vonmises_fisher,depth=gaussian, a kernel for each feature"
            )
        found[name] = kernel
    return found


def _by_names(text: str, option: str) -> list[tuple[str, str, str]]:
    """Return the parts of ``a=1,b,c=2``, their names and values; ``b,c`` is the name of one."""
    from dkde import InputError

    found: list[tuple[str, str, str]] = []
    names: list[str] = []
    pieces = [piece.strip() for piece in text.split(",")]
    for i, piece in enumerate(pieces):
        if piece and "=" not in piece and i + 1 < len(pieces):
            names.append(piece)
            continue
        # The last =, as a name may hold one.
        name, _, value = (each.strip() for each in piece.rpartition("="))
        name = ",".join([*names, name] if name else [])
        if any(name == other for _, other, _ in found):
            raise InputError(f"{option} {text!r}: {name} is given twice")
        found.append((",".join([*names, piece]), name, value))
        names = []
    return found


def parse_share(text: str | None, option: str) -> float | None:
    """Return ``1%`` or ``0.01`` as a share; None without a text.

    Raises
    ------
    InputError
        When the text is no number.

    Examples
    --------
    >>> parse_share("1%", "--flag"), parse_share("0.01", "--flag")
    (0.01, 0.01)
    """
    from dkde import InputError

    if text is None:
        return None
    number = text.strip()
    try:
        return float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise InputError(f"{option} is {text!r}; write a share such as 1% or 0.01") from None


def parse_priors(text: str | None) -> dict[str, float] | None:
    """Return ``T=0.7,B=0.3`` as probabilities by class; None without a text.

    Raises
    ------
    InputError
        When the text cannot be read.

    Examples
    --------
    >>> parse_priors("T=0.7,B=0")
    {'T': 0.7, 'B': 0.0}
    """
    from dkde import InputError

    if text is None:
        return None
    found: dict[str, float] = {}
    for part, name, value in _by_names(text, "--priors"):
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--priors {text!r}: {part!r} is not CLASS=NUMBER; write T=0.7,B=0.3")
    return found


def parse_support(texts: Sequence[str]) -> dict[str, Any] | None:
    """Return ``depth=0:`` and ``hour=periodic:24`` as bounds and periods by name; None without any.

    Raises
    ------
    InputError
        When a text cannot be read.
    """
    from dkde import InputError, Periodic

    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = (piece.strip() for piece in text.rpartition("="))
        kind, *numbers = value.split(":")
        is_periodic = kind.strip() == "periodic"
        try:
            bounds: list[Any] = [float(bound) if bound.strip() else None for bound in numbers]
            if not is_periodic:
                bounds.insert(0, float(kind) if kind.strip() else None)
        except ValueError:
            bounds = []
        right = (1, 2) if is_periodic else (2,)
        if not name or len(bounds) not in right or (is_periodic and None in bounds):
            raise InputError(
                f"--support {text!r} is not NAME=LOW:HIGH; write depth=0:, fraction=0:1 or "
                "hour=periodic:24"
            )
        if name in found:
            raise InputError(f"--support {text!r}: {name} is given twice")
        found[name] = Periodic(*bounds) if is_periodic else tuple(bounds)
    return found or None


def parse_bandwidth(text: str, option: str = "--bandwidth") -> Any:
    """Return the one bandwidth of ``--bandwidth``, or the name of a rule.

    Raises
    ------
    InputError
    """
    if text in RULES:
        return text
    if "=" in text:
        return parse_scales(text, option)
    import dkde

    # One length on the Earth, such as 250km.
    length = text.strip()
    if length.endswith("km") and "," not in length and ":" not in length:
        return parse_bandwidths(length, option)[0]
    # A list or a grid is refused here; parse_bandwidths would take it.
    try:
        float(text)
    except ValueError:
        raise dkde.InputError(
            f"{option} {text!r} is not one number; write 0.2, or {' or '.join(RULES)}"
        ) from None
    return float(parse_bandwidths(text, option)[0])


def parse_covariance(text: str) -> Any:
    """Return the value of ``--covariance``: a word, scales by name, numbers, or those in a file.

    Raises
    ------
    InputError
    """
    if text in COVARIANCES:
        return text
    import dkde

    if not Path(text).exists():
        if "=" in text:
            return parse_scales(text, "--covariance")
        with suppress(ValueError):
            rows = [[float(number) for number in row.split(",")] for row in text.split(";")]
            return rows if ";" in text else rows[0]
        raise dkde.InputError(
            f"--covariance {text}: there is no such file; give a .npy file, scales such as 1,10,10 "
            f"or by name as depth=10,time=2, or one of {', '.join(COVARIANCES)}"
        )
    return dkde.read_covariance(text)


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """Return ``10000000000x3`` as numbers of rows and of features; None without a text.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_shape("1e10x3")
    (10000000000, 3)
    """
    if text is None:
        return None
    from dkde import InputError

    numbers = []
    for part in text.lower().split("x"):
        with suppress(ValueError):
            value = float(part)
            numbers += [int(value)] if value.is_integer() and value >= 1 else []
    if len(numbers) != 2 or text.lower().count("x") != 1:
        raise InputError(f"--shape {text!r} cannot be read; write rows and features as 1000000x3")
    return numbers[0], numbers[1]


def parse_workers(text: str | None) -> tuple[int, ...]:
    """Return ``1,64,512`` as numbers of workers; none without a text.

    Raises
    ------
    InputError
    """
    if text is None:
        return ()
    from dkde import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--workers {text!r} cannot be read; write a number, or several as 1,64")
    return tuple(map(int, parts))


def parse_image_shape(text: str | None) -> tuple[int, ...] | None:
    """Return ``28x28`` or ``3x32x32`` as numbers.

    Raises
    ------
    InputError
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        from dkde import InputError

        raise InputError(f"--image-shape {text!r} cannot be read; write 28x28 or 3x32x32") from None


@overload
def parse_names(text: str) -> list[str]: ...
@overload
def parse_names(text: None) -> None: ...
def parse_names(text: str | None) -> list[str] | None:
    """Return ``a,b,c`` as names.

    Raises
    ------
    InputError
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        import dkde

        raise dkde.InputError(f"{text!r} is not a list of names; write a,b,c")
    return names


def parse_by_role(texts: Iterable[str], parse: Callable[[str], Any] = str.strip) -> Any:
    """Return the value of an option, or those of sides by role; None where it is not given.

    Parameters
    ----------
    texts : iterable of str
        Values: for all sides ``x,y``, or for single ones ``query:x,y``. Lists of names for the same
        sides are one list.
    parse : callable
        Makes the value of a text.

    Raises
    ------
    InputError
        When two texts are for the same side.

    Examples
    --------
    >>> parse_by_role(["a,b"], parse_names), parse_by_role(["query: x", "valid:y"])
    (['a', 'b'], {'query': 'x', 'valid': 'y'})
    """
    found: dict[str, Any] = {}
    for text in texts:
        role, colon, rest = text.partition(":")
        key, value = (role.strip(), rest) if colon and role.strip() in ROLES else ("", text)
        parsed = parse(value)
        is_more = key in found and isinstance(parsed, list)
        if (key in found and not is_more) or (found and ("" in found) != (key == "")):
            import dkde

            raise dkde.InputError(
                f"{text!r} is given beside {next(iter(found.values()))!r}; give one for all sides, "
                "or one for each, such as query:..."
            )
        found[key] = [*found[key], *parsed] if is_more else parsed
    return found.get("") if set(found) <= {""} else found


def parse_cluster_options(texts: Iterable[str]) -> dict[str, Any] | None:
    """Return the values of ``--cluster-option KEY=VALUE`` by key; None if there are none.

    Examples
    --------
    >>> parse_cluster_options(["cores=4", "walltime=01:00:00", "security=false", "account=007"])
    {'cores': 4, 'walltime': '01:00:00', 'security': False, 'account': '007'}
    >>> parse_cluster_options(['job-script-prologue=["module load python"]'])
    {'job_script_prologue': ['module load python']}

    Raises
    ------
    InputError
    """
    return dict(map(_cluster_option, texts)) or None


def _cluster_option(text: str) -> tuple[str, Any]:
    """Return one cluster option; errors name only its key, as the value may be secret."""
    from dkde import InputError

    key, _, value = text.partition("=")
    name = key.strip().replace("-", "_")
    if not name.isidentifier() or not value:
        raise InputError(f"--cluster-option {key!r} is not KEY=VALUE, such as walltime=01:00:00")
    # Other texts that look like numbers may be names at the site, such as the account 007 or 1e5.
    if not re.fullmatch(r'-?(0|[1-9]\d*)|true|false|null|[\[{"].*', value, re.DOTALL):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        raise InputError(
            f"--cluster-option {key!r}: the value begins like JSON and cannot be read as JSON; "
            'write a list as ["a", "b"]'
        ) from None


def parse_sources(texts: Sequence[str]) -> dict[str, str]:
    """Return present paths by former ones, from texts OLD=NEW.

    Paths may hold ``=`` themselves, as folders by year do: the text is split where the second half
    is there, else at the first one.

    Raises
    ------
    InputError
        When a text has no ``=`` or nothing on one side of it.
    """
    found = {}
    for text in texts:
        places = [number for number, mark in enumerate(text) if mark == "="]
        pairs = [(text[:place], text[place + 1 :]) for place in places]
        pairs = [(old, new) for old, new in pairs if old and new]
        if not pairs:
            from dkde import InputError

            raise InputError(
                f"--source {text!r} cannot be read; write OLD=NEW, the path that the result names "
                "and where it is now"
            )
        there = [pair for pair in pairs if "://" in pair[1] or os.path.exists(pair[1])]
        old, new = (there or pairs)[0]
        found[old] = new
    return found
