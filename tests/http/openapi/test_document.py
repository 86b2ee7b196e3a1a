"""Test that ``GET /openapi.json`` is a valid document of exactly the routes of the service."""

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import hdrs, web
from openapi_spec_validator import OpenAPIV31SpecValidator

import service
from service.accounts.users import REGISTRATION
from service.conduit.articles import slug_of
from service.conduit.seed import ARTICLES, AUTHORS
from service.http.openapi.document import Document as Renderer
from service.http.openapi.inputs import schema_of
from service.http.routes import Auth, RouteTableDef
from tests.conftest import Client, Dialect
from tests.document import Document, read_document


@pytest.fixture
async def document(dialect_client: Client) -> Document:
    """Return the document that the service serves in the dialect of the test."""
    async with dialect_client.http.get("/openapi.json") as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return read_document(await response.read())


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document.data["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def successes(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            yield response


async def test_document_is_valid_openapi_3_1(document: Document) -> None:
    assert document.data["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document.data).iter_errors()) == []


def test_document_version_is_the_package_version(document: Document) -> None:
    package = configparser.ConfigParser()
    package.read(Path(service.__file__).parents[1] / "setup.cfg", encoding="utf-8")
    assert package["metadata"]["version"] == "attr: service.__version__"
    assert document.data["info"]["version"] == service.__version__


async def test_document_lists_exactly_the_routes_of_the_service(
    dialect_client: Client, document: Document
) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in dialect_client.http.app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


def test_document_describes_each_tag_and_begins_with_accounts(document: Document) -> None:
    tags = [tag["name"] for tag in document.data["tags"]]
    assert (tags[0], tags[-1]) == ("Accounts", "Operations")
    assert all(tag["description"] for tag in document.data["tags"])
    used = [operation["tags"] for _, _, operation in operations(document)]
    assert {tuple(each) for each in used} == {(tag,) for tag in tags}


def test_security_of_an_operation_follows_from_the_flag_of_its_route(
    dialect_client: Client, document: Document
) -> None:
    expected: dict[Auth, list[Any]] = {
        Auth.REQUIRED: [{"Token": []}],
        Auth.OPTIONAL: [{"Token": []}, {}],
        Auth.NONE: [],
    }
    for route in dialect_client.http.app.router.routes():
        if route.resource is None or route.method == hdrs.METH_HEAD:
            continue
        operation = document.data["paths"][route.resource.canonical][route.method.lower()]
        flags = route.handler.operation
        requirement = [{"Key": [flags.scope]}] if flags.scope is not None else expected[flags.auth]
        assert operation["security"] == requirement, route


def test_operation_of_a_route_with_a_role_names_it() -> None:
    async def handler(_: web.Request) -> web.Response:
        """Get things."""
        return web.Response()

    RouteTableDef().get("/things", operation_id="GetThings", role="editor")(handler)
    operation = Renderer(strict=False).operation("/things", handler)
    assert operation["security"] == [{"Token": ["editor"]}]
    error = operation["responses"]["403"]["content"]["application/json"]["example"]
    assert error == {"errors": {"role": ["must be editor"]}, "code": "role_required"}


def test_operation_of_a_route_with_a_scope_names_it() -> None:
    async def handler(_: web.Request) -> web.Response:
        """Get things."""
        return web.Response()

    flags: Any = {"operation_id": "GetThings", "auth": Auth.KEY, "scope": "things:read"}
    RouteTableDef().get("/things", **flags)(handler)
    operation = Renderer(strict=False).operation("/things", handler)
    assert operation["security"] == [{"Key": ["things:read"]}]
    error = operation["responses"]["403"]["content"]["application/json"]["example"]
    assert error == {
        "errors": {"key": ["does not have the scope things:read"]},
        "code": "scope_required",
    }


def test_every_operation_documents_one_success(document: Document) -> None:
    for method, path, operation in operations(document):
        # A browser is redirected. The callback may respond like a login instead.
        redirects = "302" in operation["responses"]
        assert redirects or len(list(successes(operation))) == 1, (method, path)


async def test_document_differs_by_dialect(document: Document, dialect: Dialect) -> None:
    registration = document.data["paths"]["/api/users"]["post"]["responses"]
    assert str(dialect.registered) in registration
    assert len({"200", "201"} & registration.keys()) == 1
    bio = document.data["components"]["schemas"]["User"]["properties"]["bio"]
    assert bio["type"] == (["string", "null"] if dialect.strict else "string")
    image = document.data["components"]["schemas"]["User"]["properties"]["image"]
    assert image.get("format") == (None if dialect.strict else "uri")


async def test_examples_of_bodies_match_their_schemas(document: Document) -> None:
    count = 0
    for _, _, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *successes(operation)):
            if (content := body.get("content", {}).get("application/json")) is not None:
                document.validator_of(content["schema"]).validate(content["example"])
                count += 1
    assert count > 20


def test_path_parameters_have_examples_from_the_example_data(document: Document) -> None:
    seeded = {"username": set(AUTHORS), "slug": {slug_of(article.title) for article in ARTICLES}}
    count = 0
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "path":
                continue
            document.validator_of(parameter["schema"]).validate(parameter["example"])
            if parameter["name"] in seeded:
                assert parameter["example"] in seeded[parameter["name"]], (method, path)
                count += 1
    assert count > 8


async def test_request_bodies_have_the_schemas_that_validate(document: Document) -> None:
    body = document.data["paths"]["/api/users"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert schema == schema_of(REGISTRATION)
    user = schema["properties"]["user"]
    assert user["required"] == ["username", "email", "password"]
    assert user["properties"]["password"]["minLength"] == 8
    change = document.data["paths"]["/api/user"]["put"]["requestBody"]
    fields = change["content"]["application/json"]["schema"]["properties"]["user"]
    assert "required" not in fields
    assert fields["properties"]["bio"]["type"] == ["string", "null"]
    assert fields["properties"]["bio"]["maxLength"] == 500


async def test_query_parameters_have_their_bounds_and_defaults(document: Document) -> None:
    parameters = document.data["paths"]["/api/articles"]["get"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert schemas.keys() == {"tag", "author", "favorited", "limit", "offset"}
    assert not any(parameter["required"] for parameter in parameters)
