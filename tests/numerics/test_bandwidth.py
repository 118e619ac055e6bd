"""Bandwidths as users write them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkde.errors import InputError
from dkde.numerics.bandwidth import check_bandwidths, parse_bandwidths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.2", [0.2]),
        ("0.05,0.1,0.2", [0.05, 0.1, 0.2]),
        (" 3 , 1e-2, ", [3.0, 0.01]),
        ("logspace:-1:1:20", np.logspace(-1, 1, 20)),
        ("geomspace:0.05:2:12", np.geomspace(0.05, 2, 12)),
        ("linspace: 1 : 2 : 5", np.linspace(1, 2, 5)),
        ("logspace:0:3:1", [1.0]),
    ],
)
def test_text(text: str, expected: Any) -> None:
    np.testing.assert_array_equal(parse_bandwidths(text), expected)


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "small", "0.1;0.2", "logspace", "logspace:1:2", "logspace:1:2:3:4",
        "logspace:a:2:3", "logspace:0:1:0", "logspace:0:1:-3", "logspace:0:1:2.5",
        "geomspace:0:1:3", "geomspace:-1:1:3", "logspace:0:999:3", "loguniform:0:1:3",
        "0", "-0.1", "nan", "inf", "0.1,0.1", "linspace:-1:1:3", "linspace:1:1:3",
    ],
)  # fmt: skip
def test_text_that_is_none_says_so_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_bandwidths(text)
    message = str(caught.value)
    assert message.startswith("bandwidth")
    assert "\n" not in message


def test_a_typo_is_shown_with_what_would_do() -> None:
    with pytest.raises(InputError, match=r"'0\.1;0\.2' cannot be read; write 0\.05,0\.1,0\.2 or"):
        parse_bandwidths("0.1;0.2")


@given(st.lists(st.floats(1e-149, 1e149), min_size=1, max_size=8, unique=True))
def test_numbers_keep_their_order(values: list[float]) -> None:
    np.testing.assert_array_equal(check_bandwidths(values), values)
    np.testing.assert_array_equal(check_bandwidths(np.array(values)), values)
    np.testing.assert_array_equal(parse_bandwidths(",".join(map(repr, values))), values)


def test_a_number_is_a_list_of_one() -> None:
    np.testing.assert_array_equal(check_bandwidths(0.5), [0.5])
    np.testing.assert_array_equal(check_bandwidths(np.float32(0.5)), [0.5])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "bandwidth 0 must be a positive, finite number"),
        (-1.5, "bandwidth -1.5 must be a positive"),
        ([1.0, np.nan], "bandwidth nan must be"),
        (np.inf, "bandwidth inf must be"),
        ([], "at least one number"),
        ([[1.0, 2.0]], "in one dimension"),
        ([0.1, 0.2, 0.1], "bandwidth 0.1 is given twice"),
        ("scott", "'scott' is not a number"),
        (None, "bandwidth"),
        ([1.0, "x"], "is not a number"),
        (1e-200, "out of range; rescale the data"),
        (1e200, "out of range; rescale the data"),
    ],
)
def test_refusals_name_the_value(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_bandwidths(value)


@pytest.mark.parametrize("text", ["geomspace:0.1:1:100000000", "linspace:1:2:10000000000000"])
def test_huge_grids_are_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(InputError, match="10000 at most"):
        parse_bandwidths(text)
