"""Test error responses, their log, and request ids."""

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
from tests.conftest import Client
from tests.http.conftest import Extend
from tests.responses import assert_error

HASH = "$2b$12$thehashthatmustneverleavethedatabase"
INTERNAL_ERROR = {"server": ["internal error"]}

routes = RouteTableDef()


@routes.get("/raises", auth=Auth.NONE)
async def raises(request: web.Request) -> web.Response:
    raise RuntimeError("the inside of the service")


@routes.get("/breaks", auth=Auth.NONE)
async def breaks(request: web.Request) -> web.Response:
    """Insert a row that PostgreSQL rejects with an error that quotes it."""
    await sql.users.insert(
        request.app[DATABASE],
        username=None,
        username_key="a",
        email="a@example.test",
        email_key="a",
        password_hash=HASH,
    )
    raise AssertionError("the row was inserted")


@routes.get("/rejects", auth=Auth.NONE)
async def rejects(request: web.Request) -> web.Response:
    raise web.HTTPGone(text="text of the exception")


@pytest.fixture
async def service(extend: Extend) -> Client:
    """Return a client of the service with routes that fail."""
    return await extend(routes)


@pytest.mark.parametrize(
    "path", ["/home", "/api", "/api/user/", "/api/users/login/x", "/api/user%00", "/%ff"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_unknown_path_is_not_found(client: Client, method: str, path: str) -> None:
    response = await client.send(method, path)
    assert_error(response, 404, "not_found", {"path": ["not found"]})


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
async def test_response_names_the_allowed_methods_when_a_method_is_not_allowed(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = await client.send(method, path)
    assert_error(response, 405, "method_not_allowed", {"method": ["not allowed"]})
    assert response.headers["Allow"] == allowed


async def test_head_returns_the_headers_of_get_without_a_body(client: Client, alice: str) -> None:
    for path, token in (("/health", None), ("/api/user", alice), ("/api/user", None)):
        get = await client.get(path, token=token)
        head = await client.send("HEAD", path, token=token)
        assert (head.status, head.body) == (get.status, None)
        assert list(head.headers) == list(get.headers)
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    missing = await client.send("HEAD", "/nowhere")
    assert (missing.status, missing.body) == (404, None)


async def test_health_reports_the_state_of_the_database(client: Client) -> None:
    response = await client.get("/health")
    assert (response.status, response.body) == (200, {"status": "ok", "database": "connected"})


async def test_internal_error_reveals_nothing_and_is_logged_once(service: Client) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        response = await service.get(
            "/raises", headers={"X-Request-ID": "id-of-the-failed-request"}
        )
    finally:
        logging.getLogger().removeHandler(handler)
    assert_error(response, 500, "internal_error", INTERNAL_ERROR)
    assert response.headers["X-Request-ID"] == "id-of-the-failed-request"
    (line,) = [orjson.loads(line) for line in log.getvalue().splitlines()]
    assert (line["level"], line["message"]) == ("error", "unhandled error")
    assert line["request_id"] == "id-of-the-failed-request"
    assert line["exception"].endswith("RuntimeError: the inside of the service")


async def test_service_continues_after_an_internal_error(service: Client) -> None:
    for _ in range(3):
        assert (await service.get("/raises")).status == 500
        assert (await service.get("/health")).status == 200


async def test_log_of_a_database_error_quotes_no_row(
    service: Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = await service.get("/breaks")
    assert_error(response, 500, "internal_error", INTERNAL_ERROR)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is not None
    # PostgreSQL quotes the row. Otherwise the test would prove nothing.
    error = record.exc_info[1]
    assert isinstance(error, asyncpg.CheckViolationError)
    assert HASH in str(error.detail)
    for formatter in (JsonFormatter(), PlainFormatter()):
        line = formatter.format(record)
        assert "CheckViolationError: new row for relation" in line
        assert HASH not in line


def test_description_of_a_cause_quotes_no_row() -> None:
    # asyncpg creates its errors from the fields that the server sent.
    fields = {"C": "23502", "S": "ERROR", "M": "null value", "D": f"Failing row contains ({HASH})."}
    error = asyncpg.PostgresError.new(fields)
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


async def test_exception_of_aiohttp_gets_the_common_error_shape(service: Client) -> None:
    response = await service.get("/rejects")
    assert_error(response, 410, "bad_request", {"request": ["gone"]})


@pytest.mark.parametrize("given", ["a", "0", "a-b_c.D9", "x" * 64])
async def test_request_id_of_the_client_is_kept_when_it_is_safe(client: Client, given: str) -> None:
    for path in ("/health", "/nowhere"):
        response = await client.get(path, headers={"X-Request-ID": given})
        assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a;b", 'a"b', "<b>", "ä", "a\tb", "${jndi:x}"], ids=ascii
)
async def test_request_id_of_the_client_is_replaced_when_it_is_not_safe(
    client: Client, given: str
) -> None:
    response = await client.get("/health", headers={"X-Request-ID": given})
    made = response.headers["X-Request-ID"]
    assert made != given
    assert made.replace("-", "").isalnum()


async def test_generated_request_ids_are_unique(client: Client) -> None:
    responses = await asyncio.gather(*(client.get("/health") for _ in range(20)))
    assert len({response.headers["X-Request-ID"] for response in responses}) == 20
