import struct
from xml.etree import ElementTree

import pytest

from service.operations.static_files import PICTURES, TYPES
from tests.conftest import Client
from tests.responses import assert_error

CACHED = "public, max-age=3600"


@pytest.mark.parametrize("name", TYPES)
async def test_static_file_has_its_type_and_can_be_cached(client: Client, name: str) -> None:
    async with client.http.get(f"/static/{name}") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == f"{TYPES[name]}; charset=utf-8"
        assert response.headers["Cache-Control"] == CACHED
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert len(await response.read()) > 200


@pytest.mark.parametrize("name", PICTURES)
async def test_picture_is_an_svg_without_scripts_and_references(client: Client, name: str) -> None:
    async with client.http.get(f"/static/{name}.svg") as response:
        root = ElementTree.fromstring(await response.text())  # noqa: S314
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "g", "rect", "path", "circle", "ellipse"}
    assert not any("href" in name for element in root.iter() for name in element.attrib)


async def test_favicon_is_an_icon_of_three_sizes(client: Client) -> None:
    async with client.http.get("/favicon.ico") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/x-icon"
        assert response.headers["Cache-Control"] == CACHED
        icon = await response.read()
    assert struct.unpack_from("<HHH", icon) == (0, 1, 3)
    assert [icon[6 + 16 * index] for index in range(3)] == [16, 32, 48]


@pytest.mark.parametrize("name", ["home.html", "favicon.ico", "..%2fhome.py", "a%00b", "%ff"])
async def test_other_files_are_not_found(client: Client, name: str) -> None:
    response = await client.get(f"/static/{name}")
    assert_error(response, 404, "not_found", {"file": ["not found"]})
