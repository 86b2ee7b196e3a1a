"""Test that the error codes, their uses, the OpenAPI document and ``docs/errors.md`` agree."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import ValidationError

from service.http.error_codes import ErrorCode
from service.http.openapi.document import render_document
from tests.conftest import Client
from tests.document import read_document

ROOT = Path(__file__).parents[2]


def test_page_lists_every_code_once_with_its_status_and_meaning() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    listed = [(code, int(status), meaning) for code, status, meaning, _ in rows]
    assert Counter(listed) == Counter((code, code.status, code.meaning) for code in ErrorCode)


def test_openapi_document_lists_every_code_with_its_status_and_meaning(client: Client) -> None:
    document = read_document(render_document(client.http.app))
    schema = document.data["components"]["schemas"]["Error"]["properties"]["code"]
    assert schema["enum"] == list(ErrorCode)
    lines = [f"- `{code}` ({code.status}): {code.meaning}" for code in ErrorCode]
    assert schema["description"].splitlines() == lines


def test_openapi_document_rejects_an_unknown_code(client: Client) -> None:
    validator = read_document(render_document(client.http.app)).validator_of(
        {"$ref": "#/components/schemas/Error"}
    )
    validator.validate({"errors": {"body": ["is invalid"]}, "code": ErrorCode.INVALID_INPUT})
    with pytest.raises(ValidationError):
        validator.validate({"errors": {"body": ["is invalid"]}, "code": "misspelt"})


def test_every_code_is_used_by_the_service() -> None:
    """The OpenAPI document only describes codes: its uses do not count."""
    folder = ROOT / "service"
    files = set(folder.rglob("*.py")) - set((folder / "http" / "openapi").rglob("*.py"))
    used = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ErrorCode"
    }
    assert used == set(ErrorCode.__members__)


@pytest.mark.parametrize("code", ErrorCode)
def test_code_is_the_name_of_its_member_and_its_meaning_is_a_sentence(code: ErrorCode) -> None:
    assert code == code.name.lower()
    assert 400 <= code.status <= 599
    assert re.fullmatch(r"[A-Z].+\.", code.meaning)
