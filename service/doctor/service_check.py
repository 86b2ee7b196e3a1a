"""Check the running service: its health, and the proxies in front of it."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from service.doctor.findings import Context, Finding, note, ok, problem
from service.doctor.http import NoAnswer, get
from service.operations.seen_client import PATH, make_proof
from service.settings.origins import DEFAULT_PORTS
from service.settings.settings import Settings

FORGED = "192.0.2.77"
"""An IP address for documentation (RFC 5737). No client has it, but any client can claim it."""


async def check_service(context: Context) -> AsyncIterator[Finding]:
    """Check the running service: its health, and the proxies in front of it."""
    settings = context.settings
    is_here = False
    try:
        health = await get(f"{settings.local_url}/health")
    except NoAnswer as error:
        message = f"no service responds at {settings.local_url} ({error})"
        yield note(message, "start it with these settings, or run this command where it runs")
    else:
        is_here = health.status == 200
        yield _health(settings.local_url, health.status, health.json)
    if settings.base_url is None:
        if is_here:
            yield note("the proxies in front cannot be known without BASE_URL")
        return
    yield await _check_proxies(settings)


def _health(url: str, status: int, body: Any) -> Finding:
    state = body.get("database") if isinstance(body, dict) else None
    if status == 200 and state == "connected":
        return ok(f"the service responds at {url}, and reaches its database")
    if status == 503 and state == "disconnected":
        return problem("the service does not reach its database", "see the check of the database")
    return problem(
        f"another program responds at {url} (status {status})", "stop it, or set another PORT"
    )


async def _check_proxies(settings: Settings) -> Finding:
    """Send a request through ``BASE_URL``, with a forged entry in ``X-Forwarded-For``."""
    if settings.jwt_secret is None:
        return note("the proxies in front cannot be known before the first start")
    headers = {
        "X-Forwarded-For": FORGED,
        "Authorization": f"Bearer {make_proof(settings.jwt_secret)}",
    }
    try:
        response = await get(f"{settings.public_url}{PATH}", headers)
    except NoAnswer as error:
        return problem(
            f"BASE_URL {settings.public_url} does not respond ({error})",
            "start the service, or correct BASE_URL, the DNS or the proxy in front",
        )
    if response.status == 401:
        return problem(
            f"the service at BASE_URL {settings.public_url} has another JWT_SECRET or time",
            "reload or restart it with these settings, or correct BASE_URL",
        )
    if response.status in (502, 503, 504):
        return problem(
            f"BASE_URL {settings.public_url} responds with status {response.status}",
            "start the service, and let the proxy in front lead to it",
        )
    seen = response.json
    if response.status != 200 or not isinstance(seen, dict) or "forwarded_for" not in seen:
        return problem(
            f"BASE_URL {settings.public_url} leads to another program, or to an older version "
            f"(status {response.status})",
            "correct BASE_URL or the proxy in front; it must pass the header Authorization",
        )
    return proxy_finding(settings, seen["forwarded_for"], seen.get("ip"))


def proxy_finding(settings: Settings, entries: list[str], ip: str | None) -> Finding:
    """Compare ``TRUSTED_PROXIES`` with the entries that the proxies added behind ``FORGED``.

    ``ip`` is the IP address of the client, as the service sees it.
    """
    trusted = settings.trusted_proxies
    # A proxy that replaces the header, rather than append to it, removes the forged entry.
    added = len(entries[entries.index(FORGED) + 1 :] if FORGED in entries else entries)
    if added == 0 and settings.public_url.startswith("https://"):
        return problem(
            "the proxy in front, which has the certificate of BASE_URL, adds nothing to "
            "X-Forwarded-For: all clients share its IP address and its limits",
            "let it append the IP address of the client, and set TRUSTED_PROXIES",
        )
    if added < trusted:
        return problem(
            f"TRUSTED_PROXIES is {trusted}, and a request through BASE_URL passes {added}: clients "
            "can choose the IP address that limits apply to",
            f"set TRUSTED_PROXIES={added}, unless this machine reaches BASE_URL past a proxy",
        )
    if added > trusted:
        return problem(
            f"TRUSTED_PROXIES is {trusted}, and a request through BASE_URL passes {added}: all "
            f"clients share the IP address {ip}, and its limits",
            f"set TRUSTED_PROXIES={added}",
        )
    if added == 0 and _port_of(settings.public_url) != settings.port:
        return note(
            f"BASE_URL leads to PORT {settings.port} through something that adds nothing to "
            f"X-Forwarded-For; the client here is {ip}",
            "if it is a proxy, let it append the IP address of the client, and set TRUSTED_PROXIES",
        )
    return ok(f"proxies in front: {added}, as TRUSTED_PROXIES says; the client here is {ip}")


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS[parts.scheme]
