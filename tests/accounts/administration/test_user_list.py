"""The list of users for an administrator."""

import asyncpg
import pytest

from service.accounts.administration import user_list
from service.accounts.administration.user_list import UserFilter, list_users
from service.accounts.closed_accounts import close_account
from service.database.pool import Database
from tests.accounts.account_locks import id_of, lock
from tests.accounts.administration.users import database_of
from tests.conftest import Client

EVERYBODY = UserFilter()
ID = "0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11"


async def names(database: Database, which: UserFilter = EVERYBODY, limit: int = 10) -> list[str]:
    """Return the usernames on all pages."""
    found, after = [], None
    while True:
        page = await list_users(database, which, limit=limit, after=after)
        assert len(page.users) <= limit
        found += [user["username"] for user in page.users]
        after = page.next_after
        if after is None:
            return found


async def insert_users(db: asyncpg.Connection, count: int) -> None:
    """Insert users ``u1`` and so on, each newer than the one before. Two have the same time."""
    await db.execute(
        "insert into users (username, username_key, email, email_key, created_at)"
        " select 'u' || i, 'u' || i, 'u' || i || '@x.test', 'u' || i || '@x.test',"
        " now() + make_interval(secs => i / 2) from generate_series(1, $1::integer) as i",
        count,
    )


async def test_user_has_these_fields(client: Client, db: asyncpg.Connection) -> None:
    await client.register("alice")
    user_id = await id_of(db)
    page = await list_users(database_of(client), EVERYBODY, limit=10)
    (user,) = page.users
    assert user.pop("created_at").endswith("Z")
    assert user == {
        "id": str(user_id),
        "username": "alice",
        "email": "alice@example.test",
        "email_verified_at": None,
        "locked_at": None,
        "two_factor_since": None,
        "roles": [],
    }
    assert page.next_after is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_have_each_user_once_and_the_newest_first(
    client: Client, db: asyncpg.Connection, limit: int
) -> None:
    await insert_users(db, 7)
    found = await names(database_of(client), limit=limit)
    assert sorted(found) == [f"u{number}" for number in range(1, 8)]
    assert found[0] in ("u6", "u7") and found[-1] == "u1"


async def test_pages_continue_after_a_user_who_was_deleted(
    client: Client, db: asyncpg.Connection
) -> None:
    await insert_users(db, 4)
    page = await list_users(database_of(client), EVERYBODY, limit=2)
    await db.execute("delete from users where username in ('u2', 'u3')")
    rest = await list_users(database_of(client), EVERYBODY, limit=2, after=page.next_after)
    assert [user["username"] for user in rest.users][-1] == "u1"


async def test_filter_finds_a_part_of_username_and_email_without_regard_to_case(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("Alice", email="first@one.test")
    await client.register("bob", email="second@ALICE.test")
    await client.register("carol", email="third@one.test")
    database = database_of(client)
    assert await names(database, UserFilter(text="aLiCe")) == ["bob", "Alice"]
    assert await names(database, UserFilter(text="one.test")) == ["carol", "Alice"]
    # No character is a wildcard.
    assert await names(database, UserFilter(text="%")) == []


async def test_filter_finds_locked_and_verified_users(
    client: Client, db: asyncpg.Connection
) -> None:
    for name in ("alice", "bob"):
        await client.register(name)
    await lock(client, await id_of(db, "alice"))
    await db.execute(
        "update users set email_verified_at = now(), ever_verified = true where username = 'bob'"
    )
    database = database_of(client)
    assert await names(database, UserFilter(is_locked=True)) == ["alice"]
    assert await names(database, UserFilter(is_locked=False)) == ["bob"]
    assert await names(database, UserFilter(is_verified=True)) == ["bob"]
    assert await names(database, UserFilter(is_verified=False)) == ["alice"]


@pytest.mark.parametrize("max_examined", [1, 2, 3, 6, 7, 8])
async def test_page_examines_a_bounded_number_of_users(
    client: Client,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    max_examined: int,
) -> None:
    monkeypatch.setattr(user_list, "MAX_EXAMINED", max_examined)
    await insert_users(db, 7)
    database = database_of(client)
    page = await list_users(database, UserFilter(text="u1"), limit=10)
    assert (page.next_after is None) == (max_examined > 7)
    for limit in (1, 2):
        assert await names(database, UserFilter(text="u1"), limit) == ["u1"]
        assert len(await names(database, limit=limit)) == 7


async def test_closed_account_is_not_in_the_list(client: Client, db: asyncpg.Connection) -> None:
    await client.register("alice")
    await close_account(db, await id_of(db))
    assert await names(database_of(client)) == []


@pytest.mark.parametrize(
    "after", ["", "x", "1", f"1.{ID}x", f"1.{ID.upper()}", f"9{10**17}.{ID}", f"{10**18}.{ID}"]
)
async def test_text_that_is_no_cursor_is_rejected(client: Client, after: str) -> None:
    with pytest.raises(ValueError, match="is no place in the list"):
        await list_users(database_of(client), EVERYBODY, limit=1, after=after)


async def test_users_of_distant_times_have_a_cursor(client: Client, db: asyncpg.Connection) -> None:
    await insert_users(db, 2)
    await db.execute("update users set created_at = '0001-01-02 00:00Z' where username = 'u1'")
    await db.execute("update users set created_at = '9999-12-30 00:00Z' where username = 'u2'")
    assert await names(database_of(client), limit=1) == ["u2", "u1"]
