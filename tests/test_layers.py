"""Imports point one way: a part can be read and changed without the parts above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The parts of this project that each part may import, besides itself. ABOVE imports all of them.
ALLOWED = {
    "sql": set[str](),
    "service.settings": set[str](),
    "service.logs": set[str](),
    "service.heartbeats": set[str](),
    "service.embedded_postgres": set[str](),
    "service.http": {"service.settings", "service.logs", "service.__version__"},
    "service.database": {"service.settings", "sql"},
    "service.operations": {"service.http"},
    "service.telemetry": {
        "service.settings",
        "service.logs",
        "service.http",
        "service.__version__",
        "sql",
    },
    "service.mail": {"service.settings", "service.database", "sql"},
    "service.accounts": {
        "service.settings",
        "service.http",
        "service.database",
        "service.mail",
        "sql",
    },
    "service.doctor": {
        "service.settings",
        "service.http",
        "service.database",
        "service.mail",
        "service.operations",
        "service.accounts",
        "sql",
    },
    "service.conduit": {
        "service.settings",
        "service.http",
        "service.database",
        "service.accounts",
        "sql",
    },
}
ABOVE = {
    "service.app",
    "service.supervisor",
    "service.preparation",
    "service.reload",
    "service.listening_sockets",
    "service.signals",
    "service.worker",
    "service.cli",
    "service.metrics",
    "run",
}


def part_of(module: str) -> str:
    """Return the part of ``module``, such as ``service.http`` for ``service.http.auth``."""
    names = module.split(".")
    return ".".join(names[:2] if names[0] == "service" else names[:1])


def imports_of(path: Path) -> Iterator[str]:
    """Yield each module of this project that the file imports, also inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import hides its part"
            # `from service.http import health` imports the module service.http.health.
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] in ("service", "sql", "run"))


def modules() -> list[tuple[str, Path]]:
    """Return the name and the path of each module."""
    paths = [ROOT / "run.py", *(ROOT / "service").rglob("*.py"), *(ROOT / "sql").rglob("*.py")]
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted(paths)
    ]


@pytest.mark.parametrize("part", ALLOWED)
def test_part_imports_only_allowed_parts(part: str) -> None:
    files = [(name, path) for name, path in modules() if part_of(name) == part]
    assert files
    wrong = {
        (name, imported)
        for name, path in files
        for imported in imports_of(path)
        if part_of(imported) not in ALLOWED[part] | {part}
    }
    assert wrong == set()


def test_only_run_imports_the_commands() -> None:
    importers = {
        part_of(name)
        for name, path in modules()
        for imported in imports_of(path)
        if part_of(imported) == "service.cli"
    }
    assert importers == {"run", "service.cli"}


def test_every_module_belongs_to_a_part() -> None:
    parts = {part_of(name) for name, _ in modules()} - {"service"}
    assert parts == set(ALLOWED) | ABOVE


def test_imports_have_no_circle() -> None:
    paths = dict(modules())
    imports = {
        name: {
            imported if imported in paths else imported.rpartition(".")[0]
            for imported in imports_of(path)
        }
        for name, path in modules()
    }
    # Remove the modules that import none of the remaining modules, until only circles remain.
    while leaves := {name for name in imports if not imports[name] & imports.keys() - {name}}:
        imports = {name: imports[name] for name in imports.keys() - leaves}
    assert imports == {}


def test_imports_of_finds_each_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os, service.app\nimport sql\nfrom service.http import auth\n"
        "from service import conduit\ndef f():\n    from service.accounts.users import login\n"
    )
    found = {part_of(name) for name in imports_of(path)}
    assert found == {
        "service.app",
        "sql",
        "service.http",
        "service.conduit",
        "service.accounts",
    }


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        name
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    # These two pass an environment to a program. They take no setting from it.
    assert readers - {"service.embedded_postgres.processes", "service.database.migrate"} == {
        "service.settings.settings"
    }


def test_accounts_take_a_request_only_in_handlers() -> None:
    """Commands without a request call the other functions."""
    takers = {
        f"{name}.{node.name}"
        for name, path in modules()
        if part_of(name) == "service.accounts"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(ast.unparse(mark).startswith("routes.") for mark in node.decorator_list)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None
        and ast.unparse(argument.annotation) in ("web.Request", "web.BaseRequest")
    }
    # The middleware waits between the handler and the response.
    cache_invalidation = "service.accounts.sessions.cache_invalidation"
    assert takers == {
        f"{cache_invalidation}.middleware",
        f"{cache_invalidation}.respond",
        # What every page of a link does with its request.
        "service.accounts.link_pages.error_page_middleware",
        "service.accounts.link_pages._respond",
        "service.accounts.link_pages.link_token",
        "service.accounts.link_pages.page",
        "service.accounts.link_pages.result",
        "service.accounts.link_pages.error_result",
        "service.accounts.passwords.reset._form",
        # What every act of an administrator does with its request.
        "service.accounts.administration.user_routes._act",
    }
