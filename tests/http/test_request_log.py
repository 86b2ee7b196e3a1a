"""Test the log line of each request."""

import asyncio
import io
import logging
import re
import socket
import struct
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from service.http.request_log import Line, RequestLog
from service.http.routes import Auth, RouteTableDef
from service.logs import JsonFormatter, PlainFormatter
from service.settings.settings import Settings
from tests.conftest import SECRET, SETTINGS, Client
from tests.http.conftest import Extend, RawConnection, Serve

routes = RouteTableDef()


@routes.get("/things/{name}", auth=Auth.OPTIONAL)
async def thing(request: web.Request) -> web.Response:
    if request.match_info["name"] == "broken":
        raise RuntimeError("internal")
    return web.Response(status=204)


class Terminal(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(client: Client) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in client.log.getvalue().splitlines()]


async def test_each_request_is_logged_as_one_line_of_json(client: Client, alice: str) -> None:
    client.log.truncate(0)
    client.log.seek(0)
    response = await client.get("/api/user", token=alice, headers={"X-Request-ID": "abc"})
    assert response.status == 200
    (line,) = lines_of(client)
    assert list(line) == [
        "time",
        "level",
        "request_id",
        "method",
        "route",
        "status",
        "milliseconds",
        "user_id",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert re.fullmatch(r"[0-9a-f-]{36}", str(line.pop("user_id")))
    milliseconds = line.pop("milliseconds")
    assert isinstance(milliseconds, float)
    assert milliseconds >= 0
    assert line == {
        "level": "info",
        "request_id": "abc",
        "method": "GET",
        "route": "/api/user",
        "status": 200,
    }


async def test_line_has_the_id_of_the_authenticated_user(
    client: Client, alice: str, bob: str
) -> None:
    for token in (alice, bob, alice, None, "nonsense"):
        await client.get("/api/user", token=token)
    ids = [line["user_id"] for line in lines_of(client)[2:]]
    assert ids[0] == ids[2]
    assert ids[0] is not None
    assert ids[1] not in (ids[0], None)
    assert ids[3:] == [None, None]


async def test_line_has_the_path_template_of_the_route(extend: Extend) -> None:
    client = await extend(routes)
    for path in ("/things/one", "/things/broken", "/nowhere/one", "/things/one/two?three=4"):
        await client.get(path)
    await client.post("/things/one")
    logged = [(line["route"], line["status"], line["level"]) for line in lines_of(client)]
    assert logged == [
        ("/things/{name}", 204, "info"),
        ("/things/{name}", 500, "error"),
        (None, 404, "info"),
        (None, 404, "info"),
        (None, 405, "info"),
    ]


async def test_line_has_the_request_id_of_the_response(client: Client) -> None:
    responses = [await client.get(path) for path in ("/health", "/nowhere", "/api/user")]
    logged = [line["request_id"] for line in lines_of(client)]
    assert logged == [response.headers["X-Request-ID"] for response in responses]


async def test_line_is_plain_text_on_a_terminal(extend: Extend) -> None:
    client = await extend(routes, Terminal())
    await client.get("/things/one", headers={"X-Request-ID": "abc"})
    await client.get("/nowhere", headers={"X-Request-ID": "def"})
    one, nowhere = client.log.getvalue().splitlines()
    assert re.fullmatch(r"204 GET /things/\{name\} [0-9.]+ ms  abc", one)
    assert re.fullmatch(r"404 GET \(no such path\) [0-9.]+ ms  def", nowhere)


async def test_request_cannot_forge_a_line(client: Client) -> None:
    await client.get("/%0a%7b%22level%22:%22forged%22%7d", headers={"X-Request-ID": "{}"})
    (line,) = lines_of(client)
    assert (line["route"], line["status"]) == (None, 404)
    assert "forged" not in client.log.getvalue()


RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds.

UPLOADS = {
    "with its length": (b"Content-Length: 1000", b'{"user"'),
    "chunked": (b"Transfer-Encoding: chunked", b'7\r\n{"user"\r\n'),
    "in the middle of a chunk": (b"Transfer-Encoding: chunked", b'ff\r\n{"user"'),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(("framing", "part"), UPLOADS.values(), ids=UPLOADS)
async def test_incomplete_upload_is_logged_once_with_499_at_info(
    wire: RawConnection, caplog: pytest.LogCaptureFixture, framing: bytes, part: bytes, reset: bool
) -> None:
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%b\r\n\r\n" % framing
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head)
    await reader.readuntil(b"100 Continue\r\n\r\n")  # The request has begun.
    writer.write(part)
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.close()
    async with asyncio.timeout(20):
        while not wire.log.getvalue():
            await asyncio.sleep(0)
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 200
    lines = [orjson.loads(line) for line in wire.log.getvalue().splitlines()]
    logged = [(line["route"], line["status"], line["level"]) for line in lines]
    assert logged == [("/api/users", 499, "info"), ("/health", 200, "info")]
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_connection_error_is_an_internal_error_when_the_client_is_connected(
    extend: Extend, caplog: pytest.LogCaptureFixture
) -> None:
    table = RouteTableDef()

    @table.get("/fails", auth=Auth.NONE)
    async def fails(request: web.Request) -> web.Response:
        raise ConnectionResetError("another server has gone")

    client = await extend(table)
    assert (await client.get("/fails")).status == 500
    assert [(line["status"], line["level"]) for line in lines_of(client)] == [(500, "error")]
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in errors] == ["unhandled error"]


async def test_requests_succeed_when_the_log_is_closed(client: Client) -> None:
    client.log.close()
    for _ in range(2):
        assert (await client.get("/health")).status == 200


async def test_lines_of_one_iteration_of_the_event_loop_are_written_together() -> None:
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    log = RequestLog(Stream())
    for number in range(3):
        log.write(Line(0.0, str(number), "GET", "/", 200, 0.001, None))
    assert written == []
    log.flush()
    assert len(written) == 1
    assert [orjson.loads(line)["request_id"] for line in written[0].splitlines()] == list("012")


async def test_logs_contain_no_secret(
    serve: Serve, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wire = await serve(routes)
    session: Any = aiohttp.ClientSession(f"http://127.0.0.1:{wire.port}")
    client = Client(session, Settings(**SETTINGS), wire.log)
    password, new_password, wrong = "the first password", "the second password", "a wrong password"
    user = {"username": "alice", "email": "alice@example.test", "password": password}
    credentials = {"email": "alice@example.test", "password": password}
    query = {"params": {"token": "the-token-in-the-query"}}

    tokens = [await client.register("alice", **user)]
    response = await client.post("/api/users/login", {"user": credentials}, **query)
    tokens.append(response.body["user"]["token"])
    await client.post("/api/users/login", {"user": {**credentials, "password": wrong}})
    await client.post("/api/users/login", {"user": {**credentials, "password": wrong + "\0"}})
    await client.post("/api/users", {"user": {**user, "password": wrong}})
    await client.put("/api/user", {"user": {"password": new_password}}, token=tokens[0])
    await client.delete("/api/user", {"user": {"password": wrong}}, token=tokens[0])
    for path in ("/api/user", "/things/broken", "/nowhere"):
        await client.get(path, token=tokens[0], **query)
        await client.get(path, token="a-bad-token", **query)
        await client.get(path, headers={"Authorization": "Basic YWxpY2U6d3Jvbmc="}, **query)
    await session.close()

    formatter = JsonFormatter()
    # Without a mail server the service prints mails on purpose, a second after the first request.
    records = [record for record in caplog.records if record.name != "service.mail.smtp"]
    printed = capsys.readouterr()
    logs = {
        "the request log": client.log.getvalue(),
        "the other log": "\n".join(formatter.format(record) for record in records),
        "the plain log": "\n".join(PlainFormatter().format(record) for record in records),
        "standard output": printed.out + printed.err,
    }
    # The logs contain all these requests. Otherwise the test would prove nothing.
    assert len(lines_of(client)) == 16
    assert logs["the other log"].count("unhandled error") == 3
    secrets = [password, new_password, wrong, *tokens, SECRET, "$2b$", "alice@example.test"]
    secrets += ["a-bad-token", "the-token-in-the-query", "YWxpY2U6d3Jvbmc=", "Authorization"]
    # The parts of a token after its first dot identify its user.
    secrets += [part for token in tokens for part in token.split(".")[1:]]
    for name, text in logs.items():
        for secret in secrets:
            assert secret not in text, f"{name} contains {secret}"
