"""The most used tags, from the memory of the process."""

import math
import time

import orjson
from aiohttp import web

import sql
from service.database.pool import Database
from service.http.openapi.schemas import array_of, object_of, string
from service.http.responses import JsonResponse
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef()

MAX_TAGS = 100
FRESH_SECONDS = 1.0  # A list of this age is read again, by one request.
MAX_AGE_SECONDS = 2.0  # The other requests get no list that is older.


class TagList:
    """The response with the most used tags, at most ``MAX_AGE_SECONDS`` old.

    After a change of an article this process reads the list anew, so that the author sees it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._body = b""
        self._read_at = -math.inf
        self._is_being_read = False
        self._changes = 0

    def forget(self) -> None:
        """Note that this process has committed a change of an article."""
        self._read_at = -math.inf
        self._changes += 1

    async def get(self) -> bytes:
        """Return the body of the response."""
        now = time.monotonic()
        max_age = MAX_AGE_SECONDS if self._is_being_read else FRESH_SECONDS
        if now - self._read_at < max_age:
            return self._body
        changes = self._changes
        self._is_being_read = True
        try:
            rows = await sql.tags.most_used(self._database, limit=MAX_TAGS)
        finally:
            self._is_being_read = False
        body = orjson.dumps({"tags": [row["tag"] for row in rows]})
        if changes == self._changes:  # Otherwise the list may be from before the change.
            self._body, self._read_at = body, now
        return body


TAG_LIST = web.AppKey("tag_list", TagList)


@routes.get(
    "/api/tags",
    operation_id="GetTags",
    auth=Auth.NONE,
    responses={200: object_of(tags=array_of(string(example="dragons")))},
)
async def list_tags(request: web.Request) -> web.StreamResponse:
    """List the most used tags, in descending order of use.

    The list may be two seconds old.
    """
    return JsonResponse(await request.app[TAG_LIST].get(), 200, None)
