"""Sign in a person whom a provider has verified: to their account, or to a new one."""

from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.email_verification import queue_verification
from service.accounts.identity_providers.errors import ProviderEmailMissing
from service.accounts.identity_providers.identity_proof import IdentityProof
from service.accounts.identity_providers.linking import (
    Account,
    AtIssuer,
    Decision,
    EmailClaim,
    Facts,
    Owner,
    decide,
)
from service.accounts.identity_providers.profile import Profile
from service.accounts.identity_providers.usernames import choose_username
from service.accounts.one_time_tokens import Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.authentication_methods import FEDERATED
from service.accounts.sign_in import SIGN_IN
from service.accounts.throttling import known_ips
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.two_factor.removal import remove_second_factor
from service.database.pool import DATABASE, Database
from service.http.app_keys import SETTINGS
from service.http.client import Client
from service.http.errors import Conflict

MAX_ATTEMPTS = 5
"""The maximum of decisions for one sign-in: another request may change the facts of each."""


class FactsChanged(Exception):
    """Another request has changed what the decision is based on. The transaction is rolled back."""


async def find_facts(
    db: Database | sql.Connection, profile: Profile, user_id: UUID | None = None
) -> tuple[Facts, Any]:
    """Return the facts about ``profile``, and their row with the ids of the users.

    ``user_id`` is the user who is signed in. Without one, the account is that of the email.
    """
    by_email = profile.email if user_id is None else None
    row = await sql.provider_sign_in.find_facts(
        db,
        issuer=profile.issuer,
        subject=profile.subject,
        email_key=fields.email_key(by_email) if by_email is not None else None,
        user_id=user_id,
    )
    if row["identity_user_id"] is None:
        owner = Owner.NONE
    else:
        owner = Owner.USER if user_id in (None, row["identity_user_id"]) else Owner.OTHER
    if profile.email is None:
        email = EmailClaim.ABSENT
    else:
        is_verified = profile.is_email_verified and _is_same(profile.email, row["account_email"])
        email = EmailClaim.VERIFIED if is_verified else EmailClaim.UNVERIFIED
    if row["account_user_id"] is None:
        account = Account.NONE
    elif row["is_verified"]:
        account = Account.VERIFIED
    else:
        account = Account.UNVERIFIED if row["ever_verified"] else Account.NEVER_VERIFIED
    if row["has_other_subject"]:
        at_issuer = AtIssuer.OTHER
    else:
        at_issuer = AtIssuer.UNLINKED if row["was_unlinked"] else AtIssuer.NONE
    facts = Facts(owner, email, account, at_issuer, user_id is not None)
    return facts, row


def _is_same(email: str, account_email: str | None) -> bool:
    """Return whether two emails with the same uniqueness key are the same mailbox.

    The key ignores more than the case: ``weiß`` and ``weiss`` have the same. Two mailboxes may
    differ in that, and an attacker could have the other one (CVE-2019-19844).
    """
    if account_email is None or email == account_email:
        return True
    return email.isascii() and account_email.isascii()


async def sign_in(
    app: web.Application, client: Client, profile: Profile, label: str, code_digest: bytes | None
) -> web.StreamResponse:
    """Sign in the person of ``profile``, or register them. Return the response of a login.

    ``label`` is the name of the provider for people. ``code_digest`` is that of the exchange code,
    if there was one. Raise ``ProviderEmailMissing``, ``Conflict``, and the errors of a login and of
    a registration.
    """
    for _ in range(MAX_ATTEMPTS):
        try:
            return await _try_sign_in(app, client, profile, label, code_digest)
        except (FactsChanged, asyncpg.UniqueViolationError):
            continue
    raise Conflict("email")


async def _try_sign_in(
    app: web.Application, client: Client, profile: Profile, label: str, code_digest: bytes | None
) -> web.StreamResponse:
    facts, row = await find_facts(app[DATABASE], profile)
    decision = decide(facts)
    proof = IdentityProof.of(
        profile,
        label,
        is_new=decision is not Decision.SIGN_IN,
        code_digest=code_digest,
    )
    if decision is Decision.NEEDS_EMAIL:
        raise ProviderEmailMissing
    if decision is Decision.REGISTER:
        return await _register(app, client, profile, proof)
    if decision is Decision.EMAIL_TAKEN:
        # A provider that does not verify emails must not help to list the emails of accounts.
        await app[THROTTLE].admit_conflict(client)
        raise Conflict("email")
    user_id = row["identity_user_id"] or row["account_user_id"]

    async def confirm(connection: sql.Connection) -> Any:
        await sql.sessions.lock_user(connection, user_id=user_id)
        current_facts, current = await find_facts(connection, profile)
        current_id = current["identity_user_id"] or current["account_user_id"]
        if (decide(current_facts), current_id) != (decision, user_id):
            raise FactsChanged
        user = await sql.users.find_credentials(connection, id=user_id)
        assert user is not None, "the facts have just named the user"
        # The sign-in to a locked account is refused, so it must change nothing.
        if decision is not Decision.TAKE_OVER or user["locked_at"] is not None:
            return user
        await _take_over(app, connection, client, user_id)
        return await sql.users.find_credentials(connection, id=user_id)

    return await app[SIGN_IN].finish(client, {"id": user_id}, FEDERATED, confirm, proof)


async def _register(
    app: web.Application, client: Client, profile: Profile, proof: IdentityProof
) -> web.StreamResponse:
    """Register an account without a password."""
    assert profile.email is not None, "the decision needs an email"
    await app[THROTTLE].admit_registration(client)
    username, email = await choose_username(app[DATABASE], profile.names), profile.email

    async def insert_user(connection: sql.Connection) -> Any:
        user = await sql.provider_sign_in.insert_user(
            connection,
            username=username,
            username_key=fields.uniqueness_key(username),
            email=email,
            email_key=fields.email_key(email),
            image=profile.picture,
            is_verified=profile.is_email_verified,
        )
        if not profile.is_email_verified:
            await queue_verification(
                connection, client, user, throttle=app[THROTTLE], settings=app[SETTINGS]
            )
        return user

    return await app[SIGN_IN].finish_registration(client, insert_user, FEDERATED, proof)


async def _take_over(
    app: web.Application, connection: sql.Connection, client: Client, user_id: UUID
) -> None:
    """Give the account to the owner of its email, who is ``client``.

    Another person may have registered the email, which was never verified. None of their ways in
    stays (Sudhodanan and Paverd, "Pre-hijacked accounts", 2022). The transaction of ``connection``
    must hold the lock on the user's row.
    """
    await remove_second_factor(connection, client, user_id)
    await sql.passkeys.delete_all(connection, user_id=user_id)
    await sql.identities.delete_all(connection, user_id=user_id)
    await sql.provider_sign_in.take_over(connection, user_id=user_id)
    await write_event(connection, client, EventKind.TAKEN_OVER, user_id=user_id)
    await sql.sessions.end_all(
        connection,
        user_id=user_id,
        reason=EventKind.TAKEN_OVER,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    # Every mailed link went to an email that was never verified.
    await one_time_tokens.revoke(connection, user_id, frozenset(Purpose))
    await app[THROTTLE].allow_reset_request(connection, user_id)
    await known_ips.replace_all(connection, user_id, client.ip_key)
    await sql.login_unlock.unlock(connection, user_id=user_id)
    await app[LOGIN_ATTEMPTS].forget_failures(connection, user_id, client)
