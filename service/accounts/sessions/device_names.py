"""Readable names of devices, such as "Firefox on Linux", for the session list.

ua-parser tries hundreds of regular expressions on a user agent. That takes about half a
millisecond, and three for the worst user agent that we found. So a name is made when a list is
read, in a thread, and is then cached.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MAX_PARSED = 200
"""Characters of a user agent that are parsed. Hostile texts take more than linear time."""
MAX_NAME = 80
"""Characters of a name. Some rules copy the name of a browser from the user agent."""
MAX_SECONDS = 3.0
"""Seconds after which a list begins no further name."""
CACHE_SIZE = 10_000

# One thread of its own: long lists must not occupy the default executor, which resolves host names.
_EXECUTOR = ThreadPoolExecutor(1, "device-names")
_cache: OrderedDict[str, str | None] = OrderedDict()


async def device_names(user_agents: Sequence[str | None]) -> list[str | None]:
    """Return the name of the device of each user agent, or ``None`` if it is not known.

    After ``MAX_SECONDS`` only cached names are known. The next call continues from there.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MAX_SECONDS
    names: dict[str | None, str | None] = {}
    # Submit one user agent at a time, so that lists take turns. Otherwise attackers who read long
    # lists of new user agents would delay the list of everybody else by minutes.
    for user_agent in dict.fromkeys(user_agents):
        if user_agent is None:
            continue
        if user_agent not in _cache and loop.time() < deadline:
            names[user_agent] = await loop.run_in_executor(_EXECUTOR, _device_name, user_agent)
        else:
            names[user_agent] = _cache.get(user_agent)
    return [names.get(user_agent) for user_agent in user_agents]


@functools.cache
def _parser() -> Any:
    """Return the parser. It is loaded in the thread, when the first list is read."""
    from ua_parser import Parser
    from ua_parser.basic import Resolver
    from ua_parser.loaders import load_lazy_builtins

    # Each rule is compiled when it is first used. ua-parser's own cache is left out.
    return Parser(Resolver(load_lazy_builtins()))


def _device_name(user_agent: str) -> str | None:
    """Return the name from the cache, or make it. Runs in the thread, which alone fills the cache.

    Simultaneous lists have the same user agents: only the first of them makes the name.
    """
    if user_agent not in _cache:
        parsed = user_agent[:MAX_PARSED]
        parser = _parser()
        parts = (parser.parse_user_agent(parsed), parser.parse_os(parsed))
        name = " on ".join(part.family for part in parts if part is not None)
        if len(_cache) >= CACHE_SIZE:
            _cache.popitem(last=False)
        _cache[user_agent] = name[:MAX_NAME] or None
    return _cache[user_agent]
