"""Import accounts from a file of JSON lines, with the password hashes of another system.

Each line is an object: ``username``, ``email``, and if they are known ``password_hash``,
``email_verified``, ``bio``, ``image`` and ``created_at`` (ISO 8601). The hash is verified at the
next login, which replaces it. All lines are checked before the first account is inserted. Accounts
are inserted in batches. One whose username or email exists is skipped, so that an interrupted
import can be run again.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import voluptuous as vol

import sql
from service.accounts import fields
from service.accounts.passwords import schemes
from service.database.pool import Database
from service.http.errors import InvalidInput
from service.http.validation import check, required

BATCH = 500
MAX_LINE = 64 * 1024  # Bytes.
MAX_ERRORS = 20  # Lines that are reported.


class UserImportError(Exception):
    """The file cannot be imported. The message has a sentence for each faulty line."""


def _hash_or_none(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise vol.Invalid("must be a string")
    hashed = schemes.normalize(value)
    try:
        schemes.parse(hashed)
    except ValueError as error:
        raise vol.Invalid(str(error)) from None
    return hashed


def _time_or_none(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        # Without an offset it is UTC. A time in year 1 or 9999 may have none in UTC.
        return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise vol.Invalid("is no time of ISO 8601") from None


ACCOUNT = vol.Schema(
    {
        required("username"): fields.username,
        required("email"): fields.email,
        "password_hash": _hash_or_none,
        vol.Optional("email_verified", default=False): fields.flag,
        vol.Optional("bio", default=None): fields.bio,
        vol.Optional("image", default=None): fields.any_image,
        "created_at": _time_or_none,
    },
    extra=vol.REMOVE_EXTRA,
)


async def import_users(
    database: Database, path: Path, show_progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Import the accounts in the file ``path``. Return the numbers of new and of skipped ones.

    Call ``show_progress`` with both after each batch. Raise ``UserImportError`` if a line is
    faulty: then nothing is imported.
    """
    _require_valid(path)
    inserted = skipped = 0
    for batch in _batches(path):
        count = await _insert(database, batch)
        inserted += count
        skipped += len(batch) - count
        show_progress(inserted, skipped)
    return inserted, skipped


def _require_valid(path: Path) -> None:
    # The file is read twice. The second reading of a pipe would find nothing.
    if path.exists() and not path.is_file():
        raise UserImportError(f"{path} is no regular file.")
    errors = []
    for number, line in _lines(path):
        try:
            _account(line)
        except ValueError as error:
            errors.append(f"Line {number} {error}.")
            if len(errors) == MAX_ERRORS:
                errors.append("There may be more faulty lines.")
                break
    if errors:
        raise UserImportError("\n".join([*errors, "Nothing was imported."]))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank with its number, and never more than ``MAX_LINE`` bytes."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if line.strip() or len(line) > MAX_LINE:
                    yield number, line
                while len(line) > MAX_LINE and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE + 1)
    except OSError as error:
        raise UserImportError(f"{path} cannot be read: {error.strerror}.") from error


def _account(line: bytes) -> dict[str, Any]:
    """Return the account in ``line``. Raise ``ValueError`` with the reason."""
    if len(line) > MAX_LINE:
        raise ValueError(f"has more than {MAX_LINE} bytes")
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("is no object")
    if any("\0" in value for value in data.values() if isinstance(value, str)):
        raise ValueError("has a NUL")
    try:
        account: dict[str, Any] = check(data, ACCOUNT)
    except InvalidInput as error:
        reasons = (f"{name} {messages[0]}" for name, messages in error.errors.items())
        raise ValueError("is invalid: " + "; ".join(reasons)) from None
    return account


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for _, line in _lines(path):
        batch.append(_account(line))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _insert(database: Database, batch: list[dict[str, Any]]) -> int:
    count: int = await sql.user_import.insert(
        database,
        usernames=[account["username"] for account in batch],
        username_keys=[fields.uniqueness_key(account["username"]) for account in batch],
        emails=[account["email"] for account in batch],
        email_keys=[fields.email_key(account["email"]) for account in batch],
        password_hashes=[account.get("password_hash") for account in batch],
        verified=[account["email_verified"] for account in batch],
        bios=[account["bio"] for account in batch],
        images=[account["image"] for account in batch],
        created=[account.get("created_at") for account in batch],
    )
    return count
