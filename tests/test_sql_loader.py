"""Tests of the loader with small texts. ``test_sql.py`` tests the files of the service."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import sql

FILE = Path("things.sql")
GOOD = """-- name: find(id, name) -> row
-- A comment that belongs to the query and mentions $3.
select 1
where $1 = $2;

-- name: count() -> value
select count(*) from things
"""


def test_parse_returns_each_query_of_a_file() -> None:
    found = {query.name: query for query in sql.parse(FILE, GOOD)}
    assert set(found) == {"find", "count"}
    find = found["find"]
    assert (find.parameters, find.method, find.is_read_only) == (("id", "name"), "fetchrow", True)
    assert find.text.endswith("select 1\nwhere $1 = $2")
    assert (found["count"].parameters, found["count"].method) == ((), "fetchval")


@pytest.mark.parametrize(
    ("returns", "method"),
    [
        ("one", "fetchrow"),
        ("row", "fetchrow"),
        ("rows", "fetch"),
        ("value", "fetchval"),
        ("none", "execute"),
    ],
)
def test_header_decides_the_method_of_asyncpg(returns: str, method: str) -> None:
    assert sql.parse(FILE, f"-- name: a() -> {returns}\nselect 1").a.method == method


@pytest.mark.parametrize(
    ("statement", "is_read_only"),
    [
        ("select 1", True),
        ("-- why\nselect 1", True),
        ("insert into a values (1)", False),
        ("update a set b = 1", False),
        ("delete from a", False),
        ("with gone as (delete from a returning 1) select 1 from gone", False),
        ("select 1 from a for update", False),
        ("select 1 from a for no key update", False),
        ("select 1 from a for share", False),
        ("select 1 from a for key share", False),
    ],
)
def test_query_is_read_only_when_it_is_a_plain_select(statement: str, is_read_only: bool) -> None:
    assert sql.parse(FILE, f"-- name: a() -> rows\n{statement}").a.is_read_only is is_read_only


@pytest.mark.parametrize(
    "statement",
    [
        "update users set bio = $1",
        "UPDATE Users SET bio = $1",
        "update\n    sessions set ip = $1",
        "update -- not /* at all\n users set bio = $1",
        "update /* the row */ users set bio = $1",
        "update only users set bio = $1",
        'update "users" set bio = $1',
        "update public.users set bio = $1",
        'update only "public" . "users" as one set bio = $1',
        "delete from users where id = $1",
        "delete from only public.sessions where id = $1",
        "with gone as (delete from sessions where id = $1 returning id) select id from gone",
        "with a as (select $1), b as (update users set bio = '') select 1",
        "merge into users using things on false when not matched then do nothing",
        "insert into users (id) values ($1) on conflict (id) do update set bio = ''",
        "with a as (insert into sessions (id) values ($1) on conflict (id) do\nupdate set ip = '')"
        " insert into events (user_id) select $1",
        "truncate sessions",
        "truncate table events, users",
    ],
)
def test_query_invalidates_when_it_may_change_or_delete_users_or_sessions(
    statement: str,
) -> None:
    parameter = "b" if "$1" in statement else ""
    assert sql.parse(FILE, f"-- name: a({parameter}) -> none\n{statement}").a.invalidates


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 from users for update",
        "select 1 from users for update of users",
        "select 1 from users for no key update",
        "select users.bio from sessions join users on true",
        "-- update users\nselect 1",
        "/* delete from users */ select 1",
        "insert into users (id) values (1)",
        "insert into sessions (id) values (1) on conflict (id) do nothing",
        "with a as (insert into sessions (id) values (1) returning id) "
        "insert into tags (id) select id from a on conflict (id) do update set n = 1",
        "update users_archive set bio = ''",
        "update user_counts set articles_count = 0 from users",
        'delete from "old sessions" using sessions',
        "delete from refresh_tokens using sessions",
        "with locked as (select 1 from users for update) update articles set slug = ''",
    ],
)
def test_query_does_not_invalidate_when_it_only_reads_locks_or_inserts(
    statement: str,
) -> None:
    assert not sql.parse(FILE, f"-- name: a() -> none\n{statement}").a.invalidates


async def test_invalidating_calls_are_collected_in_transactions_and_tasks(
    db: asyncpg.Connection,
) -> None:
    keys = {"username": "a", "username_key": "a", "email": "a", "email_key": "a"}
    calls = sql.collect_invalidating_calls()
    row = await sql.users.insert(db, **keys, password_hash="x")
    assert await sql.sessions.lock_user(db, user_id=row["id"]) == 0
    assert calls == []

    async def close() -> None:
        await sql.closed_accounts.close(db, user_id=row["id"])

    await asyncio.create_task(close())
    assert [query.name for query in calls] == ["close"]
    sql.discard_invalidating_calls()
    assert calls == []
    assert sql.collect_invalidating_calls() == []


BAD = {
    "two queries of one name": (
        "-- name: a() -> row\nselect 1\n-- name: a() -> row\nselect 2",
        "a is defined twice",
    ),
    "a placeholder that the header lacks": ("-- name: a() -> row\nselect $1", "a lists"),
    "a parameter that is not used": ("-- name: a(b) -> row\nselect 1", "a lists"),
    "a parameter used in a comment only": ("-- name: a(b) -> row\nselect 1 -- $1", "a lists"),
    "a gap in the placeholders": ("-- name: a(b, c) -> row\nselect $1, $3", "a lists"),
    "no parameters": ("-- name: a -> row\nselect 1", "the header 'a -> row' is not"),
    "a list of parameters that does not end": (
        "-- name: a(b\n-- c -> row\nselect $1",
        "the header 'a(b' is not",
    ),
    "no result": ("-- name: a()\nselect 1", "the header 'a()' is not"),
    "an unknown result": ("-- name: a() -> rowz\nselect 1", "the header 'a() -> rowz' is not"),
    "a name in upper case": ("-- name: A() -> row\nselect 1", "the header 'A() -> row' is not"),
    "a name that is missing": ("-- name:\nselect 1", "the header '' is not"),
    "text before the first header": (
        "select 1;\n-- name: a() -> row\nselect 1",
        "before the first",
    ),
    "no header at all": ("select 1", "before the first"),
    "a header of another spelling": ("-- Name: a() -> row\nselect 1", "before the first"),
    "a header without a statement": ("-- name: a() -> row\n-- nothing", "a has no statement"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_parse_rejects_a_bad_file_and_names_it(text: str, reason: str) -> None:
    with pytest.raises(sql.SqlError) as rejected:
        sql.parse(FILE, text)
    assert str(rejected.value).startswith("things.sql: ")
    assert reason in str(rejected.value)


def test_parse_accepts_a_comment_before_the_first_header() -> None:
    assert sql.parse(FILE, "-- What this is.\n\n-- name: a() -> row\nselect 1").a.name == "a"


def test_header_may_continue_on_comment_lines() -> None:
    text = "-- name: a(one,\n--     two) -> row\n-- A comment (of the query).\nselect $1, $2"
    query = sql.parse(FILE, text).a
    assert query.parameters == ("one", "two")
    assert query.text == "-- A comment (of the query).\nselect $1, $2"


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no query is named nothing"):
        _ = sql.NAMESPACES["users"].nothing
    with pytest.raises(AttributeError, match=r"no file named nothing\.sql"):
        _ = sql.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"id": 1}, {"id": 1, "nam": 2}, {"id": 1, "name": 2, "more": 3}],
    ids=["none", "one missing", "one misspelt", "one too many"],
)
def test_call_raises_type_error_when_an_argument_is_wrong(arguments: dict[str, Any]) -> None:
    query = sql.parse(FILE, GOOD).find
    with pytest.raises(TypeError, match="find"):
        _ = query(None, **arguments)


async def test_arguments_are_passed_by_name(db: asyncpg.Connection) -> None:
    query = sql.parse(FILE, "-- name: a(one, two) -> row\nselect $1::int as a, $2::int as b").a
    assert tuple(await query(db, two=2, one=1)) == (1, 2)
