"""Two instances of the service on one database."""

import asyncio
from typing import Any

import pytest

import sql
from service.database.change_listener import CHANGE_LISTENER
from service.logs import REQUEST_ID
from tests.conftest import Client, Response

REVOKED = {"errors": {"token": ["has been revoked"]}, "code": "token_revoked"}


class TwoInstances:
    """Two instances of the service on one database, and a session that the second has cached."""

    def __init__(self, first: Client, second: Client, token: str) -> None:
        self.first = first
        self.second = second
        self.token = token

    async def after_sync(self) -> Response:
        """Return the response of the second instance after it has applied every change."""
        await self.second.http.app[CHANGE_LISTENER].wait_until_applied()
        return await self.second.get("/api/user", token=self.token)


async def wait_until_trusted(client: Client) -> Client:
    """Wait until the instance trusts its cache, and return ``client``."""
    while not client.http.app[CHANGE_LISTENER].is_trusted():
        await asyncio.sleep(0.001)
    return client


def queries_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of each query of a request is appended."""
    names: list[str] = []
    run = sql.Query.__call__

    def noting(query: sql.Query, *arguments: Any, **named: Any) -> Any:
        if REQUEST_ID.get() is not None:  # Background tasks run queries too.
            names.append(query.name)
        return run(query, *arguments, **named)

    monkeypatch.setattr(sql.Query, "__call__", noting)
    return names


async def log_out(instances: TwoInstances) -> None:
    assert (await instances.first.post("/api/auth/logout", token=instances.token)).status == 204
