"""The formats of the log."""

import logging
from collections.abc import Iterator
from typing import Any

import asyncpg
import orjson
import pytest

from service.logs import REQUEST_ID, JsonFormatter, PlainFormatter, configure, describe

HASH = "$2b$12$secret"


def record_of(level: int = logging.INFO, error: BaseException | None = None) -> logging.LogRecord:
    info: Any = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("service.x", level, "x.py", 1, "lost: error=%s", ("a",), info)
    record.created, record.msecs = 1_700_000_000.25, 250
    return record


def raised() -> RuntimeError:
    """Return an error whose cause is a database error that quotes a row."""
    # asyncpg creates its errors from the fields that the server sends.
    fields = {"C": "23502", "S": "ERROR", "M": "null value", "D": f"Failing row ({HASH})."}
    try:
        try:
            raise asyncpg.PostgresError.new(fields)
        except asyncpg.PostgresError as cause:
            assert HASH in str(cause)
            raise RuntimeError("failed") from cause
    except RuntimeError as error:
        return error


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Yield the root logger and restore its handlers and levels after the test."""
    root, yoyo = logging.getLogger(), logging.getLogger("yoyo")
    before = (root.handlers, root.level, yoyo.level)
    yield root
    root.handlers = before[0]
    root.setLevel(before[1])
    yoyo.setLevel(before[2])


def test_json_line_has_time_level_logger_and_message() -> None:
    assert orjson.loads(JsonFormatter().format(record_of())) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "service.x",
        "message": "lost: error=a",
    }


def test_json_line_has_the_request_id_during_a_request() -> None:
    token = REQUEST_ID.set("3f1c")
    try:
        line = orjson.loads(JsonFormatter().format(record_of()))
    finally:
        REQUEST_ID.reset(token)
    assert line["request_id"] == "3f1c"


def test_json_line_has_the_exception_without_the_rows_of_its_cause() -> None:
    text = JsonFormatter().format(record_of(logging.ERROR, raised()))
    line = orjson.loads(text)
    assert line["level"] == "error"
    assert line["exception"].partition("\ncaused by:\n")[0].endswith("RuntimeError: failed")
    assert line["exception"].endswith("NotNullViolationError: null value")
    assert HASH not in text


@pytest.mark.parametrize(
    ("level", "line"),
    [(logging.INFO, "lost: error=a"), (logging.WARNING, "WARNING: lost: error=a")],
)
def test_plain_line_is_the_message_with_the_level_of_a_problem(level: int, line: str) -> None:
    assert PlainFormatter().format(record_of(level)) == line


def test_plain_line_is_followed_by_the_exception() -> None:
    text = PlainFormatter().format(record_of(logging.ERROR, raised()))
    assert text.startswith("ERROR: lost: error=a\n  File ")
    assert "RuntimeError: failed" in text
    assert HASH not in text


def test_describe_leaves_out_a_suppressed_context() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None
    except ValueError as error:
        text = describe(error)
    assert text.endswith("ValueError: outer")
    assert "inner" not in text


def test_configure_writes_json_when_standard_output_is_not_a_terminal(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    logging.getLogger("service.x").info("started")
    logging.getLogger("service.x").debug("not shown")
    logging.getLogger("yoyo").info("not shown")
    (line,) = capsys.readouterr().out.splitlines()
    assert orjson.loads(line)["message"] == "started"
