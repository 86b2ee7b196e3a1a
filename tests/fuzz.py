"""``make fuzz``: run schemathesis, which generates requests from the OpenAPI document.

``python -m tests.fuzz 600`` runs for 600 seconds. The seed is different each time.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from service.accounts.administration.api_keys import Scope, create_key
from service.app import create_app
from service.database.migrate import migrate
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedServer
from service.http.request_log import RequestLog
from service.http.server import Server
from service.settings.settings import Settings

ROOT = Path(__file__).parents[1]

# `documented` is the check of ``tests/fuzz_checks.py``.
# `allow_header_conformance` is left out: it expects `/api/articles/feed` to allow only `GET`. The
# other methods of `/api/articles/{slug}` match this path too, and `Allow` correctly lists them.
CHECKS = (
    "not_a_server_error",
    "response_headers_conformance",
    "documented",
    "unsupported_method",
    "ignored_auth",
)

EXCLUDED = (
    "Logout",
    "RevokeAllSessions",
    "RevokeUserSessions",
    "LockUser",
    "DeleteUser",
)
"""They would end the session that all other requests use."""


@contextlib.asynccontextmanager
async def serving(settings: Settings, database_url: str, log: Any) -> AsyncIterator[str]:
    """Start the service on a free port, yield its URL, and stop it at the end."""
    app = create_app(settings, database_url, RequestLog(log))
    listening = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(app, [listening], 1.0)
    await server.start()
    try:
        yield base_url
    finally:
        await server.stop()


async def register(base_url: str) -> str:
    """Register an account, create an article and a comment, and return the token."""
    # The path parameters of the document have these as their examples.
    user = {"username": "anna", "email": "anna@example.test", "password": secrets.token_hex()}
    article = {"title": "A loaf for beginners", "description": "Four ingredients", "body": "Rye"}
    async with aiohttp.ClientSession(base_url, raise_for_status=True) as session:
        async with session.post("/api/users", json={"user": user}) as response:
            token = str((await response.json())["user"]["token"])
        session.headers["Authorization"] = f"Token {token}"
        async with session.post("/api/articles", json={"article": article}) as response:
            slug = (await response.json())["article"]["slug"]
        path = f"/api/articles/{slug}/comments"
        async with session.post(path, json={"comment": {"body": "Thank you!"}}):
            return token


async def make_key(database_url: str) -> str:
    """Create an API key with all scopes, and return it."""
    database = Database(database_url, size=1)
    await database.open()
    try:
        return await create_key(database, "fuzz", list(Scope))
    finally:
        await database.close()


async def fuzz(base_url: str, database_url: str, folder: Path, *options: str) -> tuple[int, str]:
    """Run schemathesis against the service. Return its exit status and its output."""
    token, key = await register(base_url), await make_key(database_url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{base_url}/openapi.json"),
        *("--checks", ",".join(CHECKS)),
        *(option for name in EXCLUDED for option in ("--exclude-operation-id", name)),
        *("--continue-on-failure", "--no-color", "--warnings", "off"),
        # Large bodies, and strings that the filters of schemathesis often reject, are no problem.
        *("--suppress-health-check", "all", "--request-timeout", "30"),
        *options,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.fuzz_checks",
            "FUZZ_TOKEN": token,
            "FUZZ_KEY": key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def run(seconds: int, seed: int, strict: bool) -> int:
    """Fuzz a service with a temporary database. Return the exit status of schemathesis."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = EmbeddedServer(folder / "postgres", print, durable=False)
        url = await asyncio.to_thread(server.start)
        try:
            await asyncio.to_thread(migrate, url, lambda _: None)
            settings = Settings(
                jwt_secret=secrets.token_hex(), bcrypt_cost=4, realworld_strict=strict
            )
            print(f"Fuzzing for {seconds} s from seed {seed} ...", flush=True)
            with (folder / "log").open("w", encoding="utf-8") as log:
                async with serving(settings, url, log) as base_url:
                    options = ("--max-time", str(seconds), "--seed", str(seed))
                    status, output = await fuzz(base_url, url, folder, *options)
        finally:
            await asyncio.to_thread(server.stop)
    print(output)
    return status


def main() -> int:
    """Parse the command line, fuzz, and return the exit status."""
    parser = argparse.ArgumentParser(description="Fuzz the service by its own document.")
    parser.add_argument("seconds", nargs="?", type=int, default=120)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--strict", action="store_true", help="in the RealWorld 2.0.0 dialect")
    given = parser.parse_args()
    return asyncio.run(run(given.seconds, given.seed, given.strict))


if __name__ == "__main__":
    sys.exit(main())
