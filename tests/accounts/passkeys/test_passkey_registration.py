"""Add a passkey to an account: its challenge, its limit, and the email that must be verified."""

import asyncpg

from tests.accounts.mailed_links import client_without_delivery, last_token
from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    OPTIONS,
    PASSKEYS,
    add,
    add_passkey,
    creation_options,
    list_passkeys,
    open_verified_account,
    request_options,
)
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

NOT_VERIFIED = {"email": ["is not verified: use the link in the mail"]}
UNKNOWN_CHALLENGE = {"challenge": ["is unknown, was used or has expired"]}


async def test_passkey_without_a_name_is_named_after_its_authenticator(
    client: Client, alice: str
) -> None:
    aaguid = bytes.fromhex("ea9b8d664d011d213ce4b6b48cb575d4")
    await add_passkey(client, alice, aaguid=aaguid)
    (passkey,) = await list_passkeys(client, alice)
    assert passkey["name"] == "Google Password Manager"


async def test_options_name_the_user_and_exclude_their_passkeys(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await creation_options(client, alice)
    assert (options["user"]["name"], options["user"]["displayName"]) == (
        "alice@example.test",
        "alice",
    )
    (excluded,) = options["excludeCredentials"]
    credential = authenticator.create(options)
    assert excluded == {
        "id": credential["id"],
        "type": "public-key",
        "transports": ["internal", "hybrid"],
    }


async def test_passkey_of_any_account_is_taken(client: Client, alice: str, bob: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    for token in (alice, bob):
        credential = authenticator.create(await creation_options(client, token))
        response = await add(client, token, credential)
        assert_error(response, 409, "already_taken", {"passkey": ["has already been taken"]})
    assert len(await list_passkeys(client, alice)) == 1
    assert await list_passkeys(client, bob) == []


async def test_longest_name_is_accepted(client: Client, alice: str) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    assert (await add(client, alice, credential, name="ä" * 100)).status == 201


async def test_user_without_a_verified_email_adds_no_passkey(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    assert_error(await client.post(OPTIONS, token=token), 403, "email_not_verified", NOT_VERIFIED)
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    options = await creation_options(client, token)
    await db.execute("update users set email_verified_at = null")
    response = await add(client, token, Authenticator().create(options))
    assert_error(response, 403, "email_not_verified", NOT_VERIFIED)
    assert await list_passkeys(client, token) == []


async def test_challenge_is_used_once(client: Client, alice: str) -> None:
    options = await creation_options(client, alice)
    assert (await add(client, alice, Authenticator().create(options))).status == 201
    response = await add(client, alice, Authenticator().create(options))
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_challenge_is_used_by_an_invalid_response_too(client: Client, alice: str) -> None:
    options = await creation_options(client, alice)
    authenticator = Authenticator()
    response = await add(client, alice, authenticator.create(options, origin="https://x.example"))
    assert_error(response, 400, "invalid_input", {"credential": ["cannot be verified"]})
    response = await add(client, alice, authenticator.create(options))
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_challenge_belongs_to_its_session(client: Client, alice: str, bob: str) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    other_session = (await client.sign_in("alice")).access
    for token in (other_session, bob):
        response = await add(client, token, credential)
        assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)
    # The attempts from elsewhere have not used it.
    assert (await add(client, alice, credential)).status == 201


async def test_expired_challenge_is_unknown(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 minute'")
    response = await add(client, alice, credential)
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_challenge_of_a_login_is_unknown_at_a_registration(
    client: Client, alice: str
) -> None:
    options = await creation_options(client, alice)
    options["challenge"] = (await request_options(client))["challenge"]
    response = await add(client, alice, Authenticator().create(options))
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_challenges_of_a_user_have_a_maximum(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    first, *_ = [await creation_options(client, alice) for _ in range(6)]
    count = "select count(*) from one_time_tokens where purpose = 'passkey_registration'"
    assert await db.fetchval(count) == 5
    response = await add(client, alice, Authenticator().create(first))
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_password_change_revokes_challenges(client: Client, alice: str) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    change = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", change, token=alice)).status == 200
    response = await add(client, alice, credential)
    assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)


async def test_user_has_at_most_20_passkeys(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    for _ in range(19):
        await add_passkey(client, alice)
    credential = Authenticator().create(await creation_options(client, alice))
    await add_passkey(client, alice)
    limit_reached = (403, "passkey_limit_reached", {"passkey": ["limit reached"]})
    assert_error(await client.post(OPTIONS, token=alice), *limit_reached)
    assert_error(await add(client, alice, credential), *limit_reached)
    assert len(await list_passkeys(client, alice)) == 20
    _, *others = await list_passkeys(client, alice)
    assert (await client.delete(f"{PASSKEYS}/{others[0]['id']}", token=alice)).status == 204
    await add_passkey(client, alice)


async def test_mailed_link_adds_no_passkey(make_client: MakeClient, db: asyncpg.Connection) -> None:
    client = await client_without_delivery(make_client)
    alice = (await open_verified_account(client, db, "alice")).access
    await client.post("/api/auth/forgot-password", {"email": "alice@example.test"})
    await client.put("/api/user", {"user": {"email": "alice@example.org"}}, token=alice)
    options = await creation_options(client, alice)
    for email, template in (
        ("alice@example.test", "verify_email"),
        ("alice@example.test", "reset_password"),
        ("alice@example.org", "change_email"),
    ):
        token = await last_token(db, email, template)
        credential = Authenticator().create({**options, "challenge": token})
        response = await add(client, alice, credential)
        assert_error(response, 400, "invalid_input", UNKNOWN_CHALLENGE)
    used = "select count(*) from one_time_tokens where used_at is not null"
    assert await db.fetchval(used) == 0
