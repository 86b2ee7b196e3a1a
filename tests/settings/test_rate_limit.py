"""The text of a rate limit."""

import pytest

from service.settings.rate_limit import NO_LIMIT, Limit, parse_limit, parse_login_limits
from service.settings.settings import Settings, SettingsError
from tests.conftest import SETTINGS


@pytest.mark.parametrize(
    ("text", "limit"),
    [("5/900", Limit(5, 900)), ("99999999/1", Limit(99_999_999, 1)), ("0", NO_LIMIT)],
)
def test_limit_is_a_count_and_seconds(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/900", "0/900", "5/0", "05/900", "-5/900", "5/900/1", "5 / 900", "٣/1"]
)
def test_limit_rejects_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="must be a count and seconds"):
        parse_limit(text)


def test_limit_rejects_a_count_or_a_time_of_nine_digits() -> None:
    for text in ("100000000/1", "1/100000000"):
        with pytest.raises(ValueError, match="must be a count and seconds"):
            parse_limit(text)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("5/900,50/900,50/3600", (Limit(5, 900), Limit(50, 900), Limit(50, 3600))),
        (" 5/900 , 0 ,50/3600 ", (Limit(5, 900), NO_LIMIT, Limit(50, 3600))),
        ("0", (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
    ],
)
def test_login_limits_are_three_limits(text: str, limits: tuple[Limit, Limit, Limit]) -> None:
    assert parse_login_limits(text) == limits


@pytest.mark.parametrize("text", ["", "5/900", "5/900,5/900", "0,0", "5/900,5/900,5/900,5/900"])
def test_login_limits_reject_another_number_of_limits(text: str) -> None:
    with pytest.raises(ValueError, match="must be three limits"):
        parse_login_limits(text)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("LOGIN_LIMITS", "5/900, 50/900 ,0", (Limit(5, 900), Limit(50, 900), NO_LIMIT)),
        ("LOGIN_LIMITS", "0", (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
        ("REGISTRATION_LIMIT", "1/1", Limit(1, 1)),
        ("REFRESH_LIMIT", "0", NO_LIMIT),
        ("CONFLICT_LIMIT", "60/3600", Limit(60, 3600)),
        ("PASSWORD_CHANGE_LIMIT", "1/1", Limit(1, 1)),
        ("TRUSTED_PROXIES", "2", 2),
    ],
)
def test_each_limit_is_read_from_its_setting(name: str, given: str, value: object) -> None:
    environment = {name: given, "JWT_SECRET": str(SETTINGS["jwt_secret"])}
    assert getattr(Settings.load(environment, None), name.lower()) == value


@pytest.mark.parametrize(
    "name",
    [
        "LOGIN_LIMITS",
        "REGISTRATION_LIMIT",
        "REFRESH_LIMIT",
        "CONFLICT_LIMIT",
        "PASSWORD_CHANGE_LIMIT",
    ],
)
@pytest.mark.parametrize("given", ["5", "5/0", "0/5", "5/900,50/900", "5/-1", "a/b", "٥/900"])
def test_invalid_limit_is_reported_in_one_sentence(name: str, given: str) -> None:
    environment = {name: given, "JWT_SECRET": str(SETTINGS["jwt_secret"])}
    with pytest.raises(SettingsError) as raised:
        Settings.load(environment, None)
    (sentence,) = raised.value.errors
    assert sentence.startswith(f"{name} must be ")
