"""Test the check of the identity providers."""

from dataclasses import replace

import pytest

from service.accounts.identity_providers import github as module
from service.doctor.findings import Status
from service.doctor.provider_check import check_providers
from tests.accounts.identity_providers.flows import settings_of
from tests.accounts.identity_providers.github import CLIENT_ID, CLIENT_SECRET, GitHub
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.identity_providers.provider_server import with_status
from tests.doctor.checks import messages, problems, run_check

CALLBACK_URL = "http://localhost:3000/api/auth/oauth/issuer/callback"


async def test_provider_that_works_is_shown_with_its_callback_url() -> None:
    async with Issuer() as issuer:
        findings = await run_check(check_providers, oidc_providers=settings_of(issuer))
    assert problems(findings) == []
    assert "issuer: the provider responds and accepts the client" in messages(findings)
    assert f"issuer: its callback URL is {CALLBACK_URL}" in messages(findings)


async def test_wrong_client_secret_is_a_problem_that_does_not_quote_it() -> None:
    async with Issuer() as issuer:
        (client,) = settings_of(issuer)
        wrong = replace(client, client_secret="another-secret")
        findings = await run_check(check_providers, oidc_providers=(wrong,))
    assert problems(findings) == [
        "issuer: the provider rejects the client (token: status 401, invalid_client)"
    ]
    assert "another-secret" not in f"{findings}"


async def test_failing_provider_hides_no_other_one() -> None:
    async with (
        Issuer() as good,
        Issuer(name="down") as down,
        Issuer(name="wrong") as wrong,
    ):
        down.bend(faults={"/.well-known/openid-configuration": with_status(503)})
        wrong.bend(discovery=lambda document: {**document, "issuer": "https://other.test"})
        providers = settings_of(good, down, wrong)
        findings = await run_check(check_providers, oidc_providers=providers)
    assert problems(findings) == [
        "down: the provider does not respond (status 503)",
        "wrong: the response is wrong (discovery: another issuer)",
    ]
    assert findings[0].status is Status.OK


@pytest.mark.parametrize(("secret", "is_problem"), [(CLIENT_SECRET, False), ("wrong", True)])
async def test_client_of_github_is_checked(
    monkeypatch: pytest.MonkeyPatch, secret: str, *, is_problem: bool
) -> None:
    async with GitHub() as github:
        monkeypatch.setattr(module, "TOKEN_URL", f"{github.url}/login/oauth/access_token")
        findings = await run_check(
            check_providers, github_client_id=CLIENT_ID, github_client_secret=secret
        )
    assert bool(problems(findings)) is is_problem
    assert "/api/auth/oauth/github/callback" in messages(findings)


async def test_no_provider_is_a_note() -> None:
    (finding,) = await run_check(check_providers)
    assert finding.status is Status.NOTE
