"""JSON answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

JSON = "application/json; charset=utf-8"


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with ``data`` as JSON in UTF-8.

    ``data`` is anything orjson writes; ``status`` the HTTP status; ``headers`` come on top.
    """
    return web.Response(
        body=orjson.dumps(data),
        status=status,
        headers={"Content-Type": JSON, **headers} if headers else {"Content-Type": JSON},
    )


def timestamp(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``; ``time`` is in UTC, as PostgreSQL answers."""
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
