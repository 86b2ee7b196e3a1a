"""The authentication and the check ``documented`` for schemathesis.

The response ``default`` of every operation satisfies the check for statuses that schemathesis has.
This check also compares the status and the code with the operation.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import orjson
import schemathesis
from multidict import CIMultiDict

from tests.conftest import Response
from tests.document import check_response, read_document

TOKEN, KEY = "FUZZ_TOKEN", "FUZZ_KEY"
"""Variables of the environment: the token of a user, and an API key that has all scopes."""


class Authorization:
    """Send the token of a user, or the API key where the operation requires one."""

    def get(self, case: Any, context: Any) -> str:
        """Return the value of the header."""
        del context
        security = case.operation.definition.raw["security"]
        requires_key = any("Key" in requirement for requirement in security)
        return f"Bearer {os.environ[KEY]}" if requires_key else f"Token {os.environ[TOKEN]}"

    def set(self, case: Any, data: str, context: Any) -> None:
        """Add the header to a request."""
        del context
        case.headers["Authorization"] = data


schemathesis.auth(cache_by_key=lambda case, _: case.operation.label)(Authorization)


@schemathesis.check
def documented(ctx: Any, response: Any, case: Any) -> None:
    """Raise ``AssertionError`` if the OpenAPI document does not describe the response."""
    document = read_document(orjson.dumps(case.operation.schema.raw_schema))
    headers = CIMultiDict((name, value[0]) for name, value in response.headers.items())
    is_json = headers.get("Content-Type", "").startswith("application/json")
    body = orjson.loads(response.content) if is_json and response.content else response.content
    checked = Response(response.status_code, body or None, headers)
    check_response(document, case.method, urlsplit(response.request.url).path, checked)
