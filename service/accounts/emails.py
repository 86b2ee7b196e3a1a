"""What an account's owner is told by mail, in words.

Nothing in them is a stranger's to write: a name or a user agent would carry his advertisement to
whomever he likes.
"""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.throttling.throttle import THROTTLE
from service.http.client import client_address
from service.http.errors import SETTINGS
from service.mail.outbox import NO_RECIPIENT, write_mail
from service.mail.smtp import Mail


async def queue_lockout_email(
    request: web.Request, connection: sql.Connection, account_id: UUID, row: Any
) -> None:
    """Have the owner told that logins are refused, once in a while.

    ``account_id`` is what the attempts are counted under, ``row`` the user of that id, or ``None``.
    Written in the transaction of ``connection``.
    """
    # Asked also for an address that nobody has: it must not take less time.
    if await request.app[THROTTLE].admits_lockout_mail(connection, account_id):
        longest_wait = max(limit.seconds for limit in request.app[SETTINGS].login_limits)
        recipient = row["email"] if row is not None else NO_RECIPIENT
        await write_mail(
            connection, lockout_notice(recipient, client_address(request), longest_wait)
        )


def lockout_notice(recipient: str, address: str, longest_wait: int) -> Mail:
    """Sign-ins are refused since too many failed, the last of them from the IP ``address``.

    ``longest_wait`` is for how many seconds, at most.
    """
    moment = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    place = f" from the address {address}" if address else ""
    return Mail(
        recipient,
        "Sign-ins to your account are refused for a while",
        f"""\
Somebody tried to sign in to your account with a wrong password too often,
last{place} on {moment}.
None of these tries succeeded. For a while further ones are refused, even
with the right password. Devices that are signed in stay signed in.

If it was you: try again in {math.ceil(longest_wait / 60)} minutes at the latest.
If it was not: nothing was changed. If your password could be guessed, or is
in use elsewhere too, choose another one.
""",
    )
