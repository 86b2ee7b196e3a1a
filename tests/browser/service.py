"""The service that the browser opens: its URLs, its printed mails and its database."""

import re
from typing import Any

import psycopg

from tests.processes import Process, eventually


class Service:
    """A running process of the service, and a connection to its database."""

    def __init__(self, process: Process, database: psycopg.Connection[Any]) -> None:
        self.process = process
        self._database = database

    def url(self, path: str) -> str:
        """Return the URL of ``path``."""
        return f"http://localhost:{self.process.port}{path}"

    def fetch(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run ``query`` and return its rows."""
        with self._database.cursor() as cursor:
            return cursor.execute(query, values).fetchall()

    def register(self, name: str) -> str:
        """Register an account and return the link of the mail that verifies its email."""
        self.process.register(name)
        return self.link_to(name, "verify-email")

    def forget_password(self, name: str) -> str:
        """Ask for a new password and return the link of the mail that resets the password."""
        body = {"email": f"{name}@example.test"}
        assert self.process.request("POST", "/api/auth/forgot-password", body)[0] == 200
        return self.link_to(name, "reset-password")

    def link_to(self, name: str, page: str) -> str:
        """Return the link to ``page`` in the printed mail to the user ``name``."""

        def find() -> str | None:
            # The last line may be half written.
            for line in self.process.out.rpartition("\n")[0].splitlines():
                if f"to={name}@example.test " in line:
                    found = re.search(rf"http://[^\s\\]+/{page}\?token=[\w-]+", line)
                    if found:
                        return found[0]
            return None

        return str(eventually(find, f"the mail to {name}"))
