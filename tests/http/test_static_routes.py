"""Static routes: the same route, middlewares and errors as by aiohttp's router."""

from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from service.app import create_app
from service.http.static_routes import StaticRoutes
from service.settings.settings import Settings
from tests.conftest import SETTINGS
from tests.http.conftest import RawConnection
from tests.responses import assert_error


async def test_static_routes_match_as_the_router_of_aiohttp(
    database_url: str, tmp_path: Path
) -> None:
    app = create_app(Settings(**{**SETTINGS, "data_dir": tmp_path}), database_url)
    app.freeze()
    matches = StaticRoutes(app)._matches
    assert ("GET", "/api/user") in matches and ("HEAD", "/api/user") in matches
    for (method, path), match in matches.items():
        resolved = await app.router.resolve(make_mocked_request(method, path))
        assert match.info.route is resolved.route, f"{method} {path}"


async def test_static_route_runs_every_middleware_in_order() -> None:
    passed: list[str] = []

    def middleware(name: str) -> object:
        @web.middleware
        async def run(request: web.Request, handler: object) -> web.StreamResponse:
            passed.append(name)
            response: web.StreamResponse = await handler(request)  # type: ignore[operator]
            return response

        return run

    async def handler(request: web.Request) -> web.Response:
        passed.append(request.match_info.route.resource.canonical)  # type: ignore[union-attr]
        return web.Response()

    app = web.Application(middlewares=[middleware("first"), middleware("second")])  # type: ignore[list-item]
    app.router.add_get("/static", handler)
    app.freeze()
    await StaticRoutes(app).handle(make_mocked_request("GET", "/static", app=app))
    assert passed == ["first", "second", "/static"]


@pytest.mark.parametrize("path", ["/api/user", "/api/user?a=b", "/api/%75ser"])
async def test_path_requires_a_token_however_it_is_written(wire: RawConnection, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    response = await wire.send(head.encode())
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})
    assert orjson.loads(wire.log.getvalue())["route"] == "/api/user"


async def test_other_method_of_a_static_path_is_rejected(wire: RawConnection) -> None:
    response = await wire.send(b"POST /api/tags HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert_error(response, 405, "method_not_allowed", {"method": ["not allowed"]})
