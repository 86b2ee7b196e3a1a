"""The text of one setting. ``test_settings.py`` tests the settings that use these parsers."""

from pathlib import Path

import pytest

from service.settings import parsers


def test_path_expands_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jake")
    assert parsers.path("~/data") == Path("/home/jake/data")
    assert parsers.path("data") == Path("data")


@pytest.mark.parametrize("text", ["-5", "0", "12", "012"])
def test_whole_number_accepts_its_range(text: str) -> None:
    assert parsers.whole_number(-5, 12)(text) == int(text)


@pytest.mark.parametrize("text", ["-6", "13", "", "1.0", "+1", " 1", "1\n", "٣", "0" * 19])
def test_whole_number_rejects_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number from -5 to 12"):
        parsers.whole_number(-5, 12)(text)


def test_one_of_accepts_only_the_known_words() -> None:
    parse = parsers.one_of("json", "text")
    assert parse("text") == "text"
    with pytest.raises(ValueError, match="must be json or text"):
        parse("TEXT")


def test_secret_error_does_not_contain_the_secret() -> None:
    for value in ("hunter2", "hunter2" * 8):
        with pytest.raises(ValueError, match="token_urlsafe") as raised:
            parsers.secret(value)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("value", ["*", "https://example.org", "http://localhost:8080"])
def test_origin_accepts_a_scheme_and_a_host(value: str) -> None:
    assert parsers.origin(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "example.org",
        "https://",
        "https://:80",
        "https://example.org/",
        "https://Example.org",
        "https://example.org:0",
        "https://example.org:99999",
        "https://[example.org",
        "null",
    ],
)
def test_origin_rejects_other_text(value: str) -> None:
    with pytest.raises(ValueError, match="must list origins"):
        parsers.origin(value)


def test_list_of_parses_each_item_without_spaces_and_empty_items() -> None:
    assert parsers.list_of(str.upper)(" a, b ,,c,") == ("A", "B", "C")
    assert parsers.list_of(str.upper)(" , ") == ()
