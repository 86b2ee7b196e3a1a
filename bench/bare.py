"""The baselines: handlers of aiohttp with no other feature.

``python -m bench.bare PORT [DATABASE_URL]`` responds to ``GET /api/user`` with the bytes read from
stdin, and with a database to ``GET /users/{username}`` with the row of one query by key.
"""

import asyncio
import sys

import asyncpg
import orjson
import uvloop
from aiohttp import web

QUERY = "select username, bio, image from users where username_key = $1"


async def serve(port: int, body: bytes, database_url: str | None = None) -> None:
    """Respond on ``port`` until the process is killed."""
    app = web.Application()

    async def user(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": "application/json; charset=utf-8"})

    app.router.add_get("/api/user", user)
    if database_url is not None:
        pool = await asyncpg.create_pool(database_url, min_size=10, max_size=10)

        async def query(request: web.Request) -> web.Response:
            row = await pool.fetchrow(QUERY, request.match_info["username"])
            profile = orjson.dumps({"profile": dict(row)})
            return web.Response(body=profile, content_type="application/json")

        app.router.add_get("/users/{username}", query)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.stdin.buffer.read(), *sys.argv[2:]))
