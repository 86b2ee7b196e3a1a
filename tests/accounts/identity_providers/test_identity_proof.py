"""What an identity proves: with a second factor, and as a fresh proof."""

from typing import Any

import asyncpg
import pytest

from service.accounts.cleanup import clean_up
from service.database.pool import DATABASE
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, second_step, turn_on
from tests.conftest import Client, Device, MakeClient, Response
from tests.responses import assert_error

REAUTHENTICATE = "/api/auth/reauthenticate"
INVALID = (401, "provider_code_invalid", {"code": ["is invalid"]})
INVALID_CHALLENGE = (401, "challenge_invalid", {"challenge": ["is invalid"]})
EMAIL = "alice@example.test"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    issuer.profile["email"] = EMAIL
    return FrontEnd(client, issuer)


@pytest.fixture
async def device(client: Client, db: asyncpg.Connection) -> Device:
    """Return a device of Alice, whose email is verified."""
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    return device


def challenge_of(response: Response) -> str:
    assert (response.status, response.body["code"]) == (401, "two_factor_required"), response
    return str(response.body["challenge"])


async def prove(client: Client, front_end: FrontEnd, token: str, **body: str) -> Response:
    """Prove the identity again in the session of ``token``."""
    code = await front_end.start(token, f"{REAUTHENTICATE}/issuer")
    return await client.post(REAUTHENTICATE, {"provider_code": code, **body}, token=token)


async def count(db: asyncpg.Connection, table: str) -> int:
    return int(await db.fetchval(f"select count(*) from {table}"))  # noqa: S608


async def test_link_happens_after_the_code_of_the_second_factor(
    client: Client,
    front_end: FrontEnd,
    device: Device,
    app: AuthenticatorApp,
    db: asyncpg.Connection,
) -> None:
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    assert await count(db, "identities") == 0
    assert (await second_step(client, challenge, app.wrong_code())).status == 401
    assert await count(db, "identities") == 0
    response = await second_step(client, challenge, app.next_code())
    assert await client.is_authenticated(Device.of(response).access)
    assert await count(db, "identities") == 1
    opened = "select amr from events where kind = 'signed_in' order by id desc limit 1"
    assert await db.fetchval(opened) == ["fed", "otp", "mfa"]


async def test_linked_identity_needs_the_second_factor_each_time(
    client: Client, front_end: FrontEnd, device: Device, app: AuthenticatorApp
) -> None:
    assert (await front_end.sign_in()).status == 200
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    assert (await second_step(client, challenge, app.next_code())).status == 200


async def test_code_that_is_exchanged_twice_makes_the_second_step_fail(
    client: Client, front_end: FrontEnd, device: Device, app: AuthenticatorApp
) -> None:
    await turn_on(client, device, app)
    code = await front_end.code()
    challenge = challenge_of(await front_end.exchange(code))
    assert_error(await front_end.exchange(code), *INVALID)
    assert_error(await second_step(client, challenge, app.next_code()), *INVALID_CHALLENGE)


async def test_code_that_is_exchanged_again_ends_the_session_of_the_second_step(
    client: Client, front_end: FrontEnd, device: Device, app: AuthenticatorApp
) -> None:
    await turn_on(client, device, app)
    code = await front_end.code()
    challenge = challenge_of(await front_end.exchange(code))
    opened = Device.of(await second_step(client, challenge, app.next_code()))
    assert_error(await front_end.exchange(code), *INVALID)
    assert not await client.is_authenticated(opened.access)


async def test_second_step_may_take_longer_than_the_code_lives(
    client: Client,
    front_end: FrontEnd,
    device: Device,
    app: AuthenticatorApp,
    db: asyncpg.Connection,
) -> None:
    """The periodic cleanup runs between the two steps."""
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    await db.execute("update one_time_tokens set expires_at = expires_at - interval '4 minutes'")
    assert client.http.app is not None
    await clean_up(client.http.app[DATABASE], client.settings)
    Device.of(await second_step(client, challenge, app.next_code()))


async def test_identity_that_is_unlinked_meanwhile_completes_no_login(
    client: Client,
    front_end: FrontEnd,
    device: Device,
    app: AuthenticatorApp,
    db: asyncpg.Connection,
) -> None:
    assert (await front_end.sign_in()).status == 200
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    await db.execute("delete from identities")
    assert_error(await second_step(client, challenge, app.next_code()), *INVALID_CHALLENGE)
    assert await count(db, "identities") == 0


async def test_unlinking_ends_the_logins_that_wait_for_the_second_factor(
    client: Client,
    front_end: FrontEnd,
    device: Device,
    app: AuthenticatorApp,
    db: asyncpg.Connection,
) -> None:
    assert (await front_end.sign_in()).status == 200
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    identity_id = await db.fetchval("select id from identities")
    response = await client.delete(f"/api/user/identities/{identity_id}", token=device.access)
    assert response.status == 204
    assert_error(await second_step(client, challenge, app.next_code()), *INVALID_CHALLENGE)


async def test_identity_that_another_account_links_meanwhile_completes_no_login(
    client: Client,
    front_end: FrontEnd,
    issuer: Issuer,
    device: Device,
    app: AuthenticatorApp,
    db: asyncpg.Connection,
    bob: str,
) -> None:
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    await db.execute(
        "insert into identities (user_id, issuer, subject, is_email_verified) "
        "select id, $1, $2, true from users where username = 'bob'",
        issuer.url,
        issuer.profile["sub"],
    )
    assert_error(await second_step(client, challenge, app.next_code()), *INVALID_CHALLENGE)


async def test_provider_that_is_removed_meanwhile_completes_no_login(
    client: Client,
    front_end: FrontEnd,
    device: Device,
    app: AuthenticatorApp,
    make_client: MakeClient,
) -> None:
    await turn_on(client, device, app)
    challenge = challenge_of(await front_end.sign_in())
    without = await make_client()
    assert_error(await second_step(without, challenge, app.next_code()), *INVALID_CHALLENGE)


async def test_session_of_a_provider_is_no_fresh_proof(
    client: Client, front_end: FrontEnd, db: asyncpg.Connection
) -> None:
    device = device_of(await front_end.sign_in())
    response = await client.get("/api/user/export", token=device.access)
    assert (response.status, response.body["methods"]) == (403, ["provider"])
    change = {"user": {"password": "a new secret"}}
    response = await client.put("/api/user", change, token=device.access)
    assert response.body["code"] == "reauthentication_required"


SENSITIVE: list[tuple[str, str, dict[str, Any] | None]] = [
    ("PUT", "/api/user", {"user": {"password": "a new secret"}}),
    ("PUT", "/api/user", {"user": {"email": "evil@example.test"}}),
    ("DELETE", "/api/user", {"user": {}}),
    ("GET", "/api/user/export", None),
    ("POST", "/api/user/two-factor", {}),
    ("POST", "/api/user/passkeys/options", {}),
    ("POST", "/api/user/identities/issuer", {"redirect_to": FRONT_END}),
    ("DELETE", f"/api/user/identities/{'0' * 8}-0000-0000-0000-{'0' * 12}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), SENSITIVE)
async def test_stolen_token_of_a_session_of_a_provider_changes_no_credentials(
    client: Client, front_end: FrontEnd, method: str, path: str, body: dict[str, Any] | None
) -> None:
    device = device_of(await front_end.sign_in())
    response = await client.send(method, path, body, token=device.access)
    assert (response.status, response.body["code"]) == (403, "reauthentication_required")
    # The account has no password, so none is a proof.
    if path == "/api/user":
        given = {"current_password": "x"} if method == "PUT" else {"password": "x"}
        changed = {"user": {**(body or {})["user"], **given}}
        response = await client.send(method, path, changed, token=device.access)
        assert response.status in (401, 403)
    assert await client.is_authenticated(device.access)


async def test_account_without_a_password_sets_one_and_is_deleted_with_a_fresh_proof(
    client: Client, front_end: FrontEnd, db: asyncpg.Connection
) -> None:
    device = device_of(await front_end.sign_in())
    deletion = await client.delete("/api/user", {"user": {}}, token=device.access)
    assert deletion.body["code"] == "reauthentication_required"
    proved = Device.of(await prove(client, front_end, device.access))
    assert not await client.is_authenticated(device.access)
    change = {"user": {"password": "a new secret"}}
    assert (await client.put("/api/user", change, token=proved.access)).status == 200
    user = {"email": EMAIL, "password": "a new secret"}
    assert (await client.post("/api/users/login", {"user": user})).status == 200
    await db.execute("update users set password_hash = null")
    assert (await client.delete("/api/user", {"user": {}}, token=proved.access)).status == 204
    assert await count(db, "identities") == 0


async def test_provider_is_asked_to_verify_the_person_again(
    client: Client, front_end: FrontEnd, issuer: Issuer
) -> None:
    device = device_of(await front_end.sign_in())
    assert (await prove(client, front_end, device.access)).status == 200
    query = issuer.received("/authorize")[-1].query
    assert (query["prompt"], query["max_age"]) == ("login", "0")


@pytest.mark.parametrize("change", [None, "now", 0, 1.5, True, -1])
async def test_proof_needs_the_time_at_which_the_provider_verified_the_person(
    client: Client, front_end: FrontEnd, issuer: Issuer, change: object
) -> None:
    device = device_of(await front_end.sign_in())
    issuer.bend(claims=lambda claims: {**claims, "auth_time": change})
    started = await client.post(
        f"{REAUTHENTICATE}/issuer", {"redirect_to": FRONT_END}, token=device.access
    )
    url = started.body["authorization_url"]
    begun = await client.get(url.removeprefix("http://localhost:3000"), allow_redirects=False)
    back = await front_end.call_back(await issuer.consent(begun.headers["Location"]))
    assert back.headers["Location"] == f"{FRONT_END}?error=proof_not_fresh"


async def test_person_cannot_leave_the_demand_out(
    client: Client, front_end: FrontEnd, issuer: Issuer
) -> None:
    """The person removes ``prompt`` and ``max_age`` from the URL in their browser."""
    device = device_of(await front_end.sign_in())
    issuer.bend(claims=lambda claims: {**claims, "auth_time": claims["iat"] - 3600})
    started = await client.post(
        f"{REAUTHENTICATE}/issuer", {"redirect_to": FRONT_END}, token=device.access
    )
    url = started.body["authorization_url"]
    begun = await client.get(url.removeprefix("http://localhost:3000"), allow_redirects=False)
    stripped = begun.headers["Location"].replace("&prompt=login&max_age=0", "")
    back = await front_end.call_back(await issuer.consent(stripped))
    assert back.headers["Location"] == f"{FRONT_END}?error=proof_not_fresh"


async def test_identity_of_another_person_proves_nothing(
    client: Client, front_end: FrontEnd, issuer: Issuer
) -> None:
    device = device_of(await front_end.sign_in())
    issuer.profile["sub"] = "another person with the same email"
    response = await prove(client, front_end, device.access)
    assert_error(response, 401, "identity_unknown", {"identity": ["is unknown"]})
    assert await client.is_authenticated(device.access)


async def test_proof_of_another_session_proves_nothing(client: Client, front_end: FrontEnd) -> None:
    device = device_of(await front_end.sign_in())
    thief = device_of(await front_end.sign_in())
    code = await front_end.start(device.access, f"{REAUTHENTICATE}/issuer")
    response = await client.post(REAUTHENTICATE, {"provider_code": code}, token=thief.access)
    assert_error(response, *INVALID)


async def test_proof_needs_the_code_where_the_second_factor_is_on(
    client: Client, front_end: FrontEnd, device: Device, app: AuthenticatorApp
) -> None:
    assert (await front_end.sign_in()).status == 200
    await turn_on(client, device, app)
    missing = await prove(client, front_end, device.access)
    assert_error(missing, 400, "invalid_input", {"code": ["can't be blank"]})
    proved = await prove(client, front_end, device.access, code=app.next_code())
    response = await client.get("/api/user/export", token=Device.of(proved).access)
    assert response.status == 200


async def test_google_cannot_prove_again_who_a_person_is(make_client: MakeClient) -> None:
    client = await make_client(
        google_client_id="id",
        google_client_secret="secret",
        redirect_urls=(FRONT_END,),
    )
    token = await client.register("alice")
    response = await client.post(
        f"{REAUTHENTICATE}/google", {"redirect_to": FRONT_END}, token=token
    )
    assert_error(response, 404, "not_found", {"provider": ["not found"]})
