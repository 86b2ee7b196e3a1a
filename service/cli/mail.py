"""``run.py mail``: look at mails, and retry those that were not sent."""

import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import sql
from service.cli.database import run_with_database
from service.cli.terminal import safe
from service.database.pool import Database
from service.mail.outbox import LEASE
from service.mail.templates import SUBJECT, load_templates
from service.settings.settings import Settings

MAX_LISTED = 100
COLUMNS = 100


def list_unsent(settings: Settings) -> int:
    """List the mails that wait and those that were refused."""
    counts, rows = run_with_database(settings, _read_unsent)
    print(f"refused {counts['refused']}, waiting {counts['pending']}")
    for row in rows:
        print("\n".join(_lines(row)))
    if (left := counts["refused"] + counts["pending"] - len(rows)) > 0:
        print(f"... and {left} more")
    return 0


def retry(settings: Settings, mail_id: UUID | None) -> int:
    """Send the mails that wait and those that were refused now, or one of them."""

    async def make_due(database: Database) -> int:
        return int(await sql.outbox.retry(database, id=mail_id, lease=LEASE))

    count = run_with_database(settings, make_due)
    if mail_id is not None and count == 0:
        print(
            f"Nothing to retry: {mail_id} is unknown, was sent, or is due within a minute.",
            file=sys.stderr,
        )
        return 1
    print(f"mails to send now: {count}")
    return 0


def preview(settings: Settings, folder: Path) -> int:
    """Write every mail in every language to files, with sample values."""
    messages = load_templates(settings).render_samples()
    try:
        for (language, template), message in messages.items():
            path = folder / language / template
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"{SUBJECT}{message.subject}\n\n{message.text}"
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
            path.with_suffix(".html").write_text(message.html, encoding="utf-8")
    except OSError as error:
        print(f"{error.filename} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Wrote {len(messages)} mails to {folder}.")
    return 0


async def _read_unsent(database: Database) -> tuple[Any, list[Any]]:
    counts = await sql.outbox.count_unsent(database)
    return counts, await sql.outbox.list_unsent(database, limit=MAX_LISTED)


def _lines(row: Any) -> list[str]:
    """Return the two lines that describe a mail without its values, which may contain a token."""
    state = "refused" if row["state"] == "refused" else "waiting"
    written = row["created_at"].strftime("%Y-%m-%d %H:%M UTC")
    # The mail server wrote the error.
    detail = safe(f"    {row['template']}, {row['error'] or 'no error'}, to {row['recipient']}")
    if len(detail) > COLUMNS:
        detail = detail[: COLUMNS - 3] + "..."
    return [f"{row['id']}  {state}  written {written}  attempts {row['attempts']}", detail]
