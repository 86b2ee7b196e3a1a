"""What an identity provider says about a person, checked and bounded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from service.accounts import fields
from service.accounts.identity_providers.errors import InvalidResponse
from service.http.parameters import is_storable
from service.settings.origins import host_of, is_within

MAX_SUBJECT = 255  # OpenID Connect Core, section 2: ASCII characters.
MAX_NAME = 200  # Characters of a name that are read.

_TIMES = range(2**53)  # Seconds. A provider may send any number, and JSON has larger ones.

# The administrator of any directory chooses these emails: Microsoft Entra, "Claims validation".
_MICROSOFT = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "sts.windows.net",
    "login.windows.net",
    "b2clogin.com",
    "ciamlogin.com",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A person at a provider. Issuer and subject identify them, never the email."""

    issuer: str
    subject: str
    email: str | None
    """A valid email in its normal form."""
    is_email_verified: bool
    names: tuple[str, ...]
    """Names for the username, the best one first."""
    picture: str | None
    """An http(s) URL. The service never fetches it."""
    auth_time: int | None
    """When the provider last verified the person, in seconds since 1970."""


def openid_profile(issuer: str, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Profile:
    """Return the profile in the ``claims`` of a verified ID token, and in ``userinfo``.

    ``userinfo`` is empty if it was not needed. Raise ``InvalidResponse`` if the subject is invalid.
    """
    # Email and verification come from the same document: one must not vouch for the other.
    source = claims if "email" in claims else userinfo
    address, is_verified = email(source.get("email"), source.get("email_verified"))
    merged = {**userinfo, **claims}
    auth_time = claims.get("auth_time")
    return Profile(
        issuer,
        subject(claims.get("sub")),
        address,
        is_verified and not _is_microsoft(issuer),
        names(merged.get(key) for key in ("preferred_username", "nickname", "name", "given_name")),
        picture(merged.get("picture")),
        auth_time if type(auth_time) is int and auth_time in _TIMES else None,
    )


def is_true(value: object) -> bool:
    """Return whether ``value`` is JSON's ``true``: neither 1 nor a text is."""
    return value is True


def subject(value: object) -> str:
    """Return a valid subject. Raise ``InvalidResponse`` for any other value."""
    is_valid = isinstance(value, str) and value.isascii() and value.isprintable()
    if not is_valid or not 1 <= len(str(value).strip()) <= len(str(value)) <= MAX_SUBJECT:
        raise InvalidResponse("the subject is invalid")
    return str(value)


def email(value: object, verified: object) -> tuple[str | None, bool]:
    """Return a valid email in its normal form, or ``None``, and whether it is verified.

    Another Unicode form of an email can be that of another mailbox at the provider. It is not
    verified: only ASCII, and the normal form itself, stay the same mailbox.
    """
    address = _valid(fields.email, value)
    is_same = address == value or str(value).isascii()
    return address, address is not None and is_same and is_true(verified)


def picture(value: object) -> str | None:
    """Return a valid URL of a picture, or ``None``."""
    return _valid(fields.image, value)


def names(values: Iterable[object]) -> tuple[str, ...]:
    """Return the texts among ``values``. Leave out emails: a username is public."""
    return tuple(
        value[:MAX_NAME]
        for value in values
        if isinstance(value, str) and "@" not in value and is_storable(value)
    )


def _is_microsoft(issuer: str) -> bool:
    return any(is_within(host_of(issuer), domain) for domain in _MICROSOFT)


def _valid(validate: Any, value: object) -> str | None:
    if not isinstance(value, str) or not is_storable(value):
        return None
    try:
        found: str | None = validate(value)
    except vol.Invalid:
        return None
    return found
