"""Load generators: wrk for plain requests, an asyncio client for logins."""

import asyncio
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Load:
    """The result of one run of wrk: requests per second, and the p99 in milliseconds."""

    rate: float
    p99: float


def require_wrk() -> None:
    """Exit with a message if wrk is not installed."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: install it with `apt install wrk` or `brew install wrk`.")


def wrk(url: str, token: str | None, *, seconds: int, connections: int = 32) -> Load:
    """Load ``url`` with one thread of wrk for ``seconds`` and return the result.

    Exit if a response was not 2xx or 3xx or a connection failed.
    """
    return read_wrk(start_wrk(url, token, seconds=seconds, connections=connections))


def start_wrk(
    url: str, token: str | None, *, seconds: int, connections: int = 32
) -> subprocess.Popen[str]:
    """Start wrk and return immediately; ``read_wrk`` waits for it."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if token is not None:
        command += ["-H", f"Authorization: Token {token}"]
    return subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True)


def get(url: str, tokens: Path, *, seconds: int, connections: int = 32) -> Load:
    """Load ``url`` with GET requests; each takes the next token of the file ``tokens``."""
    return _in_turn(url, tokens, ["GET"], seconds, connections)


def post(url: str, tokens: Path, body: str | None, *, seconds: int, connections: int) -> Load:
    """Load ``url`` with POST requests of ``body`` for ``seconds`` and return the result.

    Each request takes the next token of the file ``tokens``, which has one token on each line.
    """
    arguments = ["POST", *([body] if body is not None else [])]
    return _in_turn(url, tokens, arguments, seconds, connections)


def _in_turn(url: str, tokens: Path, arguments: list[str], seconds: int, connections: int) -> Load:
    script = str(Path(__file__).with_name("requests.lua"))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url]
    command += ["--", str(tokens), *arguments]
    return read_wrk(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def read_wrk(process: subprocess.Popen[str]) -> Load:
    """Wait until wrk ends and return its result. Exit if there were errors."""
    output, _ = process.communicate()
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"The load met errors:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate is not None and p99 is not None, output
    return Load(float(rate[1]), float(p99[1]) * UNITS[p99[2]])


async def logins(url: str, user: dict[str, Any], *, seconds: float, connections: int = 8) -> float:
    """Return the logins per second.

    ``connections`` clients log in without a pause for ``seconds``. Exit if a login fails.
    """
    done = 0
    started = time.monotonic()

    async def log_in_and_again(session: aiohttp.ClientSession) -> None:
        nonlocal done
        while time.monotonic() - started < seconds:
            async with session.post(f"{url}/api/users/login", json={"user": user}) as response:
                if response.status != 200:
                    sys.exit(f"A login responded with {response.status}: {await response.text()}")
                done += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(log_in_and_again(session) for _ in range(connections)))
    return done / (time.monotonic() - started)
