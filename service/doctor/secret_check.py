"""Check the secrets: the age and the permissions of their files, and the encryption keys."""

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import sql
from service.accounts.encryption import Encryption
from service.doctor.connection import CannotConnect, connect
from service.doctor.findings import Context, Finding, note, ok, problem
from service.settings.generated_secrets import ENCRYPTION_KEY, JWT_SECRET
from service.settings.settings import Settings, files_of_settings

SECRETS = ("JWT_SECRET", "ENCRYPTION_KEYS")
DAY = 86_400
MAX_DAYS = 730  # NIST SP 800-57 part 1, section 5.3.6: symmetric keys protect for up to two years.


async def check_secrets(context: Context) -> AsyncIterator[Finding]:
    """Check the secrets: the age and the permissions of their files, and the encryption keys."""
    settings = context.settings
    files = {name: path for name, path in files_of_settings().items() if _is_given(settings, name)}
    if settings.embedded:
        files.setdefault("JWT_SECRET", settings.data_dir / JWT_SECRET)
        files.setdefault("ENCRYPTION_KEYS", settings.data_dir / ENCRYPTION_KEY)
    for finding in await asyncio.to_thread(_check_files, files):
        yield finding
    if settings.jwt_previous_secrets:
        yield note(
            f"former signing keys still verify: {len(settings.jwt_previous_secrets)}",
            "remove them from JWT_PREVIOUS_SECRETS when ACCESS_TOKEN_TTL has passed since the "
            "change",
        )
    url, setting = context.session_database_url
    if url is None:
        return
    try:
        async with (
            connect(url, setting) as connection,
            connection.transaction(readonly=True),
        ):
            rows = await sql.secret_check.count_encrypted_secrets(connection)
            signing_key = await sql.secret_check.find_signing_key(connection)
    except CannotConnect:
        yield note("the encrypted secrets cannot be read, see the check of the database")
        return
    counts = {bytes(row["key_id"]): int(row["count"]) for row in rows}
    for finding in encryption_findings(settings.encryption_keys, counts):
        yield finding
    if settings.token_algorithm in ("ES256", "EdDSA") and signing_key is not None:
        name = f"signing key for {signing_key['algorithm']}"
        yield age_finding(name, "was made", signing_key["days"], "`python run.py keys rotate`")


def encryption_findings(keys: tuple[str, ...], counts: Mapping[bytes, int]) -> list[Finding]:
    """Return the findings for the numbers of stored secrets by the id of their key."""
    if not keys and not counts:
        return [note("ENCRYPTION_KEYS is not set, so no account can turn on a second factor")]
    encryption = Encryption(keys)
    known = {Encryption([key]).current_key_id for key in keys}
    findings = []
    if lost := sum(count for key_id, count in counts.items() if key_id not in known):
        findings.append(
            problem(
                f"stored secrets without their key: {lost}",
                "add the former key to ENCRYPTION_KEYS: it encrypts authenticator apps and tokens",
            )
        )
    if keys:
        current = encryption.current_key_id
        outdated = sum(n for key_id, n in counts.items() if key_id in known and key_id != current)
        if outdated:
            action = "reload every process, run `python run.py keys reencrypt`, remove the old key"
            findings.append(
                note(f"secrets that a former encryption key still encrypts: {outdated}", action)
            )
        elif not lost:
            total = sum(counts.values())
            findings.append(ok(f"encryption: the first key reads all {total} stored secrets"))
    return findings


def age_finding(name: str, event: str, days: float, action: str) -> Finding:
    """Return the finding for a secret whose ``event`` was ``days`` ago."""
    message = f"{name}: {event} {days:.0f} days ago"
    return note(message, f"make a new one: {action}") if days > MAX_DAYS else ok(message)


def _is_given(settings: Settings, name: str) -> bool:
    return name in SECRETS and bool(getattr(settings, name.lower()))


def _check_files(files: Mapping[str, Path]) -> list[Finding]:
    findings = []
    for name in SECRETS:
        path = files.get(name)
        if path is None:
            findings.append(note(f"{name}: its age is unknown, because it comes from no file"))
            continue
        try:
            state = path.stat()
        except OSError as error:
            findings.append(note(f"{name}: {path} cannot be read: {error.strerror}"))
            continue
        days = max(0.0, time.time() - state.st_mtime) / DAY
        action = "docs/operations.md says how, without logging out a user"
        findings.append(age_finding(name, f"{path} was last changed", days, action))
        # Secret stores mount files in folders that no other user can enter.
        if path.parent in (Path(), Path()) and state.st_mode & stat.S_IROTH:
            findings.append(
                problem(f"every user of this machine can read {path}", f"chmod 600 {path}")
            )
    return findings
