"""The methods and the time of the proof that a session remembers."""

import asyncpg

from service.accounts.sessions.authentication import SESSION_CACHE
from service.accounts.user import User
from service.http.app_keys import AUTHENTICATE
from tests.accounts.two_instances import TwoInstances
from tests.conftest import Client


async def user_of(client: Client, token: str) -> User:
    app = client.http.app
    assert app is not None
    user = await app[AUTHENTICATE](token)
    assert isinstance(user, User)
    return user


async def test_session_has_the_time_and_the_methods_of_the_login(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    (session,) = await db.fetch("select created_at, auth_time, amr from sessions")
    assert (session["auth_time"], session["amr"]) == (session["created_at"], ["pwd"])
    user = await user_of(client, device.access)
    assert (user.auth_time, user.amr) == (session["auth_time"].timestamp(), ("pwd",))


async def test_events_have_the_methods_of_registration_and_login_and_of_no_other_event(
    client: Client,
) -> None:
    token = await client.register("alice")
    await client.sign_in("alice")
    await client.put("/api/user", {"user": {"password": "another secret"}}, token=token)
    events = (await client.get("/api/user/events", token=token)).body["events"]
    methods = {event["kind"]: event["amr"] for event in events}
    assert methods == {
        "registered": ["pwd"],
        "signed_in": ["pwd"],
        "session_ended": None,
        "password_changed": None,
    }


async def test_changed_proof_of_a_session_is_known_to_another_process_at_once(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    assert (await user_of(instances.second, instances.token)).amr == ("pwd",)
    await db.execute("update sessions set amr = '{pwd,otp,mfa}'")
    await instances.after_sync()
    assert (await user_of(instances.second, instances.token)).amr == ("pwd", "otp", "mfa")
    await db.execute("update sessions set auth_time = 'epoch'")
    await instances.after_sync()
    assert (await user_of(instances.second, instances.token)).auth_time == 0
    assert len(instances.second.http.app[SESSION_CACHE].users) == 1
