"""``GET /openapi.json``: a valid document that tells of every route, and of nothing else."""

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import voluptuous as vol
from aiohttp import hdrs
from openapi_spec_validator import OpenAPIV31SpecValidator

import service
from service.accounts.users import REGISTRATION
from service.http.openapi.inputs import schema_of
from service.http.routes import Auth
from tests.conftest import Client, Dialect
from tests.document import Document, read_document

ERRORS = {"400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "500", "503"}


@pytest.fixture
async def document(dialect_client: Client) -> Document:
    """The document in the dialect of the test, as it is served."""
    async with dialect_client.http.get("/openapi.json") as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return read_document(await response.read())


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document.data["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_the_document_is_valid(document: Document) -> None:
    assert document.data["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document.data).iter_errors()) == []


def test_document_version_is_the_package_version(document: Document) -> None:
    package = configparser.ConfigParser()
    package.read(Path(service.__file__).parents[1] / "setup.cfg", encoding="utf-8")
    assert package["metadata"]["version"] == "attr: service.__version__"
    assert document.data["info"]["version"] == service.__version__


async def test_the_document_has_every_route_and_no_other(
    dialect_client: Client, document: Document
) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in dialect_client.http.app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


async def test_every_operation_is_described(document: Document) -> None:
    for _, path, operation in operations(document):
        assert operation["summary"], path
        assert len(operation["tags"]) == 1, path


async def test_statuses_follow_from_the_route(
    dialect_client: Client, document: Document, dialect: Dialect
) -> None:
    for route in dialect_client.http.app.router.routes():
        if route.resource is None or route.method == hdrs.METH_HEAD:
            continue
        documented = document.data["paths"][route.resource.canonical][route.method.lower()]
        operation = route.handler.operation
        assert operation.responses, f"{route} documents no response"
        expected = {"500", "503"}
        if operation.auth is Auth.REQUIRED:
            expected.add("401")
            assert documented["security"] == [{"Token": []}]
        if operation.body is not None:
            expected |= {str(dialect.invalid), "408", "413", "415"}
        if "parameters" in documented:
            expected.add(str(dialect.invalid))
        assert expected <= documented["responses"].keys(), route
        other = {"400", "422"} - {str(dialect.invalid)}
        assert not other & documented["responses"].keys(), route


async def test_each_dialect_has_its_own_answers(document: Document, dialect: Dialect) -> None:
    registration = document.data["paths"]["/api/users"]["post"]["responses"]
    assert str(dialect.registered) in registration
    assert len({"200", "201"} & registration.keys()) == 1
    bio = document.data["components"]["schemas"]["User"]["properties"]["bio"]
    assert bio["type"] == (["string", "null"] if dialect.strict else "string")
    image = document.data["components"]["schemas"]["User"]["properties"]["image"]
    assert image.get("format") == (None if dialect.strict else "uri")


async def test_examples_fit_their_schemas(document: Document) -> None:
    count = 0
    for method, path, operation in operations(document):
        contents = [operation["requestBody"]] if "requestBody" in operation else []
        contents += [document.response(path, method, int(s)) for s in operation["responses"]]
        for content in contents:
            if (documented := content.get("content", {}).get("application/json")) is not None:
                document.validator_of(documented["schema"]).validate(documented["example"])
                count += 1
    assert count > 100


async def test_every_error_has_the_one_shape(document: Document) -> None:
    for method, path, operation in operations(document):
        if path == "/health":
            continue
        for status in operation["responses"].keys() & ERRORS:
            content = document.response(path, method, int(status))["content"]
            schema = content["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}, path


async def test_every_answer_tells_its_request_id(document: Document) -> None:
    for method, path, operation in operations(document):
        for status in operation["responses"]:
            assert "X-Request-ID" in document.response(path, method, int(status))["headers"]


async def test_bodies_are_those_that_validate(document: Document) -> None:
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


async def test_queries_have_bounds_and_defaults(document: Document) -> None:
    parameters = document.data["paths"]["/api/articles"]["get"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert schemas.keys() == {"tag", "author", "favorited", "limit", "offset"}
    assert not any(parameter["required"] for parameter in parameters)


async def test_a_validator_that_cannot_be_told_of_stops_the_start() -> None:
    with pytest.raises(TypeError, match="cannot tell what"):
        schema_of(vol.Schema({"name": str.strip}))
