"""What an account's owner is told by mail, in words.

Nothing in them is a stranger's to write: a name or a user agent would carry his advertisement to
whomever he likes.
"""

import math
from datetime import UTC, datetime

from service.accounts.mail import Mail


def lockout_notice(recipient: str, client_address: str, longest_wait: int) -> Mail:
    """Sign-ins are refused since too many failed, the last of them from ``client_address``.

    ``longest_wait`` is for how many seconds, at most.
    """
    moment = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    place = f" from the address {client_address}" if client_address else ""
    return Mail(
        recipient,
        "Sign-ins to your account are refused for a while",
        f"""\
Somebody tried to sign in to your account with a wrong password too often,
last{place} on {moment}.
None of these tries succeeded. For a while further ones are refused, even with
the right password. Devices that are signed in stay signed in.

If it was you: try again in {math.ceil(longest_wait / 60)} minutes at the latest.
If it was not: nothing was changed. If your password could be guessed, or is in
use elsewhere too, choose another one.
""",
    )
