"""Turn the second factor on and off."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.sessions.authentication_methods import PASSWORD as PASSWORD_ONLY
from tests.accounts.mailed_links import (
    FORGOT,
    RESET,
    client_without_delivery,
    last_token,
)
from tests.accounts.proofs import make_proofs_stale, set_methods_of_proofs
from tests.accounts.two_factor.authenticator_app import (
    CODES,
    CONFIRM,
    EMAIL,
    PASSWORD,
    TWO_FACTOR,
    AuthenticatorApp,
    begin,
    challenge_of,
    first_step,
    log_in,
    reauthenticate,
    second_step,
    turn_on,
    verify_email,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

CHANGES = [("POST", TWO_FACTOR), ("DELETE", TWO_FACTOR), ("POST", CODES)]
OFF = {"enabled": False, "since": None, "recovery_codes_left": 0}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def status_of(client: Client, device: Device) -> Any:
    response = await client.get(TWO_FACTOR, token=device.access)
    assert response.status == 200
    return response.body["two_factor"]


async def notices(db: asyncpg.Connection) -> Counter[str]:
    rows = await db.fetch("select template from outbox where recipient = $1", EMAIL)
    return Counter(row["template"] for row in rows)


async def test_enrolment_has_the_secret_its_uri_and_a_qr_code(
    client: Client, device: Device
) -> None:
    response = await client.post(TWO_FACTOR, {"password": PASSWORD}, token=device.access)
    assert set(response.body) == {"secret", "uri", "qr_code"}
    secret = response.body["secret"]
    assert len(secret) == 32
    assert response.body["uri"].startswith("otpauth://totp/")
    assert f"secret={secret}" in response.body["uri"]
    assert response.body["qr_code"].startswith("<svg ")
    assert response.headers["Cache-Control"] == "no-store"


async def test_confirmed_secret_turns_the_factor_on_and_gives_ten_recovery_codes(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    assert await status_of(client, device) == OFF
    await turn_on(client, device, app)
    assert len(set(app.recovery_codes)) == 10
    status = await status_of(client, device)
    assert (status["enabled"], status["recovery_codes_left"]) == (True, 10)
    assert (await notices(db))["two_factor_on"] == 1
    stored = str(await db.fetch("select * from totp_secrets"))
    assert app.secret not in stored


async def test_unconfirmed_enrolment_asks_for_nothing(
    client: Client, device: Device, app: AuthenticatorApp
) -> None:
    await begin(client, device, app)
    assert await status_of(client, device) == OFF
    assert (await first_step(client)).status == 200


async def test_turning_the_factor_on_ends_the_other_sessions(
    client: Client, device: Device, app: AuthenticatorApp
) -> None:
    other = await client.sign_in("alice")
    await turn_on(client, device, app)
    assert not await client.is_authenticated(other.access)
    assert await client.is_authenticated(device.access)


async def test_another_enrolment_leaves_the_secret_in_force_until_it_is_confirmed(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    here, other = await reauthenticate(client, enrolled, app), await log_in(client, app)
    old = app.secret
    await begin(client, here, app)
    new, app.secret = app.secret, old
    assert await log_in(client, app)
    app.secret = new
    challenge = await challenge_of(client)
    assert (await second_step(client, challenge, app.code())).status == 401
    response = await client.post(CONFIRM, {"code": app.next_code()}, token=here.access)
    assert response.status == 200
    assert await client.is_authenticated(other.access), "a replaced secret ends no session"
    assert await log_in(client, app)
    app.secret = old
    challenge = await challenge_of(client)
    assert (await second_step(client, challenge, app.next_code())).status == 401
    assert await db.fetchval("select count(*) from totp_secrets") == 1


async def test_replaced_secret_ends_the_other_sessions_when_asked(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    here, other = await reauthenticate(client, enrolled, app), await log_in(client, app)
    await begin(client, here, app)
    body = {"code": app.next_code(), "end_other_sessions": True}
    assert (await client.post(CONFIRM, body, token=here.access)).status == 200
    assert not await client.is_authenticated(other.access)


async def test_factor_cannot_be_added_while_the_email_is_not_verified(client: Client) -> None:
    device = await client.open_account("alice")
    response = await client.post(TWO_FACTOR, {"password": PASSWORD}, token=device.access)
    assert (response.status, response.body["code"]) == (403, "email_not_verified")


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_change_of_the_factor_needs_fresh_proof(
    client: Client, enrolled: Device, db: asyncpg.Connection, method: str, path: str
) -> None:
    await make_proofs_stale(client, db)
    body = {"password": PASSWORD, "code": "123456"}
    response = await client.send(method, path, body, token=enrolled.access)
    assert (response.status, response.body["code"]) == (403, "reauthentication_required")
    assert response.body["methods"] == ["password", "code"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_change_of_the_factor_needs_the_second_factor(
    client: Client, enrolled: Device, db: asyncpg.Connection, method: str, path: str
) -> None:
    await set_methods_of_proofs(client, db, PASSWORD_ONLY)
    body = {"password": PASSWORD, "code": "123456"}
    response = await client.send(method, path, body, token=enrolled.access)
    assert (response.status, response.body["code"]) == (403, "reauthentication_required")


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_enrolment_needs_the_password(
    client: Client, device: Device, password: str | None
) -> None:
    body = {} if password is None else {"password": password}
    response = await client.post(TWO_FACTOR, body, token=device.access)
    assert response.status == (400 if password is None else 401)


async def test_factor_is_turned_off_with_password_and_code(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    here = await reauthenticate(client, enrolled, app)
    body = {"password": PASSWORD, "code": app.next_code()}
    assert (await client.delete(TWO_FACTOR, body, token=here.access)).status == 204
    assert await status_of(client, here) == OFF
    assert (await first_step(client)).status == 200
    assert (await notices(db))["two_factor_off"] == 1
    assert await db.fetchval("select count(*) from totp_secrets") == 0
    assert await db.fetchval("select count(*) from recovery_codes") == 0
    response = await client.delete(TWO_FACTOR, body, token=here.access)
    assert_error(response, 404, "not_found", {"two_factor": ["not found"]})


async def test_removed_factor_is_no_longer_part_of_the_proof_of_a_session(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    here = await reauthenticate(client, enrolled, app)
    body = {"password": PASSWORD, "code": app.recovery_codes[0]}
    assert (await client.delete(TWO_FACTOR, body, token=here.access)).status == 204
    rows = await db.fetch("select amr from sessions where ended_at is null")
    assert [row["amr"] for row in rows] == [["pwd"]]


async def test_new_recovery_codes_replace_the_earlier_ones(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    here = await reauthenticate(client, enrolled, app)
    response = await client.post(CODES, {}, token=here.access)
    assert response.status == 200
    codes = response.body["recovery_codes"]
    assert len({*codes, *app.recovery_codes}) == 20
    assert (await notices(db))["recovery_codes_replaced"] == 1
    old = await second_step(client, await challenge_of(client), app.recovery_codes[0])
    assert old.status == 401
    assert (await second_step(client, await challenge_of(client), codes[0])).status == 200


async def test_recovery_codes_need_a_factor(client: Client, device: Device) -> None:
    response = await client.post(CODES, {}, token=device.access)
    assert_error(response, 404, "not_found", {"two_factor": ["not found"]})


async def test_one_of_concurrent_confirmations_succeeds(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await begin(client, device, app)
    code = {"code": app.next_code()}
    confirmations = (client.post(CONFIRM, code, token=device.access) for _ in range(8))
    statuses = Counter([response.status for response in await asyncio.gather(*confirmations)])
    assert statuses[200] == 1 and set(statuses) <= {200, 404}
    assert await db.fetchval("select count(*) from recovery_codes") == 10


async def test_service_without_a_key_cannot_set_up_a_factor(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(encryption_keys=(), token_algorithm="HS256")
    device = await client.open_account("alice")
    await verify_email(db)
    response = await client.post(TWO_FACTOR, {"password": PASSWORD}, token=device.access)
    assert_error(response, 503, "two_factor_unavailable", {"two_factor": ["is not available"]})
    assert response.headers["Retry-After"]


async def test_reset_of_a_verified_account_keeps_the_factor(
    client: Client, enrolled: Device, db: asyncpg.Connection
) -> None:
    await reset_password(client, db)
    assert (await first_step(client, "another secret")).body["code"] == "two_factor_required"


async def test_reset_of_a_never_verified_account_removes_the_factor(
    client: Client, enrolled: Device, db: asyncpg.Connection
) -> None:
    await db.execute("update users set email_verified_at = null, ever_verified = false")
    await reset_password(client, db)
    assert (await first_step(client, "another secret")).status == 200


async def reset_password(client: Client, db: asyncpg.Connection) -> None:
    await client.post(FORGOT, {"email": EMAIL})
    token = await last_token(db, EMAIL, "reset_password")
    body = {"token": token, "new_password": "another secret"}
    assert (await client.post(RESET, body)).status == 200
