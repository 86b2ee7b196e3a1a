"""Test that the documents, ``.env.example``, the settings and the routes agree."""

import ast
import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.cli.commands import COMMANDS
from service.mail.templates import SAMPLES
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
MAIL = (ROOT / "docs/mail.md").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
NAMES = {setting.name.upper() for setting in fields(Settings)}
LEVELS = "debug|info|warning|error|exception|critical"
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the tables between a heading of ``document`` and the next heading."""
    section = document.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_operations_page_lists_every_setting_with_its_default() -> None:
    """A default without a value, such as that of ``DATABASE_URL``, is described in words."""
    listed: dict[str, str] = {}
    for row in table(OPERATIONS, "Settings"):
        names = re.findall(r"`([A-Z_]+)`", row[0])
        shown = row[1].split(", ") if len(names) > 1 else [row[1]]
        listed.update(zip(names, shown, strict=True))
    assert listed.keys() == NAMES
    defaults = Settings()
    for setting in fields(Settings):
        default = getattr(defaults, setting.name)
        if default not in (None, "", ()):
            given = listed[setting.name.upper()].strip("`")
            assert setting.metadata["parse"](given) == default, setting.name


def test_env_example_lists_every_setting_with_its_default() -> None:
    listed = dict(re.findall(r"^#([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    assert listed.keys() == NAMES
    defaults = Settings()
    for setting in fields(Settings):
        given = listed[setting.name.upper()]
        shown = setting.metadata["parse"](given) if given else (None, "", ())
        default = getattr(defaults, setting.name)
        assert default == shown if given else default in shown, setting.name


def test_readme_lists_every_route() -> None:
    app = create_app(Settings(**SETTINGS), "postgresql:///")
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    listed = {
        name
        for row in table(README, "The API")
        for name in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`", row[0])
    }
    assert listed == routes


def logged_messages() -> set[str]:
    """Return the first line of each message that the service logs, with ``...`` for each value.

    ``report`` is the function that the supervisor and the commands pass to the start: it logs.
    """
    messages = set()
    for file in [ROOT / "run.py", *(ROOT / "service").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) and node.args else ""
            if not re.fullmatch(rf"(logger|_log)\.({LEVELS})|(self\._)?report", called):
                continue
            assert isinstance(node, ast.Call)
            message = node.args[0]
            if isinstance(message, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "..." for v in message.values]
                text = "".join(map(str, parts))
            else:
                assert isinstance(message, ast.Constant), f"{file.name}: {called} has no text"
                text = re.sub(r"%[sd]", "...", str(message.value))
            messages.add(text.partition("\n")[0])
    return messages


def test_operations_page_lists_every_log_message() -> None:
    rows = table(OPERATIONS, "Logs")
    listed = {row[0].strip("`") for row in rows if len(row) == 3 and row[0] != "message"}
    assert listed - {"---"} == logged_messages()


def test_mail_page_lists_every_template_with_its_values() -> None:
    listed = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in table(MAIL, "Templates")
    }
    assert listed == {template: set(values) for template, values in SAMPLES.items()}


def test_readme_quotes_the_page_of_the_bench() -> None:
    """A new measurement must also update the figures of "How fast" in the README."""
    paragraph = README.partition("In the stored run")[2].partition("\n\n")[0]
    quoted = re.findall(r"\d+\.\d+(?!\d*th)", paragraph)
    page = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    assert len(quoted) == 5
    assert [figure for figure in quoted if not re.search(rf"\b{figure}\b", page)] == []


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_to_existing_files_and_headings(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)|^\[[^]]+\]: *(\S+)", text, re.MULTILINE)
    relative = {"".join(link) for link in links if not re.match(r"[a-z]+:", "".join(link))}
    missing = set()
    for link in relative:
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.add(link)
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tests_named_in_documents_exist_in_the_linked_file(document: str) -> None:
    path = ROOT / document
    named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    missing = {
        name
        for name, file in named
        if f"def {name}(" not in (path.parent / file).read_text(encoding="utf-8")
    }
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"python run\.py ([a-z-]+)(?: ([a-z-]+))?", text)
    unknown = {
        (first, second)
        for first, second in named
        if first not in COMMANDS and f"{first} {second}" not in COMMANDS
    }
    assert unknown == set()


def test_architecture_links_every_decision() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    decisions = {path.name for path in (ROOT / "docs/decisions").glob("*.md")}
    assert {name for name in decisions if f"](decisions/{name})" not in architecture} == set()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_in_documents_for_developers_exist(document: str) -> None:
    """Files by their suffix, folders by their slash; ``<number>_<name>.sql`` is no path."""
    text = (ROOT / document).read_text(encoding="utf-8")
    files = re.findall(r"(?<![\w./<>-])((?:[\w-]+/)*[\w.-]+\.(?:py|sql))\b", text)
    folders = re.findall(r"`((?:[\w-]+/)+)`", text)
    assert len(files) > 4
    missing = {name for name in files + folders if not (ROOT / name).exists()}
    assert missing == set()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_names_in_documents_for_developers_exist_in_their_file(document: str) -> None:
    """Check names such as ``login`` in "``login`` in ``service/accounts/users.py``"."""
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    pairs = re.findall(r"`(\w+)`(?: in | \()`([\w/]+\.(?:py|sql))`", text)
    assert len(pairs) > 1
    missing = {
        (name, file)
        for name, file in pairs
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8"))
    }
    assert missing == set()


def walk() -> list[tuple[list[str], str]]:
    """Return the README's commands, each with the response printed below it."""
    steps: list[tuple[list[str], str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, response = entry.partition("\n")
            steps.append((shlex.split(command), response.strip()))
    return steps


async def carry_out(client: Client, command: list[str], token: str) -> Any:
    """Send the request that curl would send, and return the response body.

    Support the options ``-X``, ``-H`` and ``-d``.
    """
    method, url, body, headers = "GET", "", None, {}
    words = iter(command[1:])
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-d":
            body = next(words)
        elif word == "-H":
            name, _, value = next(words).replace("$TOKEN", token).partition(": ")
            headers[name] = value
        else:
            url = word.removeprefix("http://localhost:3000")
    response = await client.send(method, url, data=body, headers=headers)
    return response.body


def matches(shown: Any, real: Any) -> bool:
    """Return whether a response equals the one shown. A trailing ``...`` matches any text."""
    if isinstance(shown, dict) and isinstance(real, dict):
        return list(shown) == list(real) and all(matches(shown[k], real[k]) for k in shown)
    if isinstance(shown, str) and shown.endswith("..."):
        return isinstance(real, str) and real.startswith(shown[:-3])
    return bool(shown == real)


async def test_walk_of_the_readme_gets_the_responses_of_the_readme(client: Client) -> None:
    token = ""
    steps = walk()
    assert len(steps) > 8
    for command, shown in steps:
        if command[0].startswith("TOKEN="):
            continue
        real = await carry_out(client, command, token)
        assert matches(json.loads(shown) if shown else None, real), (command, shown, real)
        if isinstance(real, dict) and "user" in real and not token:
            token = real["user"]["token"]
