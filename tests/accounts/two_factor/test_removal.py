"""Turn the second factor off from outside a request."""

import asyncpg

import sql
from service.accounts.two_factor.removal import remove_second_factor
from service.http.client import Client as HttpClient
from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, first_step, log_in
from tests.conftest import Client, Device

HERE = HttpClient.at("203.0.113.1")


async def test_removal_takes_the_factor_out_of_every_proof_but_that_of_a_passkey(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await log_in(client, app)
    passkey = await log_in(client, app)
    await db.execute("update sessions set amr = '{pop,mfa}' where id = $1::uuid", passkey.session)
    user_id = await db.fetchval("select id from users")
    async with db.transaction():
        await sql.sessions.lock_user(db, user_id=user_id)
        assert await remove_second_factor(db, HERE, user_id)
        assert not await remove_second_factor(db, HERE, user_id)
    rows = await db.fetch("select amr from sessions where ended_at is null order by created_at")
    assert [row["amr"] for row in rows] == [["pwd"], ["pwd"], ["pop", "mfa"]]
    assert (await first_step(client)).status == 200
