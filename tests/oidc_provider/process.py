"""Start the OpenID provider of ``server.mjs``, control it, and log in at its forms."""

import contextlib
import http.client
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.processes import MAX_WAIT

FOLDER = Path(__file__).parent
MINIMUM_NODE = (20, 19)
CLIENT_SECRET = "tests log in with this, 32 bytes and more"


class OIDCProvider:
    """A running OpenID provider. It accepts any login name and any password.

    The subject of an account is its login name.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def add_client(self, redirect_uri: str, client_id: str = "conduit", **metadata: Any) -> None:
        """Add or replace a client that has the secret ``CLIENT_SECRET``.

        ``metadata`` are other properties of OpenID Connect Dynamic Client Registration 1.0, such
        as ``id_token_signed_response_alg="ES256"``.
        """
        client = {
            "client_id": client_id,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [redirect_uri],
        }
        self._control("PUT", "clients", {**client, **metadata})

    def set_claims(self, name: str, **claims: Any) -> None:
        """Set all claims of an account but its ``sub``, until ``reset_claims``.

        Until then an account has the email ``<name>@example.test``, which is verified, and the
        claims ``name``, ``preferred_username`` and ``picture``.
        """
        self._control("PUT", f"accounts/{quote(name, safe='')}", claims)

    def reset_claims(self) -> None:
        """Undo every ``set_claims``."""
        self._control("DELETE", "accounts")

    def rotate_keys(self) -> None:
        """Replace the keys that sign ID tokens. The old ones are no longer published."""
        self._control("POST", "keys")

    def _control(self, method: str, path: str, body: Any = None) -> None:
        port = URL(self.issuer).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MAX_WAIT)
        with contextlib.closing(connection):
            connection.request(method, f"/test/{path}", json.dumps(body))
            assert connection.getresponse().status == 204, f"{method} {path} {body}"

    async def log_in(self, session: ClientSession, authorization_url: str, name: str) -> str:
        """Log in as ``name`` and consent, wherever the provider asks for it.

        Return the URL that the provider redirects to at the end, with the code or an error.
        ``session`` keeps the cookies, so that the provider does not ask again for the same.
        """
        url = URL(authorization_url, encoded=True)
        form: _Form | None = None
        while str(url.origin()) == self.issuer:
            method, fields = ("GET", None) if form is None else ("POST", form.filled(name))
            response = await session.request(method, url, data=fields, allow_redirects=False)
            async with response:
                page = await response.text()
            form = None
            if "Location" in response.headers:
                url = url.join(URL(response.headers["Location"], encoded=True))
                continue
            assert response.status == 200, f"{method} {url}: {response.status} {page}"
            form = _Form(page)
            url = url.join(URL(form.action, encoded=True))
        return str(url)

    async def cancel(self, session: ClientSession, authorization_url: str) -> str:
        """Cancel at the first form. Return the URL that the provider redirects to."""
        async with session.get(URL(authorization_url, encoded=True)) as response:
            url = response.url / "abort"
        while str(url.origin()) == self.issuer:
            async with session.get(url, allow_redirects=False) as response:
                url = url.join(URL(response.headers["Location"], encoded=True))
        return str(url)


class _Form(HTMLParser):
    """The form of a page, and its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self._fields: dict[str, str] = {}
        self.feed(page)
        assert self.action, f"there is no form: {page}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.action = given["action"] or ""
        elif tag == "input":
            self._fields[given["name"] or ""] = given.get("value") or ""

    def filled(self, name: str) -> dict[str, str]:
        """Return the fields, with the login name and a password if the form has these."""
        typed = {"login": name, "password": "any"}
        return {field: typed.get(field, value) for field, value in self._fields.items()}


def _missing() -> str | None:
    """Return what the provider lacks to start."""
    node = shutil.which("node")
    if node is None:
        return "no Node.js: apt-get install nodejs npm"
    shown = subprocess.run([node, "--version"], capture_output=True, check=True, text=True).stdout
    if tuple(map(int, shown.lstrip("v").split(".")[:2])) < MINIMUM_NODE:
        return f"Node.js {shown.strip()} is too old: npm install --global node@22"
    if not (FOLDER / "node_modules").exists():
        return "no npm packages: npm ci --prefix tests/oidc_provider"
    return None


@contextlib.contextmanager
def start_provider(folder: Path, *arguments: str) -> Iterator[OIDCProvider]:
    """Start a provider, and stop it at the end. Write its errors to a file in ``folder``.

    Without Node.js or the npm packages, skip the test, but fail in CI.
    """
    if (missing := _missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    errors = folder / "errors"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            ["node", str(FOLDER / "server.mjs"), *arguments],
            # It exits when this pipe is closed, also if the tests are killed.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], MAX_WAIT)[0], "it does not start"
            issuer = process.stdout.readline().strip()
            assert issuer, errors.read_text()
            yield OIDCProvider(issuer)
        finally:
            process.kill()
