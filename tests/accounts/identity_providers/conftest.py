"""Fixtures: two issuers and GitHub, which a test can bend, and two certified OpenID providers.

Each certified one starts once for this folder.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.accounts.identity_providers.flows import FRONT_END, settings_of
from tests.accounts.identity_providers.github import GitHub
from tests.accounts.identity_providers.issuer import Issuer
from tests.conftest import Client, MakeClient
from tests.oidc_provider.process import OIDCProvider, start_provider


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Yield the issuer of the test, which is correct until the test bends it."""
    async with Issuer() as issuer:
        yield issuer


@pytest.fixture
async def other_issuer() -> AsyncIterator[Issuer]:
    """Yield another issuer, for attacks of one provider on another."""
    async with Issuer(name="other", client_id="conduit-at-the-other") as issuer:
        yield issuer


@pytest.fixture
async def github() -> AsyncIterator[GitHub]:
    async with GitHub() as github:
        yield github


@pytest.fixture(scope="package")
def running_oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCProvider]:
    """Start a provider. Without Node.js, skip the test, but fail in CI."""
    with start_provider(tmp_path_factory.mktemp("oidc_provider")) as provider:
        yield provider


@pytest.fixture(scope="package")
def running_other_oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCProvider]:
    """Start another provider, which puts the claims of an account into its ID tokens, too."""
    folder = tmp_path_factory.mktemp("other_oidc_provider")
    with start_provider(folder, "--claims-in-id-token") as provider:
        yield provider


@pytest.fixture
def oidc_provider(running_oidc_provider: OIDCProvider) -> Iterator[OIDCProvider]:
    """Yield the provider. It returns most claims only from its userinfo endpoint."""
    yield running_oidc_provider
    running_oidc_provider.reset_claims()


@pytest.fixture
def other_oidc_provider(running_other_oidc_provider: OIDCProvider) -> Iterator[OIDCProvider]:
    """Yield the provider of another issuer. Its ID tokens have the claims of the account."""
    yield running_other_oidc_provider
    running_other_oidc_provider.reset_claims()


@pytest.fixture
async def client(make_client: MakeClient, issuer: Issuer) -> Client:
    """Return a client of a service that has the issuer as a provider, and a front-end."""
    return await make_client(oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,))
