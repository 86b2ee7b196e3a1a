"""Check the settings: what they open, and the limits that they have together."""

import asyncio
from collections.abc import AsyncIterator

from service.accounts.passwords.blocklist import load_blocklist
from service.doctor.findings import Context, Finding, note, ok, problem
from service.mail.templates import TemplateError, load_templates
from service.settings.origins import host_of
from service.settings.rate_limit import Limit
from service.settings.settings import Settings, SettingsError

LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
LONGEST_WAIT = 20  # Seconds that a request may wait for PostgreSQL.


async def check_settings(context: Context) -> AsyncIterator[Finding]:
    """Check the settings: what they open, and the limits that they have together."""
    settings = context.settings
    place = "the embedded PostgreSQL" if settings.embedded else "DATABASE_URL"
    yield ok(f"the settings are valid: {settings.public_url}, database of {place}")
    for line in limit_lines(settings):
        yield ok(line)
    for finding in await asyncio.to_thread(_files, settings):
        yield finding
    for finding in setting_findings(settings):
        yield finding


def limit_lines(settings: Settings) -> list[str]:
    """Return one line for each group of limits, with the values in effect."""
    account_and_ip, ip, account = settings.login_limits
    per_email_and_ip, per_ip, per_email = settings.forgot_password_limits
    return [
        f"failed logins: {_show(account_and_ip)} per account and IP address, {_show(ip)} per IP "
        f"address, {_show(account)} per account; {settings.consecutive_failure_limit or 'none'} "
        "in a row lock the login",
        f"per IP address: registrations {_show(settings.registration_limit)}, conflicts "
        f"{_show(settings.conflict_limit)}, refreshes {_show(settings.refresh_limit)}, passkeys "
        f"{_show(settings.passkey_limit)}, providers {_show(settings.provider_limit)}",
        f"mails that reset a password: {_show(per_email_and_ip)} per email and IP address, "
        f"{_show(per_ip)} per IP address, {_show(per_email)} per email",
        f"per process: {settings.database_pool_size} pooled connections, "
        f"{settings.password_queue_size} waiting logins, {settings.user_cache_size} cached users "
        f"and sessions, bodies up to {settings.max_body_size} bytes; processes: "
        f"{settings.web_concurrency}",
    ]


def setting_findings(settings: Settings) -> list[Finding]:
    """Return the findings for values that are valid and rarely right."""
    findings = []
    is_remote = host_of(settings.public_url) not in LOOPBACK
    if is_remote and settings.public_url.startswith("http://"):
        findings.append(
            problem(
                "BASE_URL begins with http://, so passwords and tokens travel in clear text",
                "put a proxy with TLS in front, and set BASE_URL to its https URL",
            )
        )
    if not settings.embedded and settings.base_url is None:
        findings.append(note("BASE_URL is not set, so links begin with " + settings.public_url))
    if not settings.embedded and "*" in settings.cors_origins:
        findings.append(note("CORS_ORIGINS is *: the pages of every site may call the service"))
    if any(limit.max_count == 0 for limit in settings.login_limits):
        findings.append(note("LOGIN_LIMITS has a limit that is off: passwords can be guessed"))
    if settings.refresh_grace <= LONGEST_WAIT:
        findings.append(
            note(
                f"REFRESH_GRACE is {settings.refresh_grace} seconds, and a request may wait "
                f"{LONGEST_WAIT} seconds for PostgreSQL",
                "set it above that: a lost response would sign users out",
            )
        )
    if settings.user_cache_size == 0:
        findings.append(note("USER_CACHE_SIZE is 0: every authenticated request runs a query"))
    return findings


def _files(settings: Settings) -> list[Finding]:
    """Load the files that settings name."""
    findings = []
    for load in (load_templates, load_blocklist):
        try:
            load(settings)
        except (TemplateError, SettingsError) as error:
            findings += [
                problem(line.removesuffix("."), "correct the file or the setting")
                for line in str(error).splitlines()
            ]
    return findings


def _show(limit: Limit) -> str:
    return f"{limit.max_count}/{limit.seconds} s" if limit.max_count else "no limit"
