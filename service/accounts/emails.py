"""Write the emails to the owners of accounts.

Never include text that an attacker controls (username, user agent): they could send spam through
this service.
"""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.throttling.throttle import THROTTLE
from service.http.app_keys import SETTINGS
from service.http.client import client_address
from service.mail.outbox import NO_RECIPIENT, write_mail
from service.mail.smtp import Mail


async def queue_lockout_email(
    request: web.Request, connection: sql.Connection, account_id: UUID, row: Any
) -> None:
    """Queue the email that informs the owner about rejected logins, at a limited rate.

    ``account_id`` is the id under which the throttle counts the attempts. ``row`` is the user with
    this id, or ``None``. The email is inserted in the transaction of ``connection``.
    """
    # Check the limit for unknown emails too: timing must not reveal whether the account exists.
    if await request.app[THROTTLE].admits_lockout_mail(connection, account_id):
        longest_wait = max(limit.seconds for limit in request.app[SETTINGS].login_limits)
        recipient = row["email"] if row is not None else NO_RECIPIENT
        await write_mail(
            connection, lockout_notice(recipient, client_address(request), longest_wait)
        )


def lockout_notice(recipient: str, address: str, longest_wait: int) -> Mail:
    """Return the email about logins that are rejected because too many failed.

    ``address`` is the IP address of the last failed login, or ``""`` if it is not known.
    ``longest_wait`` is the maximum duration of the rejection in seconds.
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
