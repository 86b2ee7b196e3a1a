"""Opaque tokens: their size, their digest, and what is stored."""

import asyncio
import hashlib

import asyncpg
import pytest

from service.accounts.sessions.opaque_tokens import digest_of, new_token
from tests.conftest import Client, Device


def test_token_has_256_bits_and_a_sha256_digest() -> None:
    tokens = [new_token() for _ in range(100)]
    assert len({token.plain for token in tokens}) == 100
    for token in tokens:
        assert len(token.plain) == 43
        assert (
            token.digest == digest_of(token.plain) == hashlib.sha256(token.plain.encode()).digest()
        )


def test_repr_of_a_token_hides_the_plain_text() -> None:
    token = new_token()
    assert token.plain not in repr(token)


async def test_tables_contain_no_plain_token(client: Client, db: asyncpg.Connection) -> None:
    registered = await client.open_account("alice")
    logged_in = await client.sign_in("alice")
    refreshed = Device.of(await client.refresh(logged_in.refresh))
    # Present the replaced token within the grace period, and after it as a thief would.
    await client.refresh(logged_in.refresh)
    await db.execute("update sessions set rotated_at = now() - interval '31 seconds'")
    assert (await client.refresh(logged_in.refresh)).body["code"] == "refresh_token_reused"
    tables = await db.fetch("select tablename from pg_tables where schemaname = 'public'")
    text = ""
    for table in tables:
        text += str(await db.fetch(f"select t::text from {table['tablename']} t"))  # noqa: S608
    digests = [digest_of(d.refresh).hex() for d in (registered, logged_in, refreshed)]
    assert all(digest in text for digest in digests)
    for device in (registered, logged_in, refreshed):
        # Search for the text, and for the bytes of the text.
        for plain in (device.refresh, device.access):
            assert plain not in text and plain.encode().hex() not in text
    assert registered.refresh not in client.log.getvalue()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"Laptop/1.0", "Laptop/1.0"),
        (b"x" * 299, "x" * 299),
        (b"x" * 301, "x" * 300),
        ("é".encode() * 400, "é" * 300),
        (b"caf\xe9 \xff\xfe", "caf\ufffd \ufffd\ufffd"),
        (b"", None),
    ],
    ids=["whole", "299", "301", "400 of two bytes", "not UTF-8", "empty"],
)
async def test_user_agent_of_a_login_is_stored_short_and_readable(
    client: Client, alice: str, sent: bytes, kept: str | None
) -> None:
    body = b'{"user": {"email": "alice@example.test", "password": "alice-secret"}}'
    head = f"POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Connection: close\r\nUser-Agent: "
    # A raw request: aiohttp's client cannot send a header that is not UTF-8.
    server = client.http.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(head.encode() + sent + b"\r\n\r\n" + body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    listed = await client.get("/api/user/sessions", token=alice)
    assert listed.body["sessions"][0]["user_agent"] == kept
