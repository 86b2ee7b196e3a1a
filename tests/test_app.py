"""The wiring of the application."""

import importlib
import io
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

import service
from service.app import ROUTES, create_app
from service.http.request_log import RequestLog
from service.settings.settings import Settings
from tests.conftest import SETTINGS

URL = "postgresql://localhost/conduit"


def app_of(**changes: Any) -> web.Application:
    settings = Settings(**{**SETTINGS, **changes})
    return create_app(settings, URL, RequestLog(io.StringIO()))


def test_create_app_requires_a_secret() -> None:
    with pytest.raises(ValueError, match="jwt_secret is missing"):
        app_of(jwt_secret=None)


def test_create_app_does_not_connect_to_the_database() -> None:
    assert app_of() is not app_of()


async def test_path_of_the_feed_is_not_a_slug() -> None:
    match = await app_of().router.resolve(make_mocked_request("GET", "/api/articles/feed"))
    assert match.handler.__name__ == "list_feed"


def test_every_table_of_routes_is_registered() -> None:
    root = Path(service.__file__).parent
    modules = [
        importlib.import_module(
            ".".join(("service", *path.relative_to(root).with_suffix("").parts))
        )
        for path in sorted(root.rglob("*.py"))
        if "\nroutes = RouteTableDef(" in path.read_text(encoding="utf-8")
    ]
    assert modules
    assert {id(module.routes) for module in modules} == {id(table) for table in ROUTES}
