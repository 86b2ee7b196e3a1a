"""Mails that leave one process, with a mail server on this machine.

``python -m bench.mail PORT SECONDS`` is that mail server. It accepts each mail after ``SECONDS``.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aiosmtpd.smtp import SMTP

import sql
from bench.servers import free_port, running
from bench.table import Row
from service.database.migrate import migrate
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedServer
from service.mail import outbox as module
from service.mail.message import Mail
from service.mail.outbox import Outbox, write_mail
from service.mail.smtp import SmtpServer
from service.mail.templates import SAMPLES, Templates

POOL_SIZE = 16
SLOW = 0.1  # Seconds until a slow server accepts a mail: it asks a filter against spam.
SERVERS = {"a server that accepts at once": (0.0, 1000), "one that takes 100 ms": (SLOW, 200)}


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = EmbeddedServer(Path(folder) / "data", report)
        url = server.start()
        try:
            migrate(url, report)
            rows = []
            for what, (seconds, count) in SERVERS.items():
                report(f"Sending {2 * count} mails to {what} ...")
                port = free_port()
                command = [sys.executable, "-m", "bench.mail", str(port), str(seconds)]
                with running(command, port):
                    many = asyncio.run(_rate(url, port, count, module.CONCURRENCY))
                    one = asyncio.run(_rate(url, port, count, 1))
                name = f"{what}: mails a second"
                rows.append(Row(name, f"{many:.0f}", f"{one:.0f}", f"{many / one:.2f}"))
            return rows
        finally:
            server.stop()


async def _rate(url: str, port: int, count: int, concurrency: int) -> float:
    """Return the mails a second that one outbox sends, ``concurrency`` at a time."""
    database = Database(url, POOL_SIZE)
    await database.open()

    async def queue(connection: sql.Connection) -> None:
        for number in range(count):
            mail = Mail(f"user{number}@example.test", "lockout", "en", dict(SAMPLES["lockout"]))
            await write_mail(connection, mail)

    try:
        await database.transact(queue)
        mailer = SmtpServer(f"smtp://127.0.0.1:{port}", "bench@example.test")
        with patch.object(module, "CONCURRENCY", concurrency):
            outbox = Outbox(database, mailer, Templates(None, "example.test"))
        started = time.perf_counter()
        outbox.start()
        # The server is another process: no event tells when the last mail is sent.
        while (await sql.outbox.count_unsent(database))["pending"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - started
        await outbox.stop()
        return count / seconds
    finally:
        await database.close()


class _Handler:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802
        await asyncio.sleep(self._seconds)
        return "250 OK"


async def _serve(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(_Handler(seconds), loop=loop), "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
