"""The flags and the description of a route."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from service.http.routes import Auth, Operation, RouteTableDef, operation_of
from tests.conftest import Client


def register(routes: RouteTableDef, **flags: Any) -> Operation:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    routes.get("/things", operation_id="GetThings", **flags)(handler)
    operation: Operation = handler.operation  # type: ignore[attr-defined]
    return operation


def test_route_requires_authentication_when_it_has_no_flag() -> None:
    assert register(RouteTableDef()).auth is Auth.REQUIRED
    assert register(RouteTableDef(), auth=Auth.NONE).auth is Auth.NONE


@pytest.mark.parametrize("flags", [{"fresh": True}, {"role": "editor"}])
@pytest.mark.parametrize("auth", [Auth.OPTIONAL, Auth.NONE])
def test_route_with_fresh_proof_or_a_role_must_require_a_user(
    flags: dict[str, Any], auth: Auth
) -> None:
    with pytest.raises(ValueError, match="must require a user"):
        register(RouteTableDef(), auth=auth, **flags)


def test_operation_has_the_tag_of_its_table() -> None:
    assert register(RouteTableDef(tag="Things")).tag == "Things"


def test_route_rejects_a_handler_that_has_other_flags() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    routes = RouteTableDef()
    routes.get("/a", operation_id="GetA", auth=Auth.NONE)(handler)
    with pytest.raises(ValueError, match="handler"):
        routes.get("/b", operation_id="GetA", auth=Auth.REQUIRED)(handler)
    routes.get("/c", operation_id="GetA", auth=Auth.NONE)(handler)
    assert [route.path for route in routes if isinstance(route, web.RouteDef)] == ["/a", "/c"]


async def test_operation_of_returns_none_when_no_route_matches(client: Client) -> None:
    app = client.http.app
    assert app is not None
    for path, is_known in (("/api/tags", True), ("/nothing", False)):
        match = await app.router.resolve(make_mocked_request("GET", path))
        request = make_mocked_request("GET", path)
        request._match_info = match
        assert (operation_of(request) is not None) is is_known
