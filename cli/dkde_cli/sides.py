"""The rows that a command takes where the user names none."""

from typing import Any

import click


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
    if role == "train" and "" in splits:  # a store or a file of others, whole
        return data
    from dkde import InputError

    name, n_rows = next((name, len(rows)) for name, rows in splits.items())
    cut = max(1, n_rows * 4 // 5)
    name = name or data
    example = f"--{role} {name}"
    if role == "valid":
        example = f"--train '{name}[:{cut}]' --valid '{name}[{cut}:]'"
    raise InputError(
        f"{data}: has no split {role} (it has {', '.join(filter(None, splits)) or 'none'}); say "
        f"with --{role} which rows to take, for instance {example}"
    )


def default_test(catalog: Any, selector: str | None, **others: str) -> str | None:
    """The selector that was given, else the data set's split test, if it has one that is unused.

    Parameters
    ----------
    others : str
        The selectors of the other roles: what is trained or chosen on tests nothing.
    """
    if selector is not None or "test" not in catalog.splits():
        return selector
    test = catalog.rows("test")
    for role, other in others.items():
        used = catalog.rows(other).parts
        if any(part.overlaps(mine) for part in used for mine in test.parts):
            click.echo(
                f"No test rows: the split test shares rows with --{role} {other}; name others "
                "with --test, or say --no-test",
                err=True,
            )
            return None
    return "test"
