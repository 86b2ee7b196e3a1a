"""An authenticator app, and accounts that use one."""

import time

import asyncpg
import pyotp
import pytest

from service.accounts.two_factor import totp
from tests.conftest import Client, Device, Response

TWO_FACTOR = "/api/user/two-factor"
CONFIRM = "/api/user/two-factor/confirm"
CODES = "/api/user/two-factor/recovery-codes"
LOGIN = "/api/users/login/two-factor"
PASSWORD = "alice-secret"
EMAIL = "alice@example.test"


class AuthenticatorApp:
    """Show the codes of a secret. The clock of the service stands at the step of the last code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.step = int(time.time()) // totp.PERIOD
        self.secret = ""
        self.recovery_codes: list[str] = []
        self.wait()

    def wait(self, steps: int = 1) -> None:
        """Move the clock of the service forward by so many time steps."""
        self.step += steps
        now = self.step * totp.PERIOD
        self._monkeypatch.setattr(totp, "clock", lambda: now)

    def code(self, drift: int = 0) -> str:
        """Return the code of the current time step, or of ``drift`` steps later."""
        return pyotp.TOTP(self.secret).generate_otp(self.step + drift)

    def next_code(self) -> str:
        """Wait for the next time step and return its code."""
        self.wait()
        return self.code()

    def wrong_code(self) -> str:
        """Return six digits that are the code of no accepted step."""
        accepted = {self.code(drift) for drift in (-1, 0, 1)}
        codes = (str(digit) * 6 for digit in range(4))
        return next(code for code in codes if code not in accepted)


async def verify_email(db: asyncpg.Connection) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")


async def begin(client: Client, device: Device, app: AuthenticatorApp) -> None:
    """Begin an enrolment, and scan its secret."""
    response = await client.post(TWO_FACTOR, {"password": PASSWORD}, token=device.access)
    assert response.status == 200, response
    app.secret = response.body["secret"]


async def turn_on(client: Client, device: Device, app: AuthenticatorApp) -> None:
    """Turn the second factor of an account on."""
    await begin(client, device, app)
    response = await client.post(CONFIRM, {"code": app.next_code()}, token=device.access)
    assert response.status == 200, response
    app.recovery_codes = response.body["recovery_codes"]


async def first_step(client: Client, password: str = PASSWORD, **options: object) -> Response:
    """Send the password of a login."""
    user = {"email": EMAIL, "password": password}
    return await client.post("/api/users/login", {"user": user}, **options)


async def challenge_of(client: Client) -> str:
    """Return the challenge of a login with the right password."""
    response = await first_step(client)
    assert (response.status, response.body["code"]) == (401, "two_factor_required"), response
    return str(response.body["challenge"])


async def second_step(client: Client, challenge: str, code: object, **options: object) -> Response:
    """Send the challenge and the code of a login."""
    return await client.post(LOGIN, {"challenge": challenge, "code": code}, **options)


async def log_in(client: Client, app: AuthenticatorApp) -> Device:
    """Log in with both factors."""
    response = await second_step(client, await challenge_of(client), app.next_code())
    return Device.of(response)


async def reauthenticate(client: Client, device: Device, app: AuthenticatorApp) -> Device:
    """Prove both factors again."""
    body = {"password": PASSWORD, "code": app.next_code()}
    return Device.of(await client.post("/api/auth/reauthenticate", body, token=device.access))
