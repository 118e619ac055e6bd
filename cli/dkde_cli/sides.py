"""The rows that a command takes where the user names none."""

from typing import Any


def default_split(catalog: Any, data: str, role: str, selector: str | None) -> str:
    """The selector that was given, else the data set's split of that name.

    Raises
    ------
    InputError
        When there is neither.
    """
    if selector is not None:
        return selector
    splits = catalog.splits()
    if role in splits:
        return role
    from dkde import InputError

    name, n_rows = next((name, len(rows)) for name, rows in splits.items())
    cut = max(1, n_rows * 4 // 5)
    example = f"--{role} {name}"
    if role == "valid":
        example = f"--train '{name}[:{cut}]' --valid '{name}[{cut}:]'"
    raise InputError(
        f"{data}: has no split {role} (it has {', '.join(splits)}); say with --{role} which rows "
        f"to take, for instance {example}"
    )


def optional_split(catalog: Any, role: str, selector: str | None) -> str | None:
    """The selector that was given, else the data set's split of that name, if it has one."""
    return role if selector is None and role in catalog.splits() else selector
