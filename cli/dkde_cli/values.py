"""How the values of options are read."""

from pathlib import Path
from typing import Any

RULES = ("scott", "silverman")
COVARIANCES = ("identity", "diag", "full")


def parse_bandwidths(text: str | None, option: str = "--bandwidths") -> Any:
    """Bandwidths from an option's text, or the rule that it names; None where there is none.

    Raises
    ------
    InputError
        That names the option.
    """
    if text is None or text in RULES:
        return text
    import dkde

    try:
        return dkde.parse_bandwidths(text)
    except dkde.InputError as error:
        raise dkde.InputError(f"{option}: {error}") from error


def parse_bandwidth(text: str) -> Any:
    """The one bandwidth of ``--bandwidth``, or the rule that it names.

    Raises
    ------
    InputError
    """
    if text in RULES:
        return text
    import dkde

    try:
        float(text)
    except ValueError:
        raise dkde.InputError(
            f"--bandwidth {text!r} is not one number; write 0.2, or {' or '.join(RULES)}"
        ) from None
    return float(parse_bandwidths(text, "--bandwidth")[0])


def parse_covariance(text: str) -> Any:
    """What ``--covariance`` names: one of the words, or the numbers in a file.

    Raises
    ------
    InputError
    """
    if text in COVARIANCES:
        return text
    import dkde

    if not Path(text).exists():
        raise dkde.InputError(
            f"--covariance {text}: there is no such file, and it is none of "
            f"{', '.join(COVARIANCES)}"
        )
    return dkde.read_covariance(text)


def parse_image_shape(text: str | None) -> tuple[int, ...] | None:
    """``28x28`` or ``3x32x32`` as numbers.

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
