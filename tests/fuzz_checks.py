"""The check ``documented`` for schemathesis.

The response ``default`` of every operation satisfies the check for statuses that schemathesis has.
This check also compares the status and the code with the operation.
"""

from typing import Any
from urllib.parse import urlsplit

import orjson
import schemathesis
from multidict import CIMultiDict

from tests.conftest import Response
from tests.document import check_response, read_document


@schemathesis.check
def documented(ctx: Any, response: Any, case: Any) -> None:
    """Raise ``AssertionError`` if the OpenAPI document does not describe the response."""
    document = read_document(orjson.dumps(case.operation.schema.raw_schema))
    headers = CIMultiDict((name, value[0]) for name, value in response.headers.items())
    is_json = headers.get("Content-Type", "").startswith("application/json")
    body = orjson.loads(response.content) if is_json and response.content else response.content
    checked = Response(response.status_code, body or None, headers)
    check_response(document, case.method, urlsplit(response.request.url).path, checked)
