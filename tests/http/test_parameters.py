"""Path parameters and query strings, without a server."""

from typing import Any

import pytest
import voluptuous as vol
from aiohttp.test_utils import make_mocked_request

from service.http.errors import InvalidInput
from service.http.parameters import Number, QueryString, filter_text, is_storable, path_text

PAGE = QueryString(limit=(Number(1, 100), 20), tag=(filter_text, None))
WHOLE = "must be a whole number"


def read(query: str) -> dict[str, Any]:
    return PAGE.read(make_mocked_request("GET", f"/api/articles{query}"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"limit": 20, "tag": None}),
        ("?limit=5", {"limit": 5, "tag": None}),
        ("?tag=a%20b&limit=100", {"limit": 100, "tag": "a b"}),
        ("?limit=&tag=", {"limit": 20, "tag": None}),
        ("?unknown=1&limit=007", {"limit": 7, "tag": None}),
    ],
)
def test_query_string_returns_given_values_and_defaults(
    query: str, expected: dict[str, Any]
) -> None:
    assert read(query) == expected


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("?limit=0", {"limit": ["must be at least 1"]}),
        ("?limit=101", {"limit": ["must be at most 100"]}),
        ("?limit=x&tag=%00", {"limit": [WHOLE], "tag": ["has a character that is not allowed"]}),
        ("?limit=1&limit=1", {"limit": ["must be given once"]}),
        ("?tag=&tag=a&limit=x", {"limit": [WHOLE], "tag": ["must be given once"]}),
    ],
)
def test_query_string_raises_with_every_invalid_parameter(
    query: str, errors: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(query)
    assert raised.value.errors == errors


@pytest.mark.parametrize(("text", "value"), [("-3", -3), ("0", 0), ("7", 7), ("0" * 39 + "5", 5)])
def test_number_accepts_whole_numbers_in_its_range(text: str, value: int) -> None:
    assert Number(-3, 7)(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-4", "must be at least -3"),
        ("8", "must be at most 7"),
        *[(text, WHOLE) for text in ("", "1.0", "1e0", "+1", " 1", "1\n", "٣", "1_0", "0" * 41)],
    ],
)
def test_number_rejects_other_text(text: str, message: str) -> None:
    with pytest.raises(vol.Invalid) as raised:
        Number(-3, 7)(text)
    assert raised.value.msg == message


@pytest.mark.parametrize(
    ("text", "expected"), [("", True), ("ü🐘", True), ("a\0b", False), ("\udce4", False)]
)
def test_is_storable_rejects_nul_and_surrogates(text: str, expected: bool) -> None:
    assert is_storable(text) is expected


def test_path_text_raises_with_the_parameters_name_when_it_is_not_storable() -> None:
    def request(slug: str) -> Any:
        return make_mocked_request("GET", "/", match_info={"slug": slug})

    assert path_text(request("dragons"), "slug") == "dragons"
    with pytest.raises(InvalidInput) as raised:
        path_text(request("a\0"), "slug")
    assert raised.value.errors == {"slug": ["has a character that is not allowed"]}
