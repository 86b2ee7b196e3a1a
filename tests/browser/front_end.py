"""A front-end of another origin than the service, which runs the code of the documents.

It is an empty page, in which tests run scripts.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.browser.browser import Browser
from tests.browser.service import Service

PAGE = b"<!doctype html><html lang=en><title>Front-end</title><h1>Front-end</h1></html>"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serve_front_end() -> Iterator[str]:
    """Serve the page on every path, and yield its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "two-factor.md"
PROVIDERS = DOCS / "identity-providers.md"

CALL = """
    const call = async (method, path, body) => {
        const headers = {"Content-Type": "application/json"};
        if (token) headers.Authorization = `Token ${token}`;
        const response = await fetch(service + path, {method, headers, body: JSON.stringify(body)});
        const text = await response.text();
        const result = text && JSON.parse(text);
        if (!response.ok) throw Object.assign(new Error(result.code), {body: result});
        return result;
    };
    const post = (path, body) => call("POST", path, body);
"""
"""The functions that the document mentions."""


def documented(subject: str, document: Path = DOCUMENT) -> str:
    """Return the code below ``**subject.**`` in ``document``."""
    text = document.read_text(encoding="utf-8").partition(f"**{subject}.**")[2]
    found = re.search(r"^```js\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the document shows no code for {subject!r}"
    return found[1]


class FrontEnd:
    """A front-end in a tab, and the access token that it has."""

    def __init__(self, browser: Browser, service: Service, token: str = "") -> None:
        self.token = token
        self._browser = browser
        self._service = service.url("")

    def run(self, script: str, **arguments: object) -> Any:
        """Run ``script`` with ``call`` and ``post``. Raise ``ScriptError``."""
        given = {"service": self._service, "token": self.token, **arguments}
        return self._browser.run(CALL + script, **given)

    def add_passkey(self) -> None:
        self.run(documented("Add a passkey"))

    def log_in(self) -> Any:
        """Log in with a passkey, and return the response."""
        return self.run(documented("Log in") + "return session;")

    def passkeys(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.run(
            "return (await call('GET', '/api/user/passkeys')).passkeys;"
        )
        return listed


def open_front_end(browser: Browser, service: Service, front_end: str, name: str) -> FrontEnd:
    """Open the front-end with a new account whose email is verified."""
    token = service.process.register(name)
    service.fetch(
        "update users set email_verified_at = now(), ever_verified = true where username = %s"
        " returning id",
        name,
    )
    browser.open(front_end)
    return FrontEnd(browser, service, token)
