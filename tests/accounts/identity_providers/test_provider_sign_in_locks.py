"""A locked account: a provider opens no session, links nothing and proves nothing."""

import asyncio

import asyncpg
import pytest
from yarl import URL

from tests.accounts.account_locks import LOCKED, count_open_sessions, lock, lock_uncommitted
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.locked_logins import attempt, client_that_locks, fail, register_alice
from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, second_step, turn_on
from tests.conftest import Client, MakeClient, until_blocked

EMAIL = "alice@example.test"


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    issuer.profile["email"] = EMAIL
    return FrontEnd(client, issuer)


async def verify(db: asyncpg.Connection) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")


async def lock_all(client: Client, db: asyncpg.Connection) -> None:
    """Lock the only account."""
    assert await lock(client, await db.fetchval("select id from users"))


async def test_exchange_is_refused(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    code = await front_end.code()
    await lock_all(client, db)
    response = await front_end.exchange(code)
    assert (response.status, response.body) == (403, LOCKED)
    assert await count_open_sessions(db) == 0
    events = await db.fetch("select kind from events order by id")
    assert events[-1]["kind"] == "sign_in_denied"


async def test_callback_without_a_front_end_is_refused(
    front_end: FrontEnd, client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    await lock_all(client, db)
    begun = await client.get("/api/auth/oauth/issuer", allow_redirects=False)
    response = await front_end.call_back(await issuer.consent(URL(begun.headers["Location"])))
    assert (response.status, response.body) == (403, LOCKED)
    assert await count_open_sessions(db) == 0


async def test_identity_is_not_linked_without_asking(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await verify(db)
    await lock_all(client, db)
    response = await front_end.sign_in()
    assert (response.status, response.body) == (403, LOCKED)
    assert await db.fetchval("select count(*) from identities") == 0


async def test_account_that_was_never_verified_is_not_taken_over(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await lock_all(client, db)
    response = await front_end.sign_in()
    assert (response.status, response.body) == (403, LOCKED)
    user = await db.fetchrow("select password_hash, email_verified_at from users")
    assert user["password_hash"] is not None and user["email_verified_at"] is None


async def test_second_step_is_refused(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = AuthenticatorApp(monkeypatch)
    device = await client.open_account("alice")
    await verify(db)
    await turn_on(client, device, app)
    challenge = (await front_end.sign_in()).body["challenge"]
    await lock_all(client, db)
    # The challenge is revoked.
    assert (await second_step(client, challenge, app.next_code())).status == 401
    again = await front_end.sign_in()
    assert (again.status, again.body) == (403, LOCKED)
    assert await db.fetchval("select count(*) from identities") == 0


@pytest.mark.parametrize("path", ["/api/user/identities/issuer", "/api/auth/reauthenticate/issuer"])
async def test_flow_of_a_session_ends_with_the_session(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection, path: str
) -> None:
    device = await client.open_account("alice")
    await verify(db)
    code = await front_end.start(device.access, path)
    await lock_all(client, db)
    for target, body in (
        ("/api/user/identities", {"code": code}),
        ("/api/auth/reauthenticate", {"provider_code": code}),
    ):
        assert (await client.post(target, body, token=device.access)).status == 401
    assert await db.fetchval("select count(*) from identities") == 0


@pytest.mark.parametrize(
    ("path", "target", "field"),
    [
        ("/api/user/identities/issuer", "/api/user/identities", "code"),
        ("/api/auth/reauthenticate/issuer", "/api/auth/reauthenticate", "provider_code"),
    ],
)
async def test_lock_while_a_flow_of_a_session_completes_makes_it_fail(
    front_end: FrontEnd,
    client: Client,
    db: asyncpg.Connection,
    database_url: str,
    path: str,
    target: str,
    field: str,
) -> None:
    device = await client.open_account("alice")
    await verify(db)
    if field == "provider_code":
        assert (await front_end.link(device.access)).status == 200
    identities = await db.fetchval("select count(*) from identities")
    code = await front_end.start(device.access, path)
    user_id = await db.fetchval("select id from users")
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await lock_uncommitted(other, user_id)
        task = asyncio.create_task(client.post(target, {field: code}, token=device.access))
        await until_blocked(db, 1)
    await other.close()
    assert (await task).status == 401
    assert await count_open_sessions(db) == 0
    assert await db.fetchval("select count(*) from identities") == identities


async def test_locked_password_login_stays_locked_after_a_login_through_a_provider(
    make_client: MakeClient, issuer: Issuer, db: asyncpg.Connection
) -> None:
    """The provider is another way in. The passwords are still guessed."""
    client = await client_that_locks(
        make_client, oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,)
    )
    await register_alice(client)
    await verify(db)
    await fail(client, 5)
    assert await attempt(client, "alice-secret") == 401
    issuer.profile["email"] = EMAIL
    device_of(await FrontEnd(client, issuer).sign_in())
    assert await attempt(client, "alice-secret") == 401


async def test_lock_during_an_exchange_leaves_no_session_open(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    device_of(await front_end.sign_in())
    code = await front_end.code()
    user_id = await db.fetchval("select id from users")
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await lock_uncommitted(other, user_id)
        exchange = asyncio.create_task(front_end.exchange(code))
        await until_blocked(db, 1)
    await other.close()
    response = await exchange
    assert (response.status, response.body) == (403, LOCKED)
    assert await count_open_sessions(db) == 0
