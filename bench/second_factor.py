"""Logins with a second factor: both steps, almost without the hash of the first."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pyotp

from bench import servers
from bench.client import connections, request
from service.embedded_postgres.server import EmbeddedInUse, EmbeddedServer

USER = {"username": "bench", "email": "bench@example.test", "password": "bench-bench"}
LOGINS = 200
SECOND_STEP = "/api/users/login/two-factor"


async def login_seconds(report: Callable[[str], None], cost: str) -> float:
    """Return the seconds of one login with a code of TOTP, with hashes of ``cost``.

    This is the median of ``LOGINS`` in a row, as their client sees both requests together.
    """
    report("Logins with a second factor, one after the other, almost without a hash ...")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as data,
        servers.service(BCRYPT_COST=cost, DATA_DIR=data) as service,
    ):
        registered = json.loads(servers.call(f"{service.url}/api/users", {"user": USER}))
        with psycopg.connect(database_url_of(Path(data)), autocommit=True) as connection:
            secret = _turn_on(service.url, registered["user"]["token"], connection)
            return statistics.median(await _times(service.url, secret, connection))


async def _times(url: str, secret: str, connection: psycopg.Connection) -> list[float]:
    """Log in ``LOGINS`` times and return the seconds of each login."""
    times, totp = [], pyotp.TOTP(secret)
    first_step = request("POST", "/api/users/login", body=json.dumps({"user": USER}).encode())
    async with connections(url, 1) as (client,):
        client.max_status = 401  # The response to the first step.
        for _ in range(LOGINS):
            # Otherwise the service would reject the same code, and accept another after 30 seconds.
            connection.execute("update totp_secrets set last_step = -1")
            started = time.perf_counter()
            challenge = json.loads(await client.exchange(first_step))["challenge"]
            code = json.dumps({"challenge": challenge, "code": totp.now()}).encode()
            response = await client.exchange(request("POST", SECOND_STEP, body=code))
            times.append(time.perf_counter() - started)
            assert "refresh_token" in json.loads(response), response
    return times


def _turn_on(url: str, token: str, connection: psycopg.Connection) -> str:
    """Turn the second factor of the user on. Return its secret."""
    connection.execute("update users set email_verified_at = now(), ever_verified = true")
    password = {"password": USER["password"]}
    secret = str(json.loads(servers.call(f"{url}/api/user/two-factor", password, token))["secret"])
    code = {"code": pyotp.TOTP(secret).now()}
    servers.call(f"{url}/api/user/two-factor/confirm", code, token)
    return secret


def database_url_of(data: Path) -> str:
    """Return the URL of the embedded server that a service runs in ``data``."""
    try:
        EmbeddedServer(data, lambda _: None).start()
    except EmbeddedInUse as error:
        if error.dsn is not None:
            return error.dsn
    raise SystemExit("The service does not run the embedded server.")
