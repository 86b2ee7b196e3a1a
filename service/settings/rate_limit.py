"""Parse a rate limit: a maximum count in a number of seconds."""

import re
from typing import NamedTuple


class Limit(NamedTuple):
    """At most ``max_count`` events in ``seconds`` seconds. A ``max_count`` of 0 means no limit."""

    max_count: int
    seconds: int


NO_LIMIT = Limit(0, 0)


def parse_limit(value: str) -> Limit:
    """Return a limit written as ``count/seconds``, or ``0``. Raise ``ValueError`` for others."""
    if value == "0":
        return NO_LIMIT
    match = re.fullmatch(r"([1-9][0-9]{0,7})/([1-9][0-9]{0,7})", value)
    if match is None:
        raise ValueError("must be a count and seconds such as 5/900, or 0 for no limit")
    return Limit(int(match[1]), int(match[2]))


def parse_login_limits(value: str) -> tuple[Limit, Limit, Limit]:
    """Return three limits separated by commas. A single ``0`` turns off all three.

    They are the limits per account and IP address, per IP address, and per account. Raise
    ``ValueError`` for any other text.
    """
    parts = [part.strip() for part in value.split(",")]
    try:
        pair, ip, account = (parse_limit(part) for part in parts * (3 if parts == ["0"] else 1))
    except ValueError:
        raise ValueError(
            "must be three limits such as 5/900,50/900,50/3600 (count/seconds: of an account "
            "at an IP address, of an IP address, of an account); 0 for one or for all is no limit"
        ) from None
    return pair, ip, account
