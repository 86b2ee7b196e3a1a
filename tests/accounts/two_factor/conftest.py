"""Fixtures of the tests of second factors."""

import asyncpg
import pytest

from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, turn_on, verify_email
from tests.conftest import Client, Device


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


@pytest.fixture
async def device(client: Client, db: asyncpg.Connection) -> Device:
    """Return a device of Alice, whose email is verified."""
    device = await client.open_account("alice")
    await verify_email(db)
    return device


@pytest.fixture
async def enrolled(client: Client, device: Device, app: AuthenticatorApp) -> Device:
    """Return a device of Alice, whose second factor is on."""
    await turn_on(client, device, app)
    return device
