"""Test cross-origin requests."""

import pytest

from tests.conftest import Client, MakeClient

PAGE = "https://conduit.example"
OTHER_ORIGIN = "https://elsewhere.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization, content-type",
}


@pytest.fixture
async def listed(make_client: MakeClient) -> Client:
    """Return a client of the service that allows one origin."""
    return await make_client(cors_origins=(PAGE,))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/user", "/api/articles/a/comments/1", "/no/such/path"])
async def test_preflight_allows_the_method(make_client: MakeClient, method: str, path: str) -> None:
    client = await make_client(cors_origins=("*",))
    headers = {"Origin": PAGE, **PREFLIGHT, "Access-Control-Request-Method": method}
    response = await client.send("OPTIONS", path, headers=headers)
    assert (response.status, response.body) == (204, None)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert response.headers["Access-Control-Allow-Headers"].startswith(
        "authorization, content-type"
    )


@pytest.mark.parametrize("path", ["/api/tags", "/api/user", "/no/such/path"])
async def test_allowed_origin_can_read_responses_and_errors(listed: Client, path: str) -> None:
    response = await listed.get(path, headers={"Origin": PAGE})
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert response.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-ID"
    assert response.headers["Vary"] == "Origin"


async def test_other_origin_is_not_allowed(listed: Client) -> None:
    response = await listed.get("/api/tags", headers={"Origin": OTHER_ORIGIN})
    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Vary"] == "Origin"
    response = await listed.send(
        "OPTIONS", "/api/tags", headers={"Origin": OTHER_ORIGIN, **PREFLIGHT}
    )
    assert response.status == 405
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_no_origin_is_allowed_by_default(client: Client) -> None:
    response = await client.get("/api/tags", headers={"Origin": PAGE})
    assert "Access-Control-Allow-Origin" not in response.headers
    response = await client.send("OPTIONS", "/api/tags", headers={"Origin": PAGE, **PREFLIGHT})
    assert response.status == 405


async def test_options_request_without_an_origin_is_not_a_preflight(
    make_client: MakeClient,
) -> None:
    client = await make_client(cors_origins=("*",))
    assert (await client.send("OPTIONS", "/api/tags")).status == 405


async def test_response_without_an_origin_varies_by_origin(listed: Client) -> None:
    assert (await listed.get("/api/tags")).headers["Vary"] == "Origin"
