"""The route of the OpenAPI document. ``tests/http/openapi`` tests its content."""

from service.http.app_keys import DOCUMENT
from tests.conftest import Client, Dialect


async def test_document_is_served_to_everyone(dialect_client: Client, dialect: Dialect) -> None:
    for token in (None, "invalid"):
        response = await dialect_client.get("/openapi.json", token=token)
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert response.body["openapi"].startswith("3.1")
        assert str(dialect.invalid) in response.body["paths"]["/api/users"]["post"]["responses"]


async def test_document_is_rendered_once(client: Client) -> None:
    app = client.http.app
    assert app is not None
    async with client.http.get("/openapi.json") as response:
        assert await response.read() == app[DOCUMENT]
