"""The rows that a command works on, and the defaults where the user names none."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dkde_cli.logs import warn
from dkde_cli.options import (
    bandwidth_scale_option,
    choice_options,
    data_argument,
    decimal_option,
    gathered,
    train_option,
    weights_option,
)


@dataclass(frozen=True)
class Training:
    """The data of a command, and the rows of it that make up the density.

    Parameters
    ----------
    data : str
        Path or name of the data.
    choice : mapping
        Which columns and dims make rows: keywords of a :class:`dkde.Catalog`.
    train, weights, decimal, bandwidth_scale : str or None
        Values of the options of these names.
    """

    data: str
    choice: Mapping[str, Any]
    train: str | None
    weights: str | None
    decimal: str | None = None
    bandwidth_scale: str | None = None

    @cached_property
    def catalog(self) -> Any:
        """Return the data, opened."""
        import dkde

        return dkde.Catalog(self.data, decimal=self.decimal, **self.choice)

    @cached_property
    def selector(self) -> str:
        """Return the selector of the rows; raises as :meth:`split` does."""
        return self.split("train", self.train)

    def split(self, role: str, selector: str | None) -> str:
        """Return the selector that was given, else the data set's split of that name.

        Raises
        ------
        InputError
            When there is neither.
        """
        if selector is not None:
            return selector
        splits = self.catalog.splits()
        if role in splits:
            return role
        if role == "train" and "" in splits:  # a store or file that dkde did not make, as a whole
            return self.data
        from dkde import InputError

        name, n_rows = next((name, len(rows)) for name, rows in splits.items())
        # The example can be given as it stands: four fifths of the rows train, one fifth validates.
        cut = max(1, n_rows * 4 // 5)
        name = name or self.data
        example = f"--{role} {name}"
        if role == "valid":
            example = f"--train '{name}[:{cut}]' --valid '{name}[{cut}:]'"
        raise InputError(
            f"{self.data}: has no split {role} (it has {', '.join(filter(None, splits)) or 'none'})"
            f"; say with --{role} which rows to take, for instance {example}"
        )

    def test_split(self, selector: str | None, **others: str) -> str | None:
        """Return the given selector, else the split test if it shares no row with other roles.

        Parameters
        ----------
        others : str
            Selectors of the other roles: rows that make up the density, or choose the
            bandwidth, are no test.
        """
        if selector is not None or "test" not in self.catalog.splits():
            return selector
        test = self.catalog.everywhere.rows("test")
        for role, other in others.items():
            used = self.catalog.everywhere.rows(other).parts
            if any(part.overlaps(mine) for part in used for mine in test.parts):
                warn(
                    f"No test rows: the split test shares rows with --{role} {other}; name others "
                    "with --test, or say --no-test"
                )
                return None
        return "test"


# DATA, and the options that say which rows make up the density; the command gets ``training``.
training_options = gathered(
    "training",
    Training,
    {
        "data": data_argument,
        "choice": choice_options,
        "train": train_option,
        "weights": weights_option,
        "decimal": decimal_option,
        "bandwidth_scale": bandwidth_scale_option,
    },
)
