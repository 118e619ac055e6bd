"""The user's options for rows: one value for all sides of a call, or one for each by its role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dkde.errors import InputError
from dkde.rows.feature_choice import FeatureChoice

# The roles that a side can have in a call; a function has some of them.
ROLES = ("train", "query", "valid", "test")


@dataclass(frozen=True)
class SideChoices:
    """The options that the user gives for the rows of each side.

    Parameters
    ----------
    said : mapping
        The options that were given, by name: a value for all sides, or a mapping by role.
    common : FeatureChoice
        The choice for sides that are not among ``by_role``.
    by_role : mapping of str to FeatureChoice
        The choice for each role, where an option was given by role.
    """

    said: Mapping[str, Any]
    common: FeatureChoice
    by_role: Mapping[str, FeatureChoice] = field(default_factory=dict)

    @classmethod
    def of(cls, **said: Any) -> "SideChoices":
        """Return the checked choices of a user; the options are those of FeatureChoice.

        Raises
        ------
        InputError
            When a role is not known, or a choice cannot be.

        Examples
        --------
        >>> choices = SideChoices.of(features={"query": ["a"]}, row_dim="cell")
        >>> choices.at("query").features, choices.at("train").features
        (('a',), None)
        """
        said = {name: value for name, value in said.items() if value is not None}
        check_roles(said, ROLES)
        plain = {name: value for name, value in said.items() if not isinstance(value, Mapping)}
        if len(plain) == len(said):
            return cls(said, FeatureChoice.of(**said))
        by_role = {}
        for role in ROLES:
            mine = {name: value.get(role) for name, value in said.items() if name not in plain}
            # What a side's own names are called on the other side follows from their order.
            is_own = any(mine.get(name) is not None for name in ("features", "lat"))
            by_role[role] = replace(FeatureChoice.of(**plain, **mine), own=is_own)
        # Rows without a role in the call, such as pictures, know the options for all sides only.
        paired = "lat" in plain and "lon" in plain
        alone = {n: v for n, v in plain.items() if paired or n not in ("lat", "lon")}
        return cls(said, FeatureChoice.of(**alone), by_role)

    def updated(self, **said: Any) -> "SideChoices":
        """Return these choices with the given options in place of their own; None keeps one.

        Options by role replace those of their roles alone.
        """
        given = {name: value for name, value in said.items() if value is not None}
        if not given:
            return self
        merged = dict(self.said)
        for name, value in given.items():
            if isinstance(value, Mapping) and name in merged:
                own = merged[name]
                own = own if isinstance(own, Mapping) else dict.fromkeys(ROLES, own)
                value = {**own, **value}
            merged[name] = value
        return self.of(**merged)

    def at(self, role: str) -> FeatureChoice:
        """Return the choice for the side of a role."""
        return self.by_role.get(role, self.common)

    def alone(self, role: str) -> "SideChoices":
        """Return the choices of the side of a role, whatever it is called later."""
        choice = self.at(role)
        return SideChoices(choice.given, choice)

    @property
    def literal(self) -> "SideChoices":
        """Return these choices with latitude and longitude matched by their exact names only."""
        by_role = {role: choice.literal for role, choice in self.by_role.items()}
        return replace(self, common=self.common.literal, by_role=by_role)

    def together(self, option: str, roles: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the roles in groups that share the value of an option."""
        is_by_role = isinstance(self.said.get(option), Mapping)
        return [(role,) for role in roles] if is_by_role else [tuple(roles)]

    @property
    def given(self) -> dict[str, Any]:
        """Return the options by name, ready for JSON; those that differ among sides by role."""
        if not self.by_role:
            return self.common.given
        found: dict[str, Any] = {}
        choices = {role: choice.given for role, choice in self.by_role.items()}
        for name in dict.fromkeys(name for each in choices.values() for name in each):
            values = {role: each[name] for role, each in choices.items() if name in each}
            is_common = not isinstance(self.said.get(name), Mapping) and name in self.common.given
            found[name] = self.common.given[name] if is_common else values
        return found


def check_roles(said: Mapping[str, Any], roles: Sequence[str]) -> None:
    """Refuse an option that is given for a side that there is not.

    Parameters
    ----------
    said : mapping
        The options by name; those by role are mappings.
    roles : sequence of str
        The roles that there are.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_roles({"where": {"qery": "x > 0"}}, ["train", "query"])
    Traceback (most recent call last):
    dkde.errors.InputError: where is given for the side 'qery', and the sides are: train, query
    """
    for name, value in said.items():
        unknown = (
            [role for role in value if role not in roles] if isinstance(value, Mapping) else []
        )
        if unknown:
            sides = f"the {'sides are' if len(roles) > 1 else 'only side is'}: {', '.join(roles)}"
            raise InputError(
                f"{name} is given for the side {unknown[0]!r}, and "
                f"{sides if roles else 'here are no sides: give one value'}"
            )
