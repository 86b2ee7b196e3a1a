"""Delay the response to a change until this process has invalidated its cached users and sessions.

A client that has received the response to a logout must get 401 with its next request.
"""

from collections.abc import Awaitable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

import sql
from service.database.change_listener import ChangeListener
from service.http.errors import Handler

SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def cache_invalidation_middleware(change_listener: ChangeListener) -> Middleware:
    """Wait after a handler that changed users or sessions, also if it raised an exception.

    ``change_listener`` knows when this process has applied the changes that it committed. Handlers
    of GET and HEAD change no cached column, so their responses never wait.
    """

    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
        calls = sql.collect_invalidating_calls()
        try:
            return await handler(request)
        finally:
            # A heartbeat costs a commit. A response waits for it only if its queries may have
            # changed cached rows.
            if calls:
                await change_listener.wait_until_applied()

    @web.middleware
    def middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        return handler(request) if request.method in SAFE else respond(request, handler)

    return middleware
