"""Schemas and validators, without a server."""

from typing import Any

import pytest
import voluptuous as vol

from service.http.errors import BLANK, InvalidInput
from service.http.validation import (
    Text,
    TextOrNull,
    check,
    required,
    something_to_change,
    wrapped,
)


def upper(value: str) -> str:
    return value.upper()


def reject(value: str) -> str:
    raise vol.Invalid("is rejected")


NAME = Text(upper, shortest=2, longest=4, example="jake")
CREATE = wrapped("user", {required("name"): NAME, "bio": TextOrNull(longest=3, example="b")})
UPDATE = wrapped("user", {"name": NAME}, something_to_change)


def errors_of(data: Any, schema: vol.Schema = CREATE, **known: list[str]) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as raised:
        check(data, schema, known)
    return dict(raised.value.errors)


def test_check_returns_converted_fields_without_unknown_ones() -> None:
    data = {"user": {"name": "jake", "bio": "", "admin": True}, "more": 1}
    assert check(data, CREATE) == {"user": {"name": "JAKE", "bio": None}}


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        ({}, {"user": [BLANK]}),
        ({"user": None}, {"user": [BLANK]}),
        ({"user": []}, {"user": ["must be an object"]}),
        ({"user": {}}, {"name": [BLANK]}),
        (
            {"user": {"name": 1, "bio": "long"}},
            {"bio": ["is too long (maximum is 3 characters)"], "name": ["must be a string"]},
        ),
    ],
)
def test_check_names_every_invalid_field_without_its_wrapper(
    data: Any, errors: dict[str, list[str]]
) -> None:
    assert errors_of(data) == errors


def test_check_prefers_the_messages_of_earlier_checks() -> None:
    data = {"user": {"name": "", "bio": "long"}}
    assert errors_of(data, name=["is taken"]) == {
        "bio": ["is too long (maximum is 3 characters)"],
        "name": ["is taken"],
    }
    assert errors_of({"user": {"name": "jake"}}, email=["is taken"]) == {"email": ["is taken"]}


def test_update_requires_a_known_field() -> None:
    message = ["must have at least one field to change"]
    assert errors_of({"user": {}}, UPDATE) == {"user": message}
    assert errors_of({"user": {"other": 1}}, UPDATE) == {"user": message}
    assert check({"user": {"name": "abc"}}, UPDATE) == {"user": {"name": "ABC"}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, BLANK),
        ("", BLANK),
        (" \n\u3000", BLANK),
        (5, "must be a string"),
        (["abc"], "must be a string"),
        ("a", "is too short (minimum is 2 characters)"),
        ("abcde", "is too long (maximum is 4 characters)"),
    ],
)
def test_text_rejects_other_values(value: Any, message: str) -> None:
    with pytest.raises(vol.Invalid) as raised:
        NAME(value)
    assert raised.value.msg == message


def test_text_counts_characters_and_not_bytes() -> None:
    assert NAME("🐘🐘🐘🐘") == "🐘🐘🐘🐘"


def test_text_may_be_blank_when_shortest_is_0() -> None:
    assert Text(shortest=0, example="a")(" ") == " "


def test_text_runs_its_checks_after_the_length_and_in_order() -> None:
    with pytest.raises(vol.Invalid, match="is rejected"):
        Text(reject, upper, example="a")("abc")
    with pytest.raises(vol.Invalid, match="too long"):
        Text(reject, longest=1, example="a")("abc")


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), ("abc", "abc")])
def test_text_or_null_accepts_null_and_converts_empty_text(value: Any, expected: Any) -> None:
    assert TextOrNull(longest=3, example="b")(value) == expected


@pytest.mark.parametrize("value", [" ", 5, "abcd", False])
def test_text_or_null_rejects_what_text_rejects(value: Any) -> None:
    with pytest.raises(vol.Invalid):
        TextOrNull(longest=3, example="b")(value)
