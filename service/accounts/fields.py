"""Validate the fields of a user, and compute the keys that make values unique."""

import re
import unicodedata
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from service.http.errors import BLANK
from service.http.openapi.schemas import boolean, json_schema
from service.http.validation import NOT_ALLOWED, Text, TextOrNull

MAX_EMAIL = 254  # RFC 5321, section 4.5.3.1.3, without the angle brackets.
MAX_LOCAL_PART = 64  # RFC 5321, section 4.5.3.1.1, in bytes.
MAX_USERNAME = 50

# Persian and Indic names need zero-width joiners. Every other format character hides something
# (bidirectional overrides, zero-width spaces) and is rejected.
_JOINERS = "\u200c\u200d"
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# Invisible characters that are accepted, since emoji need the variation selectors. Uniqueness keys
# omit them: two usernames must not differ only in characters that cannot be seen.
_IGNORED = dict.fromkeys(
    (
        # Unicode's Default_Ignorable_Code_Point, without the characters that validation rejects.
        # The code points reserved for future ones are included: no font draws them either.
        *map(ord, _JOINERS),
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xFFF0, 0xFFF9),
        *range(0xE0000, 0xE1000),
        # Letters, marks and symbols without a glyph: Tifinagh and Brahmi joiner, Braille blank,
        # object replacement, hieroglyphic blanks, Khitan filler, null notehead.
        *(0x2D7F, 0x1107F, 0x2800, 0xFFFC, 0x13441, 0x13442, 0x16FE4, 0x1D159),
    )
)

# Characters that are removed from emails: soft hyphen, zero-width space, word joiner, byte-order
# mark. Joiners in a domain are left to IDNA: with and without them are different domains.
_ZERO_WIDTH = dict.fromkeys((0x00AD, 0x200B, 0x2060, 0xFEFF))
_AT_SIGNS = str.maketrans("\uff20\ufe6b", "@@")  # Fullwidth and small.

# Most emails have this form, which is a normal form and valid. Parsing it takes 20 times as long.
_PLAIN_EMAIL = re.compile(
    r"(?=[^@]{1,64}@)[a-zA-Z0-9]+(?:[._+-][a-zA-Z0-9]+)*@(?:[a-z0-9]{1,63}\.)+[a-z]{2,63}"
)

# Private networks use domains such as `.local` and `.test`. To accept them, clear this list, as the
# documentation of email-validator says.
SPECIAL_USE_DOMAIN_NAMES.clear()


def uniqueness_key(value: str) -> str:
    """Return the key that two values share if they count as the same value.

    The key ignores case, the Unicode form and invisible characters. Compatibility forms and case
    are folded, similar to RFC 8265 (PRECIS), section 3.3.
    """
    visible = value.translate(_IGNORED)
    folded = unicodedata.normalize("NFKC", visible).casefold()
    return unicodedata.normalize("NFKC", folded)


def email_key(email: str) -> str:
    """Return the uniqueness key of an email that the validator ``email`` returned.

    The validator returns the domain in its IDNA 2008 form, which is unique for each DNS domain.
    Case folding would give different domains the same key: ``straße.de`` and ``strasse.de``.
    """
    local_part, _, domain = email.rpartition("@")
    return f"{uniqueness_key(local_part)}@{domain}"


KEYS = {"username": uniqueness_key, "email": email_key}


def _printable(value: str) -> str:
    for character in value:
        if unicodedata.category(character) in _INVISIBLE_CATEGORIES and character not in _JOINERS:
            raise vol.Invalid(NOT_ALLOWED)
    return value


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise vol.Invalid("can't start or end with a space")
    return value


def _username_length(value: str) -> str:
    # At most four characters compose to one, so a value that is cut here is too long anyway.
    # Without the cut, normalizing a value of a megabyte would take too much time.
    composed = unicodedata.normalize("NFC", value[: 4 * MAX_USERNAME + 1])
    if len(composed) > MAX_USERNAME:
        raise vol.Invalid(f"is too long (maximum is {MAX_USERNAME} characters)")
    if not uniqueness_key(composed).strip():
        raise vol.Invalid(BLANK)
    if len(composed) < 3:
        raise vol.Invalid("is too short (minimum is 3 characters)")
    return composed


def _normal_form(value: str) -> str:
    """Return the email ``value`` without invisible characters and compatibility forms.

    Mail is sent to this form, and it has the same uniqueness key as every other form. An attacker
    who registers another form of an email would otherwise occupy the email of a person who gets no
    mail about it. IDNA normalizes the domain.
    """
    local_part, at_sign, domain = value.translate(_AT_SIGNS | _ZERO_WIDTH).rpartition("@")
    visible = local_part.translate(_IGNORED)
    return unicodedata.normalize("NFKC", visible) + at_sign + domain


def _email(value: str) -> str:
    """Return the email in its normal form. Accept test, intranet and quoted emails too."""
    if _PLAIN_EMAIL.fullmatch(value):
        return value
    return _parsed_email(value)


def _parsed_email(value: str) -> str:
    try:
        # Normalize before the validation: it must see the email to which mail is sent.
        parsed = validate_email(
            _normal_form(value),
            check_deliverability=False,
            allow_smtputf8=True,
            allow_quoted_local=True,
            globally_deliverable=False,
        )
    except EmailNotValidError:
        raise vol.Invalid("is not a valid email address") from None
    if len(parsed.local_part.encode()) > MAX_LOCAL_PART:
        raise vol.Invalid("is not a valid email address")
    return parsed.normalized


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(character.isspace() for character in value):
        raise vol.Invalid("is not a valid http(s) URL")
    return _printable(value)


@json_schema(boolean(example=True))
def flag(value: Any) -> bool:
    """Return a JSON boolean. Raise ``vol.Invalid`` for any other value."""
    if not isinstance(value, bool):
        raise vol.Invalid("must be true or false")
    return value


username = Text(_username_length, _printable, _trimmed, example="jake")
email = Text(_email, longest=MAX_EMAIL, example="jake@jake.jake")
# The policy checks more: see passwords/policy.py.
new_password = Text(shortest=8, longest=1024, example="jakejake", form="password")
given_password = Text(example="jakejake", form="password")
bio = TextOrNull(longest=500, example="I work at statefarm")
image = TextOrNull(_http_url, longest=2048, example="https://i.stack.imgur.com/xHWG8.jpg")
# RealWorld's browser tests store values that are not URLs.
any_image = TextOrNull(shortest=0, longest=2048, example=image.example)
passkey_name = Text(_printable, _trimmed, longest=100, example="My laptop")
