"""Format the log of everything except requests: JSON for machines, plain text on a terminal."""

import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import TextIO

import asyncpg
import orjson

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request. Its response and each of its log lines contain the id."""


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time, level, logger, message, request id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
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
    """Format a record as its message, with an exception on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message. A warning or an error begins with its level."""
        line = record.getMessage()
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname}: {line}"
        if record.exc_info and record.exc_info[1]:
            line += "\n" + describe(record.exc_info[1])
        return line


def describe(error: BaseException) -> str:
    """Return the traceback of ``error`` and its causes.

    Omit the detail of a database error: PostgreSQL quotes the values of the row in it, password
    hashes included.
    """
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        kept = seen.args[0] if isinstance(seen, asyncpg.PostgresError) and seen.args else seen
        frames = "".join(traceback.format_tb(seen.__traceback__))
        parts.append(f"{frames}{type(seen).__name__}: {kept}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\ncaused by:\n".join(parts)


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send every record of ``level`` to ``stream``: plain text on a terminal, JSON otherwise.

    The default of ``stream`` is standard output.
    """
    stream = stream or sys.stdout
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # yoyo logs each step of each migration. The service logs one line per migration itself.
    logging.getLogger("yoyo").setLevel(logging.WARNING)
