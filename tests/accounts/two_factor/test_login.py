"""The second step of a login."""

from typing import Any

import asyncpg
import pytest

from service.http.routes import Auth
from tests.accounts.mailed_links import client_without_delivery, links
from tests.accounts.two_factor.authenticator_app import (
    EMAIL,
    LOGIN,
    PASSWORD,
    TWO_FACTOR,
    AuthenticatorApp,
    challenge_of,
    first_step,
    log_in,
    second_step,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

WRONG_CODES: dict[str, Any] = {
    "nine digits": "123456789",
    "five digits": "12345",
    "arabic digits": "١٢٣٤٥٦",
    "fullwidth digits": "１２３４５６",
    "spaces": " 12345",
    "empty": "",
    "nul": "12345\\0",
    "integer": 123456,
    "null": None,
    "true": True,
    "list": ["123456"],
    "object": {"code": "123456"},
    "long": "1" * 100_000,
}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client, trusted_proxies=1)


def at(ip: str) -> dict[str, str]:
    return {"X-Forwarded-For": ip}


async def count_sessions(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("select count(*) from sessions where ended_at is null"))


async def test_right_password_gives_a_challenge_and_no_session(
    client: Client, enrolled: Device, db: asyncpg.Connection
) -> None:
    response = await first_step(client)
    assert response.status == 401
    assert set(response.body) == {"errors", "code", "challenge"}
    assert response.body["errors"] == {"two_factor": ["is required"]}
    assert await count_sessions(db) == 1
    challenge = response.body["challenge"]
    assert not await client.is_authenticated(challenge)
    assert (await client.refresh(challenge)).status == 401


async def test_code_opens_the_session_with_both_methods(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    response = await second_step(client, await challenge_of(client), app.next_code())
    assert set(response.body) == {"user", "refresh_token", "expires_in"}
    device = Device.of(response)
    events = (await client.get("/api/user/events?limit=2", token=device.access)).body["events"]
    assert [(event["kind"], event["amr"]) for event in events] == [
        ("signed_in", ["pwd", "otp", "mfa"]),
        ("two_factor_required", None),
    ]


async def test_code_is_accepted_once_and_no_earlier_one_after_it(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    await log_in(client, app)
    for drift in (0, -1):
        response = await second_step(client, await challenge_of(client), app.code(drift))
        assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    body = {"password": PASSWORD, "code": app.code()}
    again = await client.post("/api/auth/reauthenticate", body, token=enrolled.access)
    assert again.status == 401, "the other routes accept no used code either"


async def test_clock_of_the_device_may_differ_by_one_step(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    app.wait(3)
    assert (await second_step(client, await challenge_of(client), app.code(-1))).status == 200
    assert (await second_step(client, await challenge_of(client), app.code(1))).status == 200
    assert (await second_step(client, await challenge_of(client), app.code(2))).status == 401


@pytest.mark.parametrize("code", WRONG_CODES.values(), ids=WRONG_CODES)
async def test_wrong_code_is_rejected_and_counted(
    client: Client, enrolled: Device, db: asyncpg.Connection, code: Any
) -> None:
    response = await second_step(client, await challenge_of(client), code)
    assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    failed = "select count(*) from events where kind = 'two_factor_failed'"
    assert await db.fetchval(failed) == 1


async def test_recovery_code_opens_one_session_in_any_spelling(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    code = app.recovery_codes[3].lower().replace("-", " ")
    device = Device.of(await second_step(client, await challenge_of(client), code))
    assert (await second_step(client, await challenge_of(client), code)).status == 401
    status = (await client.get(TWO_FACTOR, token=device.access)).body["two_factor"]
    assert status["recovery_codes_left"] == 9
    assert len(await links(db, EMAIL, "recovery_code_used")) == 1


async def test_challenge_is_used_once(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    challenge = await challenge_of(client)
    assert (await second_step(client, challenge, app.next_code())).status == 200
    response = await second_step(client, challenge, app.next_code())
    assert_error(response, 401, "challenge_invalid", {"challenge": ["is invalid"]})


async def test_challenge_takes_five_codes(
    make_client: MakeClient, client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    challenge = await challenge_of(client)
    for number in range(5):
        response = await second_step(
            client, challenge, app.wrong_code(), headers=at(f"203.0.113.{number}")
        )
        assert response.body["code"] == "code_invalid"
    response = await second_step(client, challenge, app.next_code(), headers=at("203.0.113.9"))
    assert_error(response, 401, "challenge_invalid", {"challenge": ["is invalid"]})


async def test_challenge_expires(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    challenge = await challenge_of(client)
    lifetime = "select max(expires_at - created_at) <= interval '5 minutes' from one_time_tokens"
    assert await db.fetchval(f"{lifetime} where purpose = 'two_factor'")
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 minute'")
    response = await second_step(client, challenge, app.next_code())
    assert response.body["code"] == "challenge_invalid"


@pytest.mark.parametrize("challenge", [None, "", 7, ["x"], "x" * 5000, "A" * 43])
async def test_login_without_a_valid_challenge_is_rejected(
    client: Client, enrolled: Device, app: AuthenticatorApp, challenge: Any
) -> None:
    response = await client.post(LOGIN, {"challenge": challenge, "code": app.next_code()})
    assert response.status in (400, 401)
    assert (await client.post(LOGIN, {"code": "123456"})).status == 400


async def test_fields_beside_the_challenge_are_ignored(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    await client.register("bob")
    body = {
        "challenge": await challenge_of(client),
        "code": app.next_code(),
        "user": {"email": "bob@example.test"},
        "user_id": "bob",
    }
    response = await client.post(LOGIN, body)
    assert response.body["user"]["username"] == "alice"


async def test_failures_count_across_challenges(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    statuses = []
    for _ in range(6):
        response = await first_step(client, headers=at("203.0.113.1"))
        if response.status == 401:
            response = await second_step(
                client,
                response.body["challenge"],
                app.wrong_code(),
                headers=at("203.0.113.1"),
            )
        statuses.append(response.status)
    assert statuses == [401, 401, 401, 401, 401, 429]


async def test_right_password_resets_no_failures_and_makes_no_ip_known(
    client: Client, enrolled: Device, db: asyncpg.Connection
) -> None:
    for _ in range(4):
        assert (await first_step(client, "wrong", headers=at("203.0.113.1"))).status == 401
    assert "challenge" in (await first_step(client, headers=at("203.0.113.1"))).body
    assert (await first_step(client, "wrong", headers=at("203.0.113.1"))).status == 401
    assert (await first_step(client, headers=at("203.0.113.1"))).status == 429
    known = await db.fetch("select ip_key from known_ips")
    assert "203.0.113.1" not in {row["ip_key"] for row in known}


async def test_both_factors_reset_the_failures(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    for _ in range(3):
        for _ in range(4):
            assert (await first_step(client, "wrong")).status == 401
        await log_in(client, app)


async def test_sign_in_notice_is_sent_after_the_code(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    elsewhere = {**at("203.0.113.1"), "User-Agent": "Other/1.0"}
    response = await first_step(client, headers=elsewhere)
    assert await links(db, EMAIL, "new_sign_in") == []
    challenge = response.body["challenge"]
    assert (await second_step(client, challenge, app.next_code(), headers=elsewhere)).status == 200
    assert len(await links(db, EMAIL, "new_sign_in")) == 1


async def test_every_route_that_gives_a_session_gives_a_challenge(client: Client) -> None:
    """Each of these routes ends in ``SignIn.finish`` or needs a session of both factors."""
    app = client.http.app
    assert app is not None
    giving = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
        and (operation := getattr(route.handler, "operation", None)) is not None
        and "refresh_token" in str(operation.responses)
        and operation.auth is Auth.NONE
        and route.method != "HEAD"
    }
    assert giving == {
        ("POST", "/api/users"),  # A new account has no second factor.
        ("POST", "/api/users/login"),
        ("POST", "/api/users/login/two-factor"),
        ("POST", "/api/users/login/passkey"),  # A passkey is two factors.
        ("GET", "/api/auth/oauth/{provider}/callback"),
        ("POST", "/api/auth/oauth/exchange"),
        ("POST", "/api/auth/refresh"),  # A session of both factors goes on.
    }


async def test_secret_that_cannot_be_decrypted_is_a_clear_error(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await db.execute("update totp_secrets set secret = decode('00', 'hex') || secret")
    response = await second_step(client, await challenge_of(client), app.next_code())
    assert_error(response, 503, "two_factor_unavailable", {"two_factor": ["is not available"]})
    recovered = await second_step(client, await challenge_of(client), app.recovery_codes[0])
    assert recovered.status == 200
