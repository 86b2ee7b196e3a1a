"""``run.py users``: import accounts, and manage single ones."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import voluptuous as vol

import sql
from service.accounts import fields
from service.accounts.account_lock import lock_account, unlock_account
from service.accounts.administration import user_actions
from service.accounts.administration.api_keys import CLI
from service.accounts.throttling.throttle import Throttle
from service.accounts.user_import import UserImportError, import_users
from service.cli.database import run_with_database
from service.database.pool import Database
from service.http.client import Client
from service.settings.settings import Settings

COMMAND = replace(Client.at(""), actor=CLI)
"""A command has no IP address."""


def import_accounts(settings: Settings, file: Path) -> int:
    """Import accounts from a file of JSON lines, with the password hashes of another system."""

    async def work(database: Database) -> tuple[int, int]:
        return await import_users(database, file, _show_progress)

    try:
        imported, skipped = run_with_database(settings, work)
    except UserImportError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Imported {imported} accounts. Skipped {skipped} whose username or email exists.")
    return 0


def _show_progress(imported: int, skipped: int) -> None:
    """Show the progress after a batch."""
    print(f"imported {imported}, skipped {skipped}", flush=True)


def disable_two_factor(settings: Settings, email: str) -> int:
    """Turn off the second factor of an account. The owner is told by mail."""
    email_key = email_key_of(email)
    if email_key is None:
        return 2

    async def turn_off(database: Database) -> bool:
        throttle = Throttle(database, settings)

        async def remove(connection: sql.Connection) -> bool:
            user_id = await sql.users.find_id(connection, email_key=email_key)
            if user_id is None:
                return False
            return await user_actions.disable_two_factor(
                connection, COMMAND, user_id, throttle=throttle, settings=settings
            )

        return await database.transact(remove)

    if not run_with_database(settings, turn_off):
        print(f"{email} has no account with a second factor.", file=sys.stderr)
        return 1
    print(f"The second factor of {email} is off. The owner is told by mail.")
    return 0


def lock(settings: Settings, email: str) -> int:
    """Lock an account: end its sessions, and refuse every login until it is unlocked."""
    return _change_lock(
        settings,
        email,
        lock_account,
        done=f"The account of {email} is locked. Its sessions have ended.",
        unchanged=f"The account of {email} was locked already.",
    )


def unlock(settings: Settings, email: str) -> int:
    """Unlock an account. Its owner logs in again."""
    return _change_lock(
        settings,
        email,
        unlock_account,
        done=f"The account of {email} is unlocked.",
        unchanged=f"The account of {email} was not locked.",
    )


def _change_lock(
    settings: Settings,
    email: str,
    change: Callable[[sql.Connection, Client, UUID], Awaitable[bool]],
    *,
    done: str,
    unchanged: str,
) -> int:
    """Run ``change`` on the account with this email, and print ``done`` or ``unchanged``."""
    email_key = email_key_of(email)
    if email_key is None:
        return 2

    async def find_and_change(connection: sql.Connection) -> bool | None:
        user_id = await sql.users.find_id(connection, email_key=email_key)
        return None if user_id is None else await change(connection, COMMAND, user_id)

    async def work(database: Database) -> bool | None:
        return await database.transact(find_and_change)

    has_changed = run_with_database(settings, work)
    if has_changed is None:
        print(f"{email} has no account.", file=sys.stderr)
        return 1
    print(done if has_changed else unchanged)
    return 0


def email_key_of(email: str) -> str | None:
    """Return the key of ``email``. If it is not valid, print why and return ``None``."""
    try:
        return fields.email_key(fields.email(email))
    except vol.Invalid as error:
        print(f"{email} {error}.", file=sys.stderr)
        return None
