"""``run.py users sign-out``: end the sessions of one user, or of everybody."""

import sys
from uuid import UUID

import sql
from service.accounts.administration.sign_out import sign_out_everybody
from service.accounts.administration.user_actions import sign_out_user
from service.cli.database import run_with_database
from service.cli.terminal import confirm, safe, write_json
from service.cli.users import COMMAND, act, print_result
from service.database.pool import Database
from service.settings.settings import Settings


def sign_out(settings: Settings, user: str | None, all_users: bool, yes: bool, json: bool) -> int:
    """End all sessions of a user, or with --all-users of everybody. The latter asks first."""
    if (user is None) is not all_users:
        print("Give either a user or --all-users.", file=sys.stderr)
        return 2
    if user is not None:
        return _sign_out_one(settings, user, json=json)
    question = "End the sessions of all users? Everybody must log in again."
    if not confirm(question, yes=yes, otherwise="sign everybody out"):
        print("Nothing was done.", file=sys.stderr)
        return 1

    async def work(database: Database) -> int:
        return await sign_out_everybody(database, COMMAND, _show_progress)

    try:
        count = run_with_database(settings, work)
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    if json:
        write_json({"sessions_ended": count})
    else:
        print(f"Everybody is signed out. Sessions ended: {count}.")
    return 0


def _sign_out_one(settings: Settings, user: str, *, json: bool) -> int:
    async def end_all(connection: sql.Connection, user_id: UUID) -> int:
        return await sign_out_user(connection, COMMAND, user_id)

    user_id, count = act(settings, user, end_all)
    sentence = f"{safe(user)} is signed out. Sessions ended: {count}."
    print_result(sentence, json=json, user_id=user_id, sessions_ended=count)
    return 0


def _show_progress(count: int, part: float) -> None:
    """Show the progress in one line of the terminal, if there is one."""
    if sys.stderr.isatty():
        print(f"\r{part:4.0%}, sessions ended: {count}", end="", file=sys.stderr, flush=True)
