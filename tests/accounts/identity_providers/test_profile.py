"""What counts in the claims of a provider."""

from typing import Any

import pytest

from service.accounts.identity_providers.errors import InvalidResponse
from service.accounts.identity_providers.profile import openid_profile

ISSUER = "https://id.example.test"
CLAIMS: dict[str, Any] = {"sub": "1", "email": "jake@example.test", "email_verified": True}


def test_profile_has_the_claims() -> None:
    picture = "https://example.test/jake.png"
    claims = {**CLAIMS, "preferred_username": "jake", "name": "Jake", "picture": picture}
    profile = openid_profile(ISSUER, {**claims, "auth_time": 7}, {})
    assert (profile.issuer, profile.subject) == (ISSUER, "1")
    assert (profile.email, profile.is_email_verified) == ("jake@example.test", True)
    assert profile.names == ("jake", "Jake")
    assert (profile.picture, profile.auth_time) == (picture, 7)


@pytest.mark.parametrize("verified", [None, "false", "true", "", 1, 0, False, [], {}])
def test_email_is_verified_only_by_json_true(verified: object) -> None:
    profile = openid_profile(ISSUER, {**CLAIMS, "email_verified": verified}, {})
    assert (profile.email, profile.is_email_verified) == ("jake@example.test", False)


def test_email_without_a_verification_is_not_verified() -> None:
    claims = {"sub": "1", "email": "jake@example.test"}
    assert not openid_profile(ISSUER, claims, {}).is_email_verified


def test_verification_of_the_id_token_does_not_vouch_for_the_email_of_userinfo() -> None:
    claims, userinfo = {"sub": "1", "email_verified": True}, {"sub": "1", "email": "a@example.test"}
    profile = openid_profile(ISSUER, claims, userinfo)
    assert (profile.email, profile.is_email_verified) == ("a@example.test", False)


@pytest.mark.parametrize(
    "issuer",
    [
        "https://login.microsoftonline.com/9122040d-6c67-4c5b-b112-36a304b66dad/v2.0",
        "https://sts.windows.net/9122040d-6c67-4c5b-b112-36a304b66dad/",
        "https://contoso.ciamlogin.com/contoso/v2.0",
        "https://login.windows.net/9122040d-6c67-4c5b-b112-36a304b66dad/",
        "https://contoso.b2clogin.com/9122040d-6c67-4c5b-b112-36a304b66dad/v2.0/",
        "https://LOGIN.microsoftonline.com/x/v2.0",
    ],
)
def test_email_of_microsoft_is_never_verified(issuer: str) -> None:
    claims = {**CLAIMS, "upn": "admin@example.test", "xms_edov": True}
    profile = openid_profile(issuer, claims, {})
    assert (profile.email, profile.is_email_verified) == ("jake@example.test", False)


@pytest.mark.parametrize(
    ("given", "email", "is_verified"),
    [
        ("Jake@EXAMPLE.test", "Jake@example.test", True),
        ("jake@xn--strae-oqa.test", "jake@straße.test", True),
        ("weiß@example.test", "weiß@example.test", True),
        ("ja\u212ae@example.test", "jaKe@example.test", False),  # The Kelvin sign.
        ("ja\u00adke@example.test", "jake@example.test", False),
        ("\uff4aake@example.test", "jake@example.test", False),
        ("jake@\uff45xample.test", "jake@example.test", False),
    ],
)
def test_email_in_another_unicode_form_is_not_verified(
    given: str, email: str, is_verified: bool
) -> None:
    profile = openid_profile(ISSUER, {**CLAIMS, "email": given}, {})
    assert (profile.email, profile.is_email_verified) == (email, is_verified)


def test_upn_is_no_email() -> None:
    profile = openid_profile(ISSUER, {"sub": "1", "upn": "jake@example.test"}, {})
    assert (profile.email, profile.is_email_verified) == (None, False)


@pytest.mark.parametrize(
    "subject", [None, "", " ", "\t", 1, True, ["1"], "a\0", "a\n", "\ud800", "ü", "a" * 256]
)
def test_subject_is_rejected_when_it_is_no_short_text(subject: object) -> None:
    with pytest.raises(InvalidResponse):
        openid_profile(ISSUER, {**CLAIMS, "sub": subject}, {})


def test_subject_is_required() -> None:
    with pytest.raises(InvalidResponse):
        openid_profile(ISSUER, {"email": "jake@example.test"}, {})


@pytest.mark.parametrize(
    "email", [None, "", "jake", 1, ["a@example.test"], "a\0@example.test", "\ud800@example.test"]
)
def test_invalid_email_counts_as_absent(email: object) -> None:
    profile = openid_profile(ISSUER, {**CLAIMS, "email": email}, {})
    assert (profile.email, profile.is_email_verified) == (None, False)


@pytest.mark.parametrize(
    "picture",
    [None, 1, "", "javascript:alert(1)", "data:image/png;base64,AA", "/x.png", "https://\ud800/"],
)
def test_invalid_picture_is_left_out(picture: object) -> None:
    assert openid_profile(ISSUER, {**CLAIMS, "picture": picture}, {}).picture is None


def test_long_picture_is_left_out() -> None:
    picture = "https://example.test/" + "a" * 2048
    assert openid_profile(ISSUER, {**CLAIMS, "picture": picture}, {}).picture is None


def test_names_are_texts_of_a_bounded_length_and_no_emails() -> None:
    claims = {
        **CLAIMS,
        "preferred_username": "jake@example.test",
        "nickname": "\ud800",
        "name": "a" * 10_000,
        "given_name": 7,
    }
    assert openid_profile(ISSUER, claims, {}).names == ("a" * 200,)


@pytest.mark.parametrize("time", [True, "7", 7.5, None, -1, 2**53])
def test_auth_time_is_a_whole_number(time: object) -> None:
    assert openid_profile(ISSUER, {**CLAIMS, "auth_time": time}, {}).auth_time is None
