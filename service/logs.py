"""The log of everything that is not a request: JSON for machines, plain on a terminal."""

import logging
import sys
import time
import traceback
from contextvars import ContextVar

import asyncpg
import orjson

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered: in its answer, and in every line that it logs."""


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, request id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = describe(record.exc_info[1])
        return orjson.dumps(fields).decode()


class PlainFormatter(logging.Formatter):
    """The message; below it the exception, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname}: {line}"
        if record.exc_info and record.exc_info[1]:
            line += "\n" + describe(record.exc_info[1])
        return line


def describe(error: BaseException) -> str:
    """The traceback of ``error`` and its causes.

    Of a database error it leaves out the detail: there PostgreSQL quotes the values of the row,
    password hashes among them.
    """
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        kept = seen.args[0] if isinstance(seen, asyncpg.PostgresError) and seen.args else seen
        frames = "".join(traceback.format_tb(seen.__traceback__))
        parts.append(f"{frames}{type(seen).__name__}: {kept}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\nwhich followed:\n".join(parts)


def configure() -> None:
    """Send every record to standard output, as its reader (terminal or machine) likes it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # yoyo tells each step of each migration; ours is the one line that matters.
    logging.getLogger("yoyo").setLevel(logging.WARNING)
