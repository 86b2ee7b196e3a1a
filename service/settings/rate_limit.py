"""How many of something in how many seconds, as a setting says it."""

import re
from typing import NamedTuple


class Limit(NamedTuple):
    """At most ``most`` of something in ``seconds``; a ``most`` of 0 is no limit."""

    most: int
    seconds: int


NO_LIMIT = Limit(0, 0)


def parse_limit(value: str) -> Limit:
    """A limit written as ``count/seconds``, or ``0``. Raises ``ValueError``."""
    if value == "0":
        return NO_LIMIT
    match = re.fullmatch(r"([1-9][0-9]{0,7})/([1-9][0-9]{0,7})", value)
    if match is None:
        raise ValueError("must be a count and seconds such as 5/900, or 0 for no limit")
    return Limit(int(match[1]), int(match[2]))


def parse_login_limits(value: str) -> tuple[Limit, Limit, Limit]:
    """Three limits with commas between them; a single ``0`` is all. Raises ``ValueError``."""
    parts = [part.strip() for part in value.split(",")]
    try:
        pair, address, account = (
            parse_limit(part) for part in parts * (3 if parts == ["0"] else 1)
        )
    except ValueError:
        raise ValueError(
            "must be three limits such as 5/900,50/900,50/3600 (failures/seconds, for an account "
            "at an address, an address, an account); 0 for one or for all is no limit"
        ) from None
    return pair, address, account
