"""The codes of a second factor in requests."""

from typing import Any

import pytest

from service.accounts.two_factor.codes import ANY_CODE


@pytest.mark.parametrize("value", [None, True, 123456, 1.5, ["123456"], {}, "1" * 101])
def test_any_code_makes_a_wrong_code_of_what_is_no_text(value: Any) -> None:
    assert ANY_CODE(value) == ""


@pytest.mark.parametrize("value", ["123456", " 1", "", "1" * 100])
def test_any_code_keeps_text(value: str) -> None:
    assert ANY_CODE(value) == value
