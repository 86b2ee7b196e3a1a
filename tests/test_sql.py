"""Tests of every query of the service: its schema, its columns and its effect on the caches."""

import re
from pathlib import Path

import asyncpg
import pytest

import sql

FILE = Path("things.sql")
QUERIES = [(file, query) for file, queries in sql.NAMESPACES.items() for query in queries]


def test_only_these_queries_invalidate_the_cache() -> None:
    found = {f"{file}.{query.name}" for file, query in QUERIES if query.invalidates}
    assert found == {
        "account_lock.lock",
        "account_lock.unlock",
        "cleanup.delete_sessions",
        "closed_accounts.close",
        "closed_accounts.delete_sessions",
        "closed_accounts.delete_user",
        "current_user.update",
        "email_change.confirm",
        "email_verification.verify",
        "enrolment.add_to_proof",
        "enrolment.confirm",
        "identities.delete",
        "identities.end_proofs",
        "identities.forget_unlinked",
        "passkeys.end_proofs",
        "provider_sign_in.take_over",
        "reauthentication.replace_session",
        "refresh.use",
        "removal.turn_off",
        "reports.remove_newer_identities",
        "reports.remove_password",
        "reports.restore_email",
        "reset.set_password",
        "roles.replace",
        "seed.introduce",
        "sessions.end_all",
        "sessions.end_one",
        "sessions.end_others",
        "sessions.evict_oldest",
        "sessions.touch",
        "sign_out.end_batch",
        "users.renew_password_hash",
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


@pytest.mark.parametrize(
    ("file", "query"), QUERIES, ids=[f"{file}.{query.name}" for file, query in QUERIES]
)
async def test_every_query_is_valid_on_the_migrated_schema(
    db: asyncpg.Connection, file: str, query: sql.Query
) -> None:
    statement = await db.prepare(query.text)
    assert len(statement.get_parameters()) == len(query.parameters)
    columns = [attribute.name for attribute in statement.get_attributes()]
    assert bool(columns) == (query.returns != "none"), "the header and the columns disagree"
    assert len(set(columns)) == len(columns), "two columns of one name hide each other"


@pytest.mark.parametrize(
    ("file", "query"), QUERIES, ids=[f"{file}.{query.name}" for file, query in QUERIES]
)
def test_every_query_names_its_columns(file: str, query: sql.Query) -> None:
    assert "select *" not in query.text
    assert "returning *" not in query.text
