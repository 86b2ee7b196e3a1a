import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import sql

FILE = Path("things.sql")
QUERIES = [(file, query) for file, queries in sql.NAMESPACES.items() for query in queries]
GOOD = """-- name: find(id, name) -> row
-- A comment that belongs to the query, and speaks of $3.
select 1
where $1 = $2;

-- name: count() -> value
select count(*) from things
"""


def test_a_file_becomes_a_namespace() -> None:
    found = {query.name: query for query in sql.parse(FILE, GOOD)}
    assert set(found) == {"find", "count"}
    find = found["find"]
    assert (find.parameters, find.method, find.is_read_only) == (("id", "name"), "fetchrow", True)
    assert find.text.endswith("select 1\nwhere $1 = $2")
    assert (found["count"].parameters, found["count"].method) == ((), "fetchval")


@pytest.mark.parametrize(
    ("returns", "method"),
    [("row", "fetchrow"), ("rows", "fetch"), ("value", "fetchval"), ("none", "execute")],
)
def test_the_header_says_what_comes_back(returns: str, method: str) -> None:
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
def test_only_what_surely_changes_nothing_may_be_repeated(
    statement: str, is_read_only: bool
) -> None:
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
def test_a_query_invalidates_when_it_may_change_or_delete_users_or_sessions(
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
def test_a_query_that_only_reads_locks_or_inserts_users_or_sessions_invalidates_nothing(
    statement: str,
) -> None:
    assert not sql.parse(FILE, f"-- name: a() -> none\n{statement}").a.invalidates


def test_exactly_these_queries_invalidate() -> None:
    found = {f"{file}.{query.name}" for file, query in QUERIES if query.invalidates}
    assert found == {
        "cleanup.delete_sessions",
        "closed_accounts.close",
        "closed_accounts.delete_sessions",
        "closed_accounts.delete_user",
        "refresh.use",
        "seed.introduce",
        "sessions.end_one",
        "sessions.end_others",
        "sessions.evict_oldest",
        "sessions.touch",
        "users.renew_password_hash",
        "users.update",
    }


async def test_users_and_sessions_change_only_by_statements_that_name_them(
    db: asyncpg.Connection,
) -> None:
    """The loader does not detect changes by a function, a trigger or a cascade."""
    functions = await db.fetch(
        "select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace"
    )
    statement = "-- name: a() -> none\n"
    assert functions
    assert not [
        row["proname"]
        for row in functions
        if sql.parse(FILE, statement + re.sub(r"\$\d+", "", row["prosrc"])).a.invalidates
    ]
    cascades = await db.fetch(
        "select confrelid::regclass::text as cause, conrelid::regclass::text as changed"
        " from pg_constraint where contype = 'f' and conrelid in ('users'::regclass,"
        " 'sessions'::regclass) and confdeltype::text in ('c', 'd', 'n')"
    )
    assert [tuple(row) for row in cascades] == [("users", "sessions")]


async def test_calls_that_invalidate_are_collected_in_transactions_and_tasks_too(
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
    assert calls == [sql.closed_accounts.close]
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
def test_a_bad_file_is_refused_by_its_name(text: str, reason: str) -> None:
    with pytest.raises(sql.SqlError) as refused:
        sql.parse(FILE, text)
    assert str(refused.value).startswith("things.sql: ")
    assert reason in str(refused.value)


def test_a_comment_may_stand_before_the_first_header() -> None:
    assert sql.parse(FILE, "-- What this is.\n\n-- name: a() -> row\nselect 1").a.name == "a"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no query is named nothing"):
        _ = sql.users.nothing
    with pytest.raises(AttributeError, match=r"no file named nothing\.sql"):
        _ = sql.nothing


@pytest.mark.parametrize(
    "arguments",
    [{}, {"id": 1}, {"id": 1, "nam": 2}, {"id": 1, "name": 2, "more": 3}],
    ids=["none", "one missing", "one misspelt", "one too many"],
)
def test_a_wrong_argument_is_a_type_error(arguments: dict[str, Any]) -> None:
    query = sql.parse(FILE, GOOD).find
    with pytest.raises(TypeError, match="find"):
        query(None, **arguments)  # type: ignore[arg-type]


async def test_arguments_are_placed_by_their_names(db: asyncpg.Connection) -> None:
    query = sql.parse(FILE, "-- name: a(one, two) -> row\nselect $1::int as a, $2::int as b").a
    assert tuple(await query(db, two=2, one=1)) == (1, 2)


@pytest.mark.parametrize(
    ("file", "query"), QUERIES, ids=[f"{file}.{query.name}" for file, query in QUERIES]
)
async def test_every_query_fits_the_schema(
    db: asyncpg.Connection, file: str, query: sql.Query
) -> None:
    statement = await db.prepare(query.text)
    assert len(statement.get_parameters()) == len(query.parameters)
    columns = [attribute.name for attribute in statement.get_attributes()]
    assert bool(columns) == (query.method != "execute"), "it returns what its header denies"
    assert len(set(columns)) == len(columns), "two columns of one name hide each other"


@pytest.mark.parametrize(
    ("file", "query"), QUERIES, ids=[f"{file}.{query.name}" for file, query in QUERIES]
)
def test_every_query_names_its_columns(file: str, query: sql.Query) -> None:
    assert "select *" not in query.text
    assert "returning *" not in query.text
