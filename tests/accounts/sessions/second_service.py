"""The other services of docs/tokens.md: the code in the document, run as it stands there."""

import io
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.app import create_app
from service.http.request_log import RequestLog
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client

DOCUMENT = Path(__file__).parents[3] / "docs/tokens.md"
AUDIENCE = "https://api.example.org"
SECTIONS = {
    "by_keys": "Public keys",
    "by_introspection": "Introspection",
    "by_feed": "The feed of changes",
}
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def load(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> ModuleType:
    """Import a module of the document with these variables. The next ones may import it."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {SECTIONS[name]}\n")[2]
    (code,) = _BLOCK.findall(text.partition("\n## ")[0])
    module = ModuleType(name)
    exec(compile(code, f"{DOCUMENT}: {name}", "exec"), vars(module))  # noqa: S102
    monkeypatch.setitem(sys.modules, name, module)
    return module


async def start_accounts(
    aiohttp_client: Any, database_url: str, folder: Path, **changes: Any
) -> Client:
    """Start this service at its own ``BASE_URL``, which is the issuer of its tokens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"base_url": f"http://127.0.0.1:{port}", "token_audience": AUDIENCE}
    settings = Settings(**{**SETTINGS, "data_dir": folder, **own, **changes})
    log = io.StringIO()
    app = create_app(settings, database_url, RequestLog(log))
    server = {"host": "127.0.0.1", "port": port}
    return Client(await aiohttp_client(app, server_kwargs=server), settings, log)


@dataclass
class TwoServices:
    """This service, and another one that accepts its tokens."""

    accounts: Client
    module: Any
    """The code of the other service."""
    other: Any
    """The client of the other service."""

    async def ask(self, authorization: str) -> tuple[int, Any]:
        """Return the status and the body of the other service."""
        headers = {"Authorization": authorization}
        async with self.other.get("/hello", headers=headers) as response:
            return response.status, await response.json() if response.status == 200 else None
