"""Tell the owner of an account by mail what happened to it, with a link "This was not me".

A notice is queued in the transaction that causes it. It goes to the email that the account had
before, because a thief may have changed it.
"""

from datetime import UTC, datetime
from uuid import UUID

import sql
from service.accounts.emails import format_time
from service.accounts.one_time_tokens import DAY, Purpose
from service.accounts.reports import issue_report_link
from service.accounts.throttling.throttle import Throttle
from service.http.client import Client
from service.mail.message import Mail
from service.mail.outbox import write_mail
from service.settings.settings import Settings


async def queue_notice(
    connection: sql.Connection,
    client: Client,
    template: str,
    *,
    user_id: UUID,
    email: str,
    email_key: str,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue the notice ``template`` to ``email``, at a limited rate. ``client`` has caused it.

    ``email`` is the one before the change. The transaction of ``connection`` must hold the lock on
    the user's row.
    """
    if not await throttle.admit_notice(connection, template, user_id, email_key):
        return
    link = await issue_report_link(
        connection, user_id, email=email, email_key=email_key, settings=settings
    )
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": link,
        "days": str(Purpose.REPORT.ttl // DAY),
    }
    await write_mail(connection, Mail(email, template, client.language, values))
