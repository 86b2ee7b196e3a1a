"""The other services of docs/tokens.md: the code in the document, run as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

DOCUMENT = Path(__file__).parents[3] / "docs/tokens.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_of(section: str) -> str:
    """Return the Python code in a section of the document."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    (code,) = _BLOCK.findall(text.partition("\n## ")[0])
    return str(code)


def load(section: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> web.Application:
    """Run the code of a section with these variables, and return its application."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    namespace: dict[str, Any] = {"__name__": section}
    exec(compile(code_of(section), f"{DOCUMENT}: {section}", "exec"), namespace)  # noqa: S102
    app: web.Application = namespace["app"]
    app["namespace"] = namespace
    return app
