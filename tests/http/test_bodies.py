"""Test request bodies that are too large, incomplete, slow or chunked."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from service.http import bodies
from tests.conftest import Client, MakeClient
from tests.http.conftest import RawConnection, response_of
from tests.responses import assert_error, assert_invalid

MEGABYTE = 1024 * 1024
TOO_LARGE = {"body": ["is too large"]}


async def in_pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def bio_of(length: int) -> bytes:
    """Return a well-formed body of ``length`` bytes with a bio that is too long."""
    head, tail = b'{"user": {"bio": "', b'"}}'
    return head + b"a" * (length - len(head) - len(tail)) + tail


async def test_body_of_the_maximum_size_is_read(client: Client, alice: str) -> None:
    too_long = "is too long (maximum is 500 characters)"
    for data in (bio_of(MEGABYTE), in_pieces(bio_of(MEGABYTE))):
        response = await client.put("/api/user", token=alice, data=data)
        assert_invalid(response, 400, bio=too_long)


@pytest.mark.parametrize("size", [MEGABYTE + 1, 10 * MEGABYTE], ids=["1 MB and 1", "10 MB"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_body_over_the_limit_is_rejected(
    client: Client, alice: str, size: int, chunked: bool
) -> None:
    body = bio_of(size)
    for path, method in (
        ("/api/users", "POST"),
        ("/api/users/login", "POST"),
        ("/api/user", "PUT"),
    ):
        data = in_pieces(body) if chunked else io.BytesIO(body)
        response = await client.send(method, path, token=alice, data=data)
        assert_error(response, 413, "body_too_large", TOO_LARGE)
    assert (await client.get("/api/user", token=alice)).status == 200


async def test_body_limit_is_max_body_size(make_client: MakeClient) -> None:
    client = await make_client(max_body_size=2000)
    response = await client.post("/api/users", data=b" " * 2001)
    assert_error(response, 413, "body_too_large", TOO_LARGE)
    response = await client.post("/api/users", data=b" " * 2000)
    assert_invalid(response, 400, body="is not valid JSON")


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_connection_stays_usable_after_a_body_that_is_too_large(
    wire: RawConnection, chunked: bool
) -> None:
    size = MEGABYTE + 70_000
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\n"
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"a" * size)
    else:
        head += b"Content-Length: %d\r\n\r\n" % size
        body = b"a" * size
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head + body)
    head_413 = await reader.readuntil(b"\r\n\r\n")
    assert head_413.startswith(b"HTTP/1.1 413 ")
    length = int(head_413.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response_of(await reader.read()).body == {"status": "ok", "database": "connected"}
    writer.close()


async def test_incomplete_body_does_not_affect_other_clients(wire: RawConnection) -> None:
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head + b'{"user"')
    writer.close()
    await writer.wait_closed()
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 200


async def test_malformed_chunk_is_a_bad_request(wire: RawConnection) -> None:
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = await wire.send(head + b"not a length\r\n")
    assert response.status == 400
    assert set(response.body) == {"errors", "code"}
    assert response.headers["X-Request-ID"]


async def test_body_that_arrives_too_slowly_is_rejected_with_408(
    wire: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.01)
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head + b'{"user"')
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        response = response_of(head + await reader.readexactly(length))
    writer.close()
    assert_error(response, 408, "request_timeout", {"body": ["took too long to arrive"]})


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LINK = "/api/auth/verify-email"


@pytest.mark.parametrize(
    ("raw", "status", "title"),
    [
        (b"token=" + b"A" * 43, 404, "This link is not valid"),
        (b"token=%41&email=a%40b.example", 404, "This link is not valid"),
        (b"", 400, "This link is not complete"),
        (b"token=", 400, "This link is not complete"),
        (b"token=A&token=B", 400, "This link is not complete"),
        (b"token=A&token=B&token=C", 400, "This link is not complete"),
        (b"token=A%00", 400, "This link is not complete"),
        (b"token=%ff", 400, "This link is not complete"),
        (b"token=\xff", 400, "This link is not complete"),
        (b"&".join(b"a=1" for _ in range(1000)), 400, "This link is not complete"),
    ],
)
async def test_form_gets_a_page_on_a_route_with_pages(
    client: Client, raw: bytes, status: int, title: str
) -> None:
    page = await client.send("POST", LINK, data=raw, headers=FORM)
    assert page.status == status
    assert f"<h1>{title}</h1>" in page.body


async def test_json_with_the_content_type_of_a_form_gets_json(client: Client) -> None:
    """Without another content type, curl sends JSON in this way."""
    response = await client.send("POST", LINK, data=b' {"token": "A"}', headers=FORM)
    assert_error(response, 404, "not_found", {"token": ["not found"]})


async def test_form_is_not_accepted_on_other_routes(client: Client) -> None:
    response = await client.send("POST", "/api/users", data=b"user=x", headers=FORM)
    assert_invalid(response, 400, body="is not valid JSON")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user": {"email": "a", "email": "a"}}',
        b'{"user": {"email": "a", "\\u0065mai\\u006c": "a"}}',
        b'{"user": [{"x": {"email": null, "email": {"email": 1}}}]}',
    ],
)
async def test_email_given_twice_is_rejected(client: Client, raw: bytes) -> None:
    response = await client.send("POST", "/api/users/login", data=raw)
    assert_invalid(response, 400, email="must be given once")


@pytest.mark.parametrize(
    "value",
    [b"9" * 300, b"-1e300", b'"email \\u00e9 email"', b"[" * 900 + b"]" * 900],
    ids=["integer", "float", "text", "nesting"],
)
async def test_two_emails_in_different_objects_are_accepted(client: Client, value: bytes) -> None:
    raw = b'{"token": "A", "email": 1, "other": {"email": ' + value + b"}}"
    response = await client.send("POST", LINK, data=raw)
    assert_error(response, 404, "not_found", {"token": ["not found"]})
