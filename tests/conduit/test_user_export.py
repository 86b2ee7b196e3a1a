"""The export of any account for an administrator."""

from typing import Any

import asyncpg
import orjson
import pytest
from aiohttp import ClientPayloadError

from service.accounts.administration.api_keys import Scope, revoke_key
from service.conduit import export
from tests.accounts.account_locks import id_of
from tests.accounts.administration.administrators import Administrator, database_of
from tests.conftest import Client


@pytest.fixture
async def administrator(client: Client) -> Administrator:
    return await Administrator.create(client, Scope.USERS_READ)


async def test_export_is_the_document_of_the_user_and_is_logged(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    own = (await client.get("/api/user/export", token=device.access)).body
    response = await administrator.get(f"/users/{await id_of(db)}/export")
    # The document has its own event already.
    kinds = [event["kind"] for event in response.body["events"]]
    assert kinds == ["registered", "exported"]
    assert {**response.body, "events": own["events"]} == own
    assert response.headers["Cache-Control"] == "no-store"
    row = await db.fetchrow("select kind, actor from events order by id desc limit 1")
    assert row is not None and tuple(row) == ("exported", "backoffice")
    (event, _) = (await client.get("/api/user/events", token=device.access)).body["events"]
    assert (event["kind"], event["by_administrator"], event["ip"]) == ("exported", True, None)
    text = orjson.dumps((await administrator.get(f"/users/{await id_of(db)}/export")).body).decode()
    # The owner must not learn who the administrator is.
    assert "backoffice" not in text and '"exported"' in text


async def test_export_ends_early_when_the_key_is_revoked(
    client: Client,
    administrator: Administrator,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await client.register("alice")
    pages = export._pages

    async def revoking(*arguments: Any) -> Any:
        async for page in pages(*arguments):
            await revoke_key(database_of(client), "backoffice")
            yield page

    monkeypatch.setattr(export, "_pages", revoking)
    with pytest.raises(ClientPayloadError):
        await administrator.get(f"/users/{await id_of(db)}/export")
