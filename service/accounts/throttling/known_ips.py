"""The IP addresses from which a user was signed in within ``KNOWN_ADDRESS_TTL``.

The limits of the whole account, and those of an IPv6 /48, do not apply there, so that strangers
cannot lock the owner out. An IPv6 address stands for its /64. Opening a session makes an IP address
known (``sql/accounts/sessions.sql``), and refreshing it keeps the IP address known
(``sql/accounts/refresh.sql``). A mailed link that unlocks the login makes one known too. A user has
at most ten.
"""

from uuid import UUID

import sql


async def add(connection: sql.Connection, user_id: UUID, ip_key: str) -> None:
    """Make ``ip_key`` a known IP address of the user."""
    await sql.known_ips.add(connection, user_id=user_id, ip_key=ip_key)


async def replace_all(connection: sql.Connection, user_id: UUID, ip_key: str) -> None:
    """Make ``ip_key`` the only known IP address of the user: call this at a password change.

    Only the owner is known to use this one. The others signed in with the old password.
    """
    await sql.known_ips.replace_all(connection, user_id=user_id, ip_key=ip_key)
