import pytest

from tests.conftest import Client, MakeClient

PAGE = "https://conduit.example"
STRANGER = "https://elsewhere.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization, content-type",
}


@pytest.fixture
async def listed(make_client: MakeClient) -> Client:
    """The service for the pages of one origin."""
    return await make_client(cors_origins=(PAGE,))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/api/user", "/api/articles/a/comments/1", "/no/such/path"])
async def test_a_preflight_is_answered(make_client: MakeClient, method: str, path: str) -> None:
    everyone = await make_client(cors_origins=("*",))
    headers = {"Origin": PAGE, **PREFLIGHT, "Access-Control-Request-Method": method}
    answer = await everyone.send("OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, None)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert answer.headers["Access-Control-Allow-Headers"].startswith("authorization, content-type")


@pytest.mark.parametrize("path", ["/api/tags", "/api/user", "/no/such/path"])
async def test_answers_and_errors_are_readable_by_a_listed_origin(
    listed: Client, path: str
) -> None:
    answer = await listed.get(path, headers={"Origin": PAGE})
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-ID"
    assert answer.headers["Vary"] == "Origin"


async def test_other_origins_are_not_let_in(listed: Client) -> None:
    answer = await listed.get("/api/tags", headers={"Origin": STRANGER})
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"
    answer = await listed.send("OPTIONS", "/api/tags", headers={"Origin": STRANGER, **PREFLIGHT})
    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_without_the_setting_nobody_is_let_in(client: Client) -> None:
    answer = await client.get("/api/tags", headers={"Origin": PAGE})
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await client.send("OPTIONS", "/api/tags", headers={"Origin": PAGE, **PREFLIGHT})
    assert answer.status == 405


async def test_a_plain_options_request_is_no_preflight(make_client: MakeClient) -> None:
    everyone = await make_client(cors_origins=("*",))
    assert (await everyone.send("OPTIONS", "/api/tags")).status == 405


async def test_no_cache_takes_an_answer_without_an_origin_for_everybodys(listed: Client) -> None:
    assert (await listed.get("/api/tags")).headers["Vary"] == "Origin"
