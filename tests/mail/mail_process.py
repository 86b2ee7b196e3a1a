"""A mail server that is a process of its own, so that tests can kill it.

``mail_process.py PORT FILE`` appends a line of JSON to ``FILE`` for each mail before it accepts the
mail. While a file ``FILE.hold`` exists, it does not reply to a mail.
"""

import asyncio
import json
import os
import sys
from collections import Counter, defaultdict
from email import message_from_bytes
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

from tests.processes import ROOT, Process, free_port


class Handler:
    """Store each mail in a file, then accept it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hold = file.with_suffix(".hold")

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        (recipient,) = envelope.rcpt_tos
        message_id = message_from_bytes(envelope.content)["Message-ID"]
        line = json.dumps([recipient, message_id]) + "\n"
        with self._file.open("ab") as file:
            os.write(file.fileno(), line.encode())
        while self._hold.exists():
            await asyncio.sleep(0.01)
        return "250 OK"


class MailProcess:
    """The mail server in ``folder``, which can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._file = folder / "mails"
        self._hold = folder / "mails.hold"

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of a service that sends its mails here."""
        return {
            "SMTP_URL": f"smtp://127.0.0.1:{self.port}",
            "MAIL_FROM": "accounts@example.org",
            "BASE_URL": "http://localhost",
        }

    def start(self) -> Process:
        """Start the server, and return its process once it listens."""
        command = (sys.executable, __file__, str(self.port), str(self._file))
        process = Process(command, self._folder / "server", {"PYTHONPATH": str(ROOT)})
        process.wait_for_output("listening")
        return process

    def hold(self) -> None:
        """Store the next mails, but do not reply to them."""
        self._hold.touch()

    def release(self) -> None:
        """Reply again."""
        self._hold.unlink()

    def copies(self) -> Counter[str]:
        """Return the number of stored copies of each mail, by recipient."""
        return Counter(recipient for recipient, _ in self._lines())

    def has_stored(self, count: int) -> bool:
        """Return whether mails to ``count`` recipients are stored."""
        return len(self.copies()) >= count

    def message_ids(self) -> dict[str, set[str]]:
        """Return the different Message-IDs of the mails of each recipient."""
        found = defaultdict(set)
        for recipient, message_id in self._lines():
            found[recipient].add(message_id)
        return dict(found)

    def _lines(self) -> list[tuple[str, str]]:
        if not self._file.exists():
            return []
        # The last line may be half written.
        lines = self._file.read_text().rpartition("\n")[0].splitlines()
        return [tuple(json.loads(line)) for line in lines]


async def _serve(port: int, file: Path) -> None:
    loop = asyncio.get_running_loop()
    handler = Handler(file)
    await loop.create_server(
        lambda: SMTP(handler, loop=loop), "127.0.0.1", port, reuse_address=True
    )
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
