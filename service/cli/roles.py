"""``run.py users roles``: show the roles of a user, and change them."""

import sys

import voluptuous as vol

import sql
from service.accounts.administration import roles
from service.cli.database import run_with_database
from service.cli.users import COMMAND, email_key_of
from service.database.pool import Database
from service.settings.settings import Settings


def change_roles(settings: Settings, email: str, add: list[str], remove: list[str]) -> int:
    """Show the roles of a user, and change them."""
    email_key = email_key_of(email)
    if email_key is None:
        return 2

    async def change(connection: sql.Connection) -> list[str]:
        user_id = await sql.users.find_id(connection, email_key=email_key)
        if user_id is None:
            raise roles.UnknownUser
        return await roles.change_roles(connection, COMMAND, user_id, add=add, remove=remove)

    async def work(database: Database) -> list[str]:
        return await database.transact(change)

    try:
        after = run_with_database(settings, work)
    except roles.UnknownUser:
        print(f"{email} has no account.", file=sys.stderr)
        return 1
    except vol.Invalid as error:
        print(f"The roles {error}.", file=sys.stderr)
        return 2
    print(f"The roles of {email}: {', '.join(after) or 'none'}.")
    return 0
