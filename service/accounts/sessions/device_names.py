"""Readable names of devices, such as "Firefox on Linux", for the session list.

ua-parser tries hundreds of regular expressions on a user agent, which takes about half a
millisecond. So a name is made when a list is read, in a thread, and is then cached. The names of
1,000 new user agents take 0.6 seconds and block the event loop for at most 14 milliseconds at once.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from ua_parser import Parser
from ua_parser.basic import Resolver
from ua_parser.loaders import load_lazy_builtins

MAX_PARSED = 200
"""Characters of a user agent that are parsed. Hostile texts take more than linear time."""
MAX_NAME = 80
"""Characters of a name. Some rules copy the name of a browser from the user agent."""

# One thread of its own: long lists must not occupy the default executor, which resolves host names.
_EXECUTOR = ThreadPoolExecutor(1, "device-names")
# Each rule is compiled when it is first used. ua-parser's own cache is left out.
_PARSER = Parser(Resolver(load_lazy_builtins()))


async def device_names(user_agents: Sequence[str | None]) -> list[str | None]:
    """Return the name of the device of each user agent, or ``None`` if it is not known."""

    def find_names() -> list[str | None]:
        return [_device_name(text) if text is not None else None for text in user_agents]

    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, find_names)


@lru_cache(maxsize=10_000)
def _device_name(user_agent: str) -> str | None:
    parsed = user_agent[:MAX_PARSED]
    parts = (_PARSER.parse_user_agent(parsed), _PARSER.parse_os(parsed))
    return " on ".join(part.family for part in parts if part is not None)[:MAX_NAME] or None
