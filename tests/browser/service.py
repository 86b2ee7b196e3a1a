"""The service that the browser opens: its URLs, its printed mails and its database."""

import re
from typing import Any

import psycopg

from service.accounts.sessions.opaque_tokens import digest_of
from tests.processes import Process, eventually

NEW_PASSWORD = "correct horse battery staple"
TOO_LONG_PASSWORD = "m" * 73
"""A password that bcrypt cannot hash. The form in the browser does not know this limit."""


LOCK_AT_NEXT_FAILURE = """
with owner as (select id from users where username = %s),
unknown as (delete from known_ips using owner where known_ips.user_id = owner.id)
insert into consecutive_failures (user_id, failures)
select id, 99
from owner
returning user_id
"""


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

    def is_used(self, link: str) -> bool:
        """Return whether the token in ``link`` was used or revoked."""
        token = link.partition("?token=")[2]
        query = "select 1 from one_time_tokens where digest = %s and used_at is null"
        return not self.fetch(query, digest_of(token))

    def register(self, name: str) -> str:
        """Register an account and return the link of the mail that verifies its email."""
        self.process.register(name)
        return self.link_to(name, "verify-email")

    def forget_password(self, name: str) -> str:
        """Ask for a new password and return the link of the mail that resets the password."""
        body = {"email": f"{name}@example.test"}
        assert self.process.request("POST", "/api/auth/forgot-password", body)[0] == 200
        return self.link_to(name, "reset-password")

    def change_password(self, name: str, password: str) -> tuple[str, str]:
        """Register an account and change its password.

        Return the access token of the device that changed it, and the link of the notice.
        """
        token = self.process.register(name)
        self._change(token, {"password": password})
        return token, self.link_to(name, "report")

    def lock_login(self, name: str) -> str:
        """Register an account and fail its login for the hundredth time from an unknown IP address.

        Return the link that unlocks the login.
        """
        self.process.register(name)
        assert self.fetch(LOCK_AT_NEXT_FAILURE, name)
        assert not self.can_log_in(name, "wrong")
        return self.link_to(name, "unlock-login")

    def change_email(self, name: str, new_name: str) -> str:
        """Register an account, verify its email, and change it to that of a user ``new_name``.

        Return the link that confirms the new email.
        """
        token = self.process.register(name)
        verification = {"token": self.link_to(name, "verify-email").partition("?token=")[2]}
        assert self.process.request("POST", "/api/auth/verify-email", verification)[0] == 200
        self._change(token, {"email": f"{new_name}@example.test"})
        return self.link_to(new_name, "confirm-email-change")

    def _change(self, token: str, changes: dict[str, str]) -> None:
        assert self.process.request("PUT", "/api/user", {"user": changes}, token)[0] == 200

    def can_log_in(self, name: str, password: str) -> bool:
        """Return whether the user ``name`` can log in with ``password``."""
        user = {"email": f"{name}@example.test", "password": password}
        return self.process.request("POST", "/api/users/login", {"user": user})[0] == 200

    def link_to(self, name: str, page: str) -> str:
        """Return the link to ``page`` in the printed mail to the user ``name``."""

        def find() -> list[str]:
            return printed_links(self.process.out, page, f"{name}@example.test")

        return eventually(find, f"the mail to {name}")[0]


def printed_links(log: str, page: str, email: str, subject: str = "") -> list[str]:
    """Return the links to ``page`` in the mails to ``email`` that the service has printed.

    ``log`` is the output of the service. With a ``subject``, leave out all other mails.
    """
    mail = f"to={email} subject={subject}"
    # The last line may be half written.
    lines = [line for line in log.rpartition("\n")[0].splitlines() if mail in line]
    return [
        found[0]
        for line in lines
        if (found := re.search(rf"http://[^\s\\]+/{page}\?token=[\w-]+", line))
    ]
