"""The pages of mailed links when the service cannot do its work now."""

from typing import Any

import pytest

from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import DATABASE
from tests.accounts.mailed_links import DECLINE, UNKNOWN_TOKEN, VERIFY, open_page, submit
from tests.conftest import Client
from tests.responses import assert_error


@pytest.fixture
def lost_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise DatabaseUnavailable

    for method in ("run", "transact"):
        monkeypatch.setattr(client.http.app[DATABASE], method, fail)


@pytest.mark.usefixtures("lost_database")
async def test_page_says_that_the_link_is_still_valid_when_the_database_is_away(
    client: Client,
) -> None:
    for page in (
        await open_page(client, VERIFY, UNKNOWN_TOKEN),
        await submit(client, VERIFY, token=UNKNOWN_TOKEN),
        await submit(client, DECLINE, token=UNKNOWN_TOKEN),
    ):
        assert page.status == 503
        assert "<h1>Please try again</h1>" in page.body
        assert "Your link is still valid." in page.body


@pytest.mark.usefixtures("lost_database")
async def test_json_request_gets_json_when_the_database_is_away(client: Client) -> None:
    response = await client.post(VERIFY, {"token": UNKNOWN_TOKEN})
    errors = {"database": ["is not available"]}
    assert_error(response, 503, "database_unavailable", errors)
