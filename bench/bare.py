"""The baseline: one aiohttp handler that only responds with the bytes read from stdin."""

import asyncio
import sys

import uvloop
from aiohttp import web


async def serve(port: int, body: bytes) -> None:
    """Respond to ``GET /api/user`` on ``port`` with ``body`` until the process is killed."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": "application/json; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/api/user", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.stdin.buffer.read()))
