"""The end of a login, which is the only code that opens a session."""

import ast
from pathlib import Path

import asyncpg
import orjson
import pytest

import sql
from service.accounts.sign_in import SIGN_IN
from service.database.pool import DATABASE
from service.http.client import Client as HttpClient
from service.http.errors import Unauthorized
from tests.conftest import Client

ROOT = Path(__file__).resolve().parents[2]


def uses(name: str) -> set[str]:
    """Return the files of the service that call or pass on ``name``, which may have a dot."""
    found = set()
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute | ast.Name) and (
                ast.unparse(node) == name or ast.unparse(node).endswith(f".{name}")
            ):
                found.add(path.relative_to(ROOT / "service/accounts").as_posix())
    return found


def test_open_session_is_called_only_at_the_end_of_a_login() -> None:
    assert uses("open_session") == {"sign_in.py"}
    assert uses("sessions.open") == {"sessions/sessions.py"}


async def test_finish_opens_a_session_without_a_request(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")
    user = await sql.users.find_credentials(app[DATABASE], id=user_id)
    caller = HttpClient.at("203.0.113.9", "curl/8.5.0")
    response = await app[SIGN_IN].finish(caller, user)
    body = orjson.loads(response.body)
    assert (response.status, set(body)) == (200, {"user", "refresh_token", "expires_in"})
    assert await client.is_authenticated(body["user"]["token"])
    event = await db.fetchrow("select kind, ip, user_agent from events order by id desc limit 1")
    assert tuple(event) == ("signed_in", "203.0.113.9", "curl/8.5.0")


async def test_finish_rejects_a_login_when_the_password_has_changed_since_its_verification(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")
    user = await sql.users.find_credentials(app[DATABASE], id=user_id)
    await db.execute("update users set password_version = password_version + 1")
    with pytest.raises(Unauthorized) as raised:
        await app[SIGN_IN].finish(HttpClient.at("203.0.113.9"), user)
    assert raised.value.code == "invalid_credentials"
    assert await db.fetchval("select count(*) from sessions") == 1
    kinds = await db.fetch("select kind from events where user_id = $1 order by id", user_id)
    assert [kind for (kind,) in kinds] == ["registered", "sign_in_failed"]
