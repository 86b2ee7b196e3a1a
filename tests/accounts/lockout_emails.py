"""Helpers of tests that count the lockout emails in the outbox."""

from collections import Counter

import asyncpg

from service.mail.outbox import OUTBOX
from tests.conftest import Client, MakeClient


async def queued(db: asyncpg.Connection) -> Counter[str]:
    """Return the number of queued lockout emails of each recipient."""
    rows = await db.fetch("select recipient from outbox where template = 'lockout'")
    return Counter(row["recipient"] for row in rows)


async def without_delivery(make_client: MakeClient, **changes: object) -> Client:
    """Return a client of a service behind one proxy whose outbox sends nothing."""
    client = await make_client(trusted_proxies=1, **changes)
    await client.http.app[OUTBOX].stop()
    return client
