"""Fixtures: two issuers and GitHub."""

from collections.abc import AsyncIterator

import pytest

from tests.accounts.identity_providers.github import GitHub
from tests.accounts.identity_providers.issuer import Issuer


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
