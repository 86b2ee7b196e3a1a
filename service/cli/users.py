"""``run.py users``: import accounts, and manage single ones."""

import sys
from pathlib import Path

import voluptuous as vol

import sql
from service.accounts import fields
from service.accounts.throttling.throttle import Throttle
from service.accounts.two_factor.removal import remove_second_factor
from service.accounts.two_factor.second_factor import queue_factor_notice
from service.accounts.user_import import UserImportError, import_users
from service.cli.database import run_with_database
from service.database.pool import Database
from service.http.client import Client
from service.settings.settings import Settings

COMMAND = Client.at("")
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
    try:
        email_key = fields.email_key(fields.email(email))
    except vol.Invalid as error:
        print(f"{email} {error}.", file=sys.stderr)
        return 2

    async def turn_off(database: Database) -> bool:
        throttle = Throttle(database, settings)

        async def remove(connection: sql.Connection) -> bool:
            user_id = await sql.users.find_id(connection, email_key=email_key)
            if user_id is None:
                return False
            await sql.sessions.lock_user(connection, user_id=user_id)
            if not await remove_second_factor(connection, COMMAND, user_id):
                return False
            await queue_factor_notice(
                connection,
                COMMAND,
                "two_factor_off",
                user_id,
                throttle=throttle,
                settings=settings,
            )
            return True

        return await database.transact(remove)

    if not run_with_database(settings, turn_off):
        print(f"{email} has no account with a second factor.", file=sys.stderr)
        return 1
    print(f"The second factor of {email} is off. The owner is told by mail.")
    return 0
