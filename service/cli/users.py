"""``run.py users``: import accounts, and act on single ones."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import sql
from service.accounts.account_lock import AccountLocked
from service.accounts.administration import user_actions
from service.accounts.administration.api_keys import CLI
from service.accounts.administration.user_details import AmbiguousName, find_user
from service.accounts.throttling.throttle import Throttle
from service.accounts.user_import import UserImportError, import_users
from service.cli.database import run_with_database
from service.cli.terminal import confirm, safe, write_json
from service.database.pool import Database
from service.http.client import Client
from service.http.errors import NotFound
from service.settings.settings import Settings

_Result = TypeVar("_Result")

COMMAND = replace(Client.at(""), actor=CLI)
"""A command has no IP address."""


class UserError(Exception):
    """The command cannot act on this user. The message is one sentence."""

    exit_status = 1


async def user_named(database: Database, name: str) -> UUID:
    """Return the id of the user with this email, username or id. Raise ``UserError``."""
    try:
        user_id = await find_user(database, name)
    except AmbiguousName as error:
        raise UserError(f"{safe(name)} {error}: give the id.") from error
    if user_id is None:
        raise UserError(f"No account has the email, the username or the id {safe(name)}.")
    return user_id


def act(
    settings: Settings,
    name: str,
    action: Callable[[sql.Connection, UUID], Awaitable[_Result]],
) -> tuple[UUID, _Result]:
    """Run ``action`` in a transaction on the user with this name. Return the id and its result.

    Raise ``UserError``.
    """

    async def work(database: Database) -> tuple[UUID, _Result]:
        user_id = await user_named(database, name)

        async def run(connection: sql.Connection) -> _Result:
            return await action(connection, user_id)

        try:
            return user_id, await database.transact(run)
        except NotFound as error:
            raise UserError(f"The account of {safe(name)} has just changed.") from error

    return run_with_database(settings, work)


def print_result(sentence: str, *, json: bool, user_id: UUID, **fields: Any) -> None:
    """Print what was done: ``sentence`` for a person, or the id and ``fields`` as JSON."""
    if json:
        write_json({"id": str(user_id), **fields})
    else:
        print(sentence)


def import_accounts(settings: Settings, file: Path, json: bool) -> int:
    """Import accounts from a file of JSON lines, with the password hashes of another system."""

    async def work(database: Database) -> tuple[int, int]:
        return await import_users(database, file, _ignore if json else _show_progress)

    try:
        imported, skipped = run_with_database(settings, work)
    except UserImportError as error:
        print(error, file=sys.stderr)
        return 1
    if json:
        write_json({"imported": imported, "skipped": skipped})
    else:
        print(f"Imported {imported} accounts. Skipped {skipped} whose username or email exists.")
    return 0


def _show_progress(imported: int, skipped: int) -> None:
    """Show the progress after a batch."""
    print(f"imported {imported}, skipped {skipped}", flush=True)


def _ignore(imported: int, skipped: int) -> None:
    """Show no progress: the output is one document of JSON."""


def disable_two_factor(settings: Settings, user: str, json: bool) -> int:
    """Turn off the second factor of an account. The owner is told by mail."""

    async def work(database: Database) -> tuple[UUID, bool]:
        user_id, throttle = await user_named(database, user), Throttle(database, settings)

        async def disable(connection: sql.Connection) -> bool:
            return await user_actions.disable_two_factor(
                connection, COMMAND, user_id, throttle=throttle, settings=settings
            )

        return user_id, await database.transact(disable)

    user_id, has_changed = run_with_database(settings, work)
    if not has_changed:
        raise UserError(f"The account of {safe(user)} has no second factor.")
    sentence = f"The second factor of {safe(user)} is off. The owner is told by mail."
    print_result(sentence, json=json, user_id=user_id, changed=True)
    return 0


def lock(settings: Settings, user: str, json: bool) -> int:
    """Lock an account: end its sessions, and refuse every login until it is unlocked."""
    user_id, has_changed = act(
        settings, user, lambda connection, id_: user_actions.lock(connection, COMMAND, id_)
    )
    sentence = (
        f"The account of {safe(user)} is locked. Its sessions have ended."
        if has_changed
        else f"The account of {safe(user)} was locked already."
    )
    print_result(sentence, json=json, user_id=user_id, changed=has_changed)
    return 0


def unlock(settings: Settings, user: str, json: bool) -> int:
    """Unlock an account. Its owner logs in again."""
    user_id, has_changed = act(
        settings, user, lambda connection, id_: user_actions.unlock(connection, COMMAND, id_)
    )
    state = "is unlocked" if has_changed else "was not locked"
    sentence = f"The account of {safe(user)} {state}."
    print_result(sentence, json=json, user_id=user_id, changed=has_changed)
    return 0


def verify(settings: Settings, user: str, json: bool) -> int:
    """Mark the email of an account as verified, as its owner does with a mailed link."""

    async def verify_current(connection: sql.Connection, user_id: UUID) -> tuple[str, bool]:
        row = await sql.email_verification.find(connection, user_id=user_id)
        email = row["email"] if row is not None else ""
        return email, await user_actions.verify_email(connection, COMMAND, user_id, email)

    user_id, (email, has_changed) = act(settings, user, verify_current)
    state = "is verified" if has_changed else "was verified already"
    sentence = f"The email {safe(email)} {state}."
    print_result(sentence, json=json, user_id=user_id, changed=has_changed, email=email)
    return 0


def reset(settings: Settings, user: str, revoke_password: bool, json: bool) -> int:
    """Mail a link with which the owner of an account chooses a new password."""

    async def start(connection: sql.Connection, user_id: UUID) -> str:
        return await user_actions.start_reset(
            connection, COMMAND, user_id, settings, revoke_password=revoke_password
        )

    try:
        user_id, email = act(settings, user, start)
    except AccountLocked as error:
        raise UserError(
            f"The account of {safe(user)} is locked, so a link would not work: unlock it first."
        ) from error
    state = (
        "The password no longer works, and all sessions have ended."
        if revoke_password
        else "The password and the sessions stay until the owner uses it."
    )
    sentence = f"The service mails a link to {safe(email)}. {state}"
    print_result(sentence, json=json, user_id=user_id, email=email)
    return 0


def delete(settings: Settings, user: str, yes: bool, json: bool) -> int:
    """Delete an account with everything that its user wrote. Ask first."""

    async def describe(database: Database) -> Any:
        return await sql.user_details.describe(database, user_id=await user_named(database, user))

    row = run_with_database(settings, describe)
    if row is None:
        raise UserError(f"The account of {safe(user)} has just changed.")
    question = (
        f"Delete the account {safe(row['username'])} ({safe(row['email'])}), registered "
        f"{row['created_at']:%Y-%m-%d}, with everything that its user wrote? This cannot be undone."
    )
    if not confirm(question, yes=yes, otherwise="delete the account"):
        raise UserError("Nothing was deleted.")

    async def close(connection: sql.Connection, user_id: UUID) -> None:
        await user_actions.delete_account(connection, COMMAND, user_id)

    user_id, _ = act(settings, str(row["id"]), close)
    sentence = (
        f"The account {safe(row['username'])} is deleted. The service removes its content within "
        "minutes."
    )
    print_result(sentence, json=json, user_id=user_id, changed=True)
    return 0
