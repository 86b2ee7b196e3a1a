"""Sign in with GitHub."""

from typing import Any

import asyncpg
import pytest

from service.accounts.identity_providers import github as module
from tests.accounts.identity_providers import provider_server
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, result_of
from tests.accounts.identity_providers.github import CLIENT_ID, CLIENT_SECRET, GitHub, email
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

INVALID = {"error": "provider_response_invalid"}
INVALID_STATE = {"state": ["is unknown, was used, has expired, or is of another browser"]}
MISSING = (403, "provider_email_missing", {"email": ["is missing"]})


@pytest.fixture
async def client(
    make_client: MakeClient, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> Client:
    monkeypatch.setattr(module, "AUTHORIZATION_URL", f"{github.url}/login/oauth/authorize")
    monkeypatch.setattr(module, "TOKEN_URL", f"{github.url}/login/oauth/access_token")
    monkeypatch.setattr(module, "API_URL", github.url)
    return await make_client(
        github_client_id=CLIENT_ID,
        github_client_secret=CLIENT_SECRET,
        redirect_urls=(FRONT_END,),
    )


@pytest.fixture
def front_end(client: Client, github: GitHub) -> FrontEnd:
    return FrontEnd(client, github, "github")


async def test_person_signs_in(front_end: FrontEnd, github: GitHub, db: asyncpg.Connection) -> None:
    response = await front_end.sign_in()
    device_of(response)
    user = response.body["user"]
    assert (user["username"], user["email"]) == ("octocat", "octocat@example.test")
    assert user["image"] == github.user["avatar_url"]
    identity = await db.fetchrow("select issuer, subject, is_email_verified from identities")
    assert tuple(identity) == ("https://github.com", "583231", True)


async def test_request_has_pkce_and_only_the_scopes_for_the_profile_and_the_emails(
    front_end: FrontEnd, github: GitHub
) -> None:
    device_of(await front_end.sign_in())
    query = github.received("/login/oauth/authorize")[0].query
    assert query["scope"] == "read:user user:email"
    assert query["code_challenge_method"] == "S256"
    assert query["redirect_uri"] == "http://localhost:3000/api/auth/oauth/github/callback"
    form = github.received("/login/oauth/access_token")[0].form
    assert len(form["code_verifier"]) == 43


async def test_identity_is_the_id_and_not_the_login(
    front_end: FrontEnd, github: GitHub, db: asyncpg.Connection
) -> None:
    """A person has renamed their login, and another one has taken it."""
    first = await front_end.sign_in()
    github.user["login"] = "renamed"
    second = await front_end.sign_in()
    assert second.body["user"]["username"] == first.body["user"]["username"]
    github.user |= {"id": 7, "login": "octocat"}
    github.emails = [email("other@example.test")]
    third = await front_end.sign_in()
    assert third.body["user"]["email"] == "other@example.test"
    assert await db.fetchval("select count(*) from users") == 2


async def test_primary_email_counts(front_end: FrontEnd, github: GitHub) -> None:
    github.user["email"] = "public@example.test"
    github.emails = [
        email("first@example.test", is_primary=False),
        email("primary@example.test"),
        email("583231+octocat@users.noreply.github.com", is_primary=False),
    ]
    assert (await front_end.sign_in()).body["user"]["email"] == "primary@example.test"


async def test_primary_email_counts_when_it_is_the_last_of_many(
    front_end: FrontEnd, github: GitHub
) -> None:
    others = [email(f"{number}@example.test", is_primary=False) for number in range(99)]
    github.emails = [*others, email("primary@example.test")]
    assert (await front_end.sign_in()).body["user"]["email"] == "primary@example.test"


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_primary_email_that_github_has_not_verified_is_not_verified(
    front_end: FrontEnd, github: GitHub, db: asyncpg.Connection, verified: object
) -> None:
    github.emails = [email("octocat@example.test", is_verified=verified)]
    device_of(await front_end.sign_in())
    assert await db.fetchval("select email_verified_at from users") is None


@pytest.mark.parametrize(
    "emails",
    [
        [],
        {},
        None,
        "octocat@example.test",
        ["octocat@example.test"],
        [None, 7, []],
        [email("octocat@example.test", is_primary=False)],
        [{"email": "octocat@example.test", "primary": 1, "verified": True}],
        [{"primary": True, "verified": True}],
        [email("no email")],
    ],
)
async def test_person_without_a_primary_email_is_not_registered(
    front_end: FrontEnd, github: GitHub, emails: Any
) -> None:
    github.user["email"] = "public@example.test"
    github.emails = emails
    assert_error(await front_end.sign_in(), *MISSING)


async def test_person_who_does_not_show_their_emails_is_not_registered_but_signs_in(
    front_end: FrontEnd, github: GitHub
) -> None:
    github.granted = "read:user"
    assert_error(await front_end.sign_in(), *MISSING)
    github.granted = None
    device_of(await front_end.sign_in())
    github.granted = "read:user"
    device_of(await front_end.sign_in())


@pytest.mark.parametrize("user", [None, [], {}, "octocat"])
@pytest.mark.parametrize("identifier", [None, True, "583231", 5.5, [583231]])
async def test_user_without_an_id_is_refused(
    front_end: FrontEnd, github: GitHub, user: Any, identifier: object
) -> None:
    github.user = {**user, "id": identifier} if isinstance(user, dict) else user
    assert result_of(await front_end.authorize()) == INVALID


@pytest.mark.parametrize("error", ["bad_verification_code", "incorrect_client_credentials"])
async def test_error_with_status_200_is_refused(
    front_end: FrontEnd, github: GitHub, error: str
) -> None:
    github.error = error
    assert result_of(await front_end.authorize()) == INVALID


@pytest.mark.parametrize("path", ["/login/oauth/access_token", "/user", "/user/emails"])
async def test_fault_of_github_is_a_clear_error(
    front_end: FrontEnd, github: GitHub, path: str
) -> None:
    github.faults[path] = provider_server.with_status(503)
    assert result_of(await front_end.authorize()) == {"error": "provider_unavailable"}


@pytest.mark.parametrize(
    "fault",
    [
        provider_server.huge,
        provider_server.huge_chunked,
        provider_server.compressed,
        provider_server.redirected,
        provider_server.with_body(b"<html>"),
    ],
)
@pytest.mark.parametrize("path", ["/login/oauth/access_token", "/user", "/user/emails"])
async def test_malformed_response_is_refused_and_logged(
    front_end: FrontEnd,
    github: GitHub,
    caplog: pytest.LogCaptureFixture,
    path: str,
    fault: provider_server.Fault,
) -> None:
    github.faults[path] = fault
    assert result_of(await front_end.authorize()) == INVALID
    assert "identity provider failed: provider=github error=" in caplog.text


@pytest.mark.parametrize("status", [403, 404])
async def test_person_without_the_scope_for_emails_is_not_registered(
    front_end: FrontEnd, github: GitHub, status: int
) -> None:
    github.faults["/user/emails"] = provider_server.with_status(status)
    assert_error(await front_end.sign_in(), *MISSING)


async def test_code_of_another_flow_is_refused(front_end: FrontEnd, github: GitHub) -> None:
    """An attacker puts the code of their own login into the callback of another person."""
    stolen = (await github.consent(await front_end.begin())).query["code"]
    url = await github.consent(await front_end.begin())
    response = await front_end.call_back(url.update_query(code=stolen))
    assert result_of(response) == INVALID


async def test_unknown_code_is_refused(front_end: FrontEnd, github: GitHub) -> None:
    url = await github.consent(await front_end.begin())
    assert result_of(await front_end.call_back(url.update_query(code="unknown"))) == INVALID


async def test_callback_with_another_state_is_refused(front_end: FrontEnd, github: GitHub) -> None:
    url = await github.consent(await front_end.begin())
    for changed in (url.update_query(state="A" * 43), url.without_query_params("state")):
        response = await front_end.call_back(changed)
        assert_error(response, 400, "invalid_input", INVALID_STATE)
    assert github.received("/login/oauth/access_token") == []


async def test_github_cannot_verify_a_person_again(client: Client) -> None:
    token = await client.register("alice")
    response = await client.post(
        "/api/auth/reauthenticate/github", {"redirect_to": FRONT_END}, token=token
    )
    assert_error(response, 404, "not_found", {"provider": ["not found"]})
