"""Choose the username of an account that a provider registers."""

import secrets
import unicodedata
from collections.abc import Iterable, Iterator

import voluptuous as vol

import sql
from service.accounts import fields
from service.database.pool import Database

FALLBACK = "user"
_SUFFIX_DIGITS = (4, 4, 6, 12)


async def choose_username(database: Database, names: Iterable[str]) -> str:
    """Return a valid username that no user has now, made from the first of ``names`` that can be.

    Another registration may take it before it is inserted. The unique constraint decides then, and
    the caller chooses again.
    """
    base = next(filter(None, map(_valid, names)), FALLBACK)
    # Random digits: consecutive ones would tell how many users have the name.
    candidates = [base, *(_with_digits(base, count) for count in _SUFFIX_DIGITS)]
    keys = [fields.uniqueness_key(candidate) for candidate in candidates]
    rows = await sql.provider_sign_in.find_taken(database, username_keys=keys)
    taken = {row["username_key"] for row in rows}
    free = (name for name, key in zip(candidates, keys, strict=True) if key not in taken)
    return next(free, candidates[-1])


def _valid(name: str) -> str | None:
    """Return ``name`` as a valid username, or ``None``."""
    visible = "".join(_printable(unicodedata.normalize("NFC", name)))
    try:
        return fields.username(" ".join(visible.split())[: fields.MAX_USERNAME].strip())
    except vol.Invalid:
        return None


def _printable(name: str) -> Iterator[str]:
    """Yield the characters of ``name``, and a space for each that a username cannot have."""
    for character in name:
        yield " " if unicodedata.category(character)[0] in "CZ" else character


def _with_digits(base: str, count: int) -> str:
    digits = "".join(secrets.choice("0123456789") for _ in range(count))
    return f"{base[: fields.MAX_USERNAME - count]}{digits}"
