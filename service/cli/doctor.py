"""``run.py doctor``: check the installation, beside the running service or without it."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import orjson
import voluptuous as vol

from service.accounts import fields
from service.cli.commands import OUTPUT_CLOSED
from service.doctor.examination import CHECKS, examine
from service.doctor.findings import Context, Finding, Status, problem
from service.doctor.redaction import redact, secrets_of
from service.embedded_postgres.server import running_dsn
from service.settings.generated_secrets import with_existing_secrets
from service.settings.settings import Settings, SettingsError

THREADS = 64
CHECK_WIDTH = max(map(len, CHECKS)) + 2
STATUS_WIDTH = len(Status.PROBLEM) + 2


def doctor(send_to: str | None, *, as_json: bool) -> int:
    """Check the installation: what holds, what does not, and what to do."""
    if send_to is not None:
        try:
            fields.email(send_to)
        except vol.Invalid as error:
            print(f"{send_to} {error}.", file=sys.stderr)
            return 2
    # A line of a library would be no finding, and could quote a URL.
    logging.disable()
    output = _Json() if as_json else _Lines()
    try:
        settings = with_existing_secrets(Settings.load())
    except SettingsError as error:
        action = "correct it and run this command again: the other checks need it"
        output.add("settings", [problem(text.removesuffix("."), action) for text in error.errors])
        return output.finish()
    output.secrets = secrets_of(settings)
    url = running_dsn(settings.data_dir) if settings.embedded else settings.database_url
    # Not ``asyncio.run``, which waits for threads: the lookup of a name cannot be cancelled.
    loop = asyncio.new_event_loop()
    # Lookups that hang must not take the threads of other checks.
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    try:
        loop.run_until_complete(_show(output, Context(settings, url, send_to)))
        status = output.finish()
        sys.stdout.flush()
    except BrokenPipeError:
        status = OUTPUT_CLOSED
    sys.stderr.flush()
    os._exit(status)


async def _show(output: "_Output", context: Context) -> None:
    waiting = list(CHECKS)
    output.show_progress(waiting)
    async for check, findings in examine(context):
        output.add(check, findings)
        waiting.remove(check)
        output.show_progress(waiting)


class _Output:
    """Print findings without the secrets of the settings."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self._has_problem = False

    def add(self, check: str, findings: Sequence[Finding]) -> None:
        """Add the findings of one check."""
        for finding in findings:
            self._has_problem |= finding.status is Status.PROBLEM
            message = redact(finding.message, self.secrets)
            action = finding.action and redact(finding.action, self.secrets)
            self._add(check, finding.status, message, action)

    def _add(self, check: str, status: Status, message: str, action: str | None) -> None:
        raise NotImplementedError

    def show_progress(self, waiting: Sequence[str]) -> None:
        """Show the checks that have no result yet to a person at a terminal."""
        if sys.stderr.isatty():
            text = f"checking: {', '.join(waiting)} ..." if waiting else ""
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def finish(self) -> int:
        """Print what is left, and return the exit status: 1 if there is a problem."""
        return int(self._has_problem)


class _Lines(_Output):
    """Print a line for each finding."""

    def _add(self, check: str, status: Status, message: str, action: str | None) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        text = f"{message}; {action}" if action else message
        print(f"{status:<{STATUS_WIDTH}}{check:<{CHECK_WIDTH}}{text}", flush=True)


class _Json(_Output):
    """Print one JSON object at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._findings: list[dict[str, str | None]] = []

    def _add(self, check: str, status: Status, message: str, action: str | None) -> None:
        self._findings.append(
            {"check": check, "status": status.value, "message": message, "action": action}
        )

    def finish(self) -> int:
        """Print the object, and return the exit status."""
        status = super().finish()
        result = {"status": "problem" if status else "ok", "findings": self._findings}
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        return status
