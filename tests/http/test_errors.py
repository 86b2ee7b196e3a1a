import asyncio
import io
import logging

import asyncpg
import orjson
import pytest
from aiohttp import web

import sql
from service.database.pool import DATABASE
from service.http.routes import Auth, RouteTableDef
from service.logs import JsonFormatter, PlainFormatter, describe
from tests.answers import assert_error
from tests.conftest import Client
from tests.http.conftest import Extend

HASH = "$2b$12$thehashthatmustneverleavethedatabase"
FAULT = {"server": ["internal error"]}

routes = RouteTableDef()


@routes.get("/raises", auth=Auth.NONE)
async def raises(request: web.Request) -> web.Response:
    raise RuntimeError("the inside of the service")


@routes.get("/breaks", auth=Auth.NONE)
async def breaks(request: web.Request) -> web.Response:
    """A row that PostgreSQL refuses, quoting all of it."""
    await sql.users.insert(
        request.app[DATABASE],
        username=None,
        username_key="a",
        email="a@example.test",
        email_key="a",
        password_hash=HASH,
    )
    raise AssertionError("the row was taken")


@routes.get("/refuses", auth=Auth.NONE)
async def refuses(request: web.Request) -> web.Response:
    raise web.HTTPGone(text="words of its own")


@pytest.fixture
async def service(extend: Extend) -> Client:
    """The service with a few routes that fail."""
    return await extend(routes)


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/user/", "/api/users/login/x", "/api/user%00", "/%ff"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_an_unknown_path_is_not_found(client: Client, method: str, path: str) -> None:
    answer = await client.send(method, path)
    assert_error(answer, 404, "not_found", {"path": ["not found"]})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/users", "POST"),
        ("GET", "/api/users/login", "POST"),
        ("PUT", "/api/users", "POST"),
        ("POST", "/api/user", "DELETE,GET,HEAD,PUT"),
        ("PATCH", "/api/user", "DELETE,GET,HEAD,PUT"),
        ("POST", "/health", "GET,HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_which_are(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = await client.send(method, path)
    assert_error(answer, 405, "method_not_allowed", {"method": ["not allowed"]})
    assert answer.headers["Allow"] == allowed


async def test_head_answers_like_get_without_a_body(client: Client, alice: str) -> None:
    for path, token in (("/health", None), ("/api/user", alice), ("/api/user", None)):
        get = await client.get(path, token=token)
        head = await client.send("HEAD", path, token=token)
        assert (head.status, head.body) == (get.status, None)
        assert list(head.headers) == list(get.headers)
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    missing = await client.send("HEAD", "/nowhere")
    assert (missing.status, missing.body) == (404, None)


async def test_health_tells_the_state_of_the_database(client: Client) -> None:
    answer = await client.get("/health")
    assert (answer.status, answer.body) == (200, {"status": "ok", "database": "connected"})


async def test_a_fault_tells_nothing_and_is_logged_once(service: Client) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        answer = await service.get("/raises", headers={"X-Request-ID": "the-id-of-the-fault"})
    finally:
        logging.getLogger().removeHandler(handler)
    assert_error(answer, 500, "internal_error", FAULT)
    assert answer.headers["X-Request-ID"] == "the-id-of-the-fault"
    (line,) = [orjson.loads(line) for line in log.getvalue().splitlines()]
    assert (line["level"], line["message"]) == ("error", "unhandled error")
    assert line["request_id"] == "the-id-of-the-fault"
    assert line["exception"].endswith("RuntimeError: the inside of the service")


async def test_the_service_goes_on_after_a_fault(service: Client) -> None:
    for _ in range(3):
        assert (await service.get("/raises")).status == 500
        assert (await service.get("/health")).status == 200


async def test_the_log_of_a_database_error_quotes_no_row(
    service: Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await service.get("/breaks")
    assert_error(answer, 500, "internal_error", FAULT)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is not None
    # PostgreSQL did quote it: the test would not show anything otherwise.
    error = record.exc_info[1]
    assert isinstance(error, asyncpg.CheckViolationError)
    assert HASH in str(error.detail)
    for formatter in (JsonFormatter(), PlainFormatter()):
        line = formatter.format(record)
        assert "CheckViolationError: new row for relation" in line
        assert HASH not in line


def test_the_cause_of_an_error_is_described_without_its_rows_too() -> None:
    # asyncpg makes its errors of the fields that the server sent.
    told = {"C": "23502", "S": "ERROR", "M": "null value", "D": f"Failing row contains ({HASH})."}
    error = asyncpg.PostgresError.new(told)
    assert HASH in str(error)
    try:
        try:
            raise error
        except asyncpg.PostgresError as cause:
            raise RuntimeError("above it") from cause
    except RuntimeError as raised:
        described = describe(raised)
    assert "RuntimeError: above it" in described
    assert "NotNullViolationError: null value" in described
    assert HASH not in described


async def test_an_exception_of_aiohttps_gets_the_one_shape(service: Client) -> None:
    answer = await service.get("/refuses")
    assert_error(answer, 410, "bad_request", {"request": ["gone"]})


@pytest.mark.parametrize("given", ["a", "0", "a-b_c.D9", "x" * 64])
async def test_a_harmless_request_id_is_taken(client: Client, given: str) -> None:
    for path in ("/health", "/nowhere"):
        answer = await client.get(path, headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a;b", 'a"b', "<b>", "ä", "a\tb", "${jndi:x}"], ids=ascii
)
async def test_any_other_request_id_is_replaced(client: Client, given: str) -> None:
    answer = await client.get("/health", headers={"X-Request-ID": given})
    made = answer.headers["X-Request-ID"]
    assert made != given
    assert made.replace("-", "").isalnum()


async def test_request_ids_that_are_made_differ(client: Client) -> None:
    answers = await asyncio.gather(*(client.get("/health") for _ in range(20)))
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 20
