"""Logins with argon2id against logins with bcrypt: their rate, and the memory of the process."""

import asyncio
from collections.abc import Callable

from bench import servers
from bench.load import logins
from bench.table import Row

ROUNDS = 3
SLICE = 4  # Seconds.
USER = {"username": "bench", "email": "bench@example.test", "password": "bench-bench"}


def measure(report: Callable[[str], None]) -> list[Row]:
    """Log in on 8 connections without a pause, with each algorithm in turn."""
    rates: dict[str, list[float]] = {"bcrypt": [], "argon2id": []}
    with (
        servers.service(PASSWORD_ALGORITHM="bcrypt") as bcrypt,  # noqa: S106
        servers.service(PASSWORD_ALGORITHM="argon2id") as argon2id,  # noqa: S106
    ):
        services = {"bcrypt": bcrypt, "argon2id": argon2id}
        for service in services.values():
            servers.call(f"{service.url}/api/users", {"user": USER})
        idle = min(service.memory() for service in services.values())
        for number in range(ROUNDS):
            for name, service in services.items():
                report(f"Logins with {name}, round {number + 1} of {ROUNDS} ...")
                rates[name].append(asyncio.run(logins(service.url, USER, seconds=SLICE)))
        memory = {name: service.peak_memory() for name, service in services.items()}
        best = {name: sorted(found)[len(found) // 2] for name, found in rates.items()}
    return [
        Row(
            f"logins with {name}, 8 connections",
            f"{best[name]:.1f} /s",
            f"at most {memory[name] / 2**20:.0f} MiB, {idle / 2**20:.0f} before",
            f"{best[name] / best['bcrypt']:.1f} times bcrypt",
        )
        for name in rates
    ]
