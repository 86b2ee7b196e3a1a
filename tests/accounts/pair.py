"""Two instances of the service over one database."""

import asyncio
from typing import Any

import pytest

import sql
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from service.logs import REQUEST_ID
from tests.conftest import Answer, Client

REVOKED = {"errors": {"token": ["has been revoked"]}, "code": "token_revoked"}


class Pair:
    """Two instances of the service over one database, and a session that the second remembers."""

    def __init__(self, here: Client, there: Client, token: str) -> None:
        self.here = here
        self.there = there
        self.token = token

    async def heard(self) -> Answer:
        """What the other instance answers to the token, once it has heard what was committed."""
        await self.there.http.app[CHANGE_LISTENER].wait_until_applied()
        return await self.there.get("/api/user", token=self.token)


async def trusted(client: Client) -> Client:
    """The client, once its instance listens: until then it asks for everything."""
    while not client.http.app[CHANGE_LISTENER].is_trusted():
        await asyncio.sleep(0)
    return client


def queries_of(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the queries that an instance runs from now on."""
    database = client.http.app[DATABASE]
    run, names = database.run, []

    async def noting(query: sql.Query, arguments: list[Any]) -> Any:
        if REQUEST_ID.get() is not None:  # Jobs ask now and then, too.
            names.append(query.name)
        return await run(query, arguments)

    monkeypatch.setattr(database, "run", noting)
    return names


async def log_out(pair: Pair) -> None:
    assert (await pair.here.post("/api/auth/logout", token=pair.token)).status == 204
