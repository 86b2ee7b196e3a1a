"""Helpers of tests that send requests with an API key."""

from typing import Any

from service.accounts.administration.api_keys import Scope, create_key
from service.database.pool import DATABASE, Database
from tests.conftest import Client, Response


class Administrator:
    """Send requests to one instance of the service with an API key."""

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key

    @classmethod
    async def create(
        cls, client: Client, *scopes: Scope, name: str = "backoffice"
    ) -> "Administrator":
        """Create a key with ``scopes``, or with all of them."""
        return cls(client, await create_key(database_of(client), name, scopes or tuple(Scope)))

    async def send(self, method: str, path: str, json: Any = None, **options: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return await self.client.send(method, f"/api/admin{path}", json, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> Response:
        return await self.send("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("PUT", path, json, **options)

    async def delete(self, path: str, **options: Any) -> Response:
        return await self.send("DELETE", path, **options)


def database_of(client: Client) -> Database:
    """Return the database of the service."""
    assert client.http.app is not None
    database: Database = client.http.app[DATABASE]
    return database
