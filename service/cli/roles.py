"""``run.py users roles``: show the roles of a user, and change them."""

import sys
from uuid import UUID

import voluptuous as vol

import sql
from service.accounts.administration import roles
from service.cli.terminal import safe
from service.cli.users import COMMAND, UserError, act, print_result
from service.settings.settings import Settings


def change_roles(
    settings: Settings, user: str, add: list[str], remove: list[str], json: bool
) -> int:
    """Show the roles of a user, and change them."""

    async def change(connection: sql.Connection, user_id: UUID) -> list[str]:
        return await roles.change_roles(connection, COMMAND, user_id, add=add, remove=remove)

    try:
        user_id, after = act(settings, user, change)
    except roles.UnknownUser as error:
        raise UserError(f"The account of {safe(user)} has just changed.") from error
    except vol.Invalid as error:
        print(f"The roles {error}.", file=sys.stderr)
        return 2
    sentence = f"The roles of {safe(user)}: {', '.join(after) or 'none'}."
    print_result(sentence, json=json, user_id=user_id, roles=after)
    return 0
