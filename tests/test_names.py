"""One name, three files: a module, its queries and its tests.

``service/accounts/users.py`` has its queries in ``sql/accounts/users.sql`` and its tests in
``tests/accounts/test_users.py``. Both may have an aspect: ``users_<aspect>.sql`` and
``test_users_<aspect>.py``. The tests have the folders of ``service/``; the queries have only the
first. The tests in ``tests/browser/`` are of the pages of several modules.
"""

from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    path.relative_to(ROOT / "service").with_suffix("")
    for path in (ROOT / "service").rglob("*.py")
    if path.name != "__init__.py"
}
TESTS = {
    path.relative_to(ROOT / "tests").with_name(path.stem.removeprefix("test_"))
    for path in (ROOT / "tests").rglob("test_*.py")
}
QUERIES = {path.relative_to(ROOT / "sql").with_suffix("") for path in ROOT.glob("sql/*/*.sql")}

# Tests of what is not a module of service/.
OTHER_TESTS = {
    "accounts/identity_providers/issuer": "the provider of the tests and its wrong parts",
    "accounts/identity_providers/oidc_provider": "the OpenID provider of tests/oidc_provider/",
    "browser/first_run": "run.py, the printed mails and the pages together, in Chromium",
    "browser/mailed_links": "mailed links in Chromium, from the printed mail to the database",
    "browser/oidc_provider": "the OpenID provider of tests/oidc_provider/ in Chromium",
    "browser/passkeys": "passkeys in Chromium, in a front-end of another origin",
    "browser/two_factor": "the second factor in Chromium, with the code of docs/two-factor.md",
    "browser/identity_providers": "logins through a provider in Chromium",
    "browser/pages": "the pages of all modules in Chromium",
    "deployment": "Dockerfile, compose.yaml, monitoring/ and app.json",
    "documents": "README.md, docs/ and the other documents",
    "fuzz": "tests/fuzz.py",
    "layers": "the imports of all modules",
    "metrics/alerts": "monitoring/alerts.yml and monitoring/dashboard.json",
    "names": "this rule",
    "run": "run.py",
    "sql": "every query",
    "sql_loader": "sql/loader.py",
    "sql_stubs": "sql/stubs.py",
    "sql_style": "the style of SQL",
}

WITHOUT_TESTS = {
    "accounts/credential_changes": "test_passkeys.py and test_identities.py see its effects",
    "accounts/administration/user_schemas": "test_user_routes.py checks responses against them",
    "accounts/identity_providers/errors": "has no rules: it declares errors",
    "accounts/identity_providers/flows": "test_callback.py and test_exchange.py use each step",
    "cli/database": "test_migrate.py and test_seed.py run the commands that use it",
    "doctor/findings": "has no rules: it declares what the checks yield",
    "embedded_postgres/files": "test_server.py starts real servers on real files",
    "embedded_postgres/processes": "test_server.py starts and kills the real processes",
    "http/app_keys": "has no rules: it declares the keys of the application",
    "http/openapi/components": "has no rules: test_document.py validates the whole document",
    "accounts/passkeys/library": "test_passkey_login.py and test_passkey_registration.py load it",
    "listening_sockets": "test_supervisor_start.py binds ports that are in use",
    "reload": "test_supervisor_reload.py reloads real services",
    "signals": "test_supervisor_stop.py and test_supervisor_reload.py send real signals",
    "worker": "test_supervisor_recovery.py and the other files run real workers",
    "metrics/families": "has no rules: it declares the metrics",
    "metrics/gauges": "test_endpoint.py reads the gauges of real workers",
    "metrics/metrics": "test_endpoint.py kills and stops real workers",
    "settings/missing": "test_settings.py and the other files load whole settings",
    "mail/message": "has no rules: it declares a mail and its errors",
}


def belongs_to(name: str, module: PurePath) -> bool:
    """Return whether a file ``name`` has the name of ``module``, alone or with an aspect."""
    return name == module.name or name.startswith(f"{module.name}_")


def test_every_test_file_has_the_name_of_a_module() -> None:
    strays = {
        str(test)
        for test in TESTS
        if not any(
            test.parent == module.parent and belongs_to(test.name, module) for module in MODULES
        )
    }
    assert strays == set(OTHER_TESTS)


def test_every_module_has_a_test_file() -> None:
    untested = {
        str(module)
        for module in MODULES
        if not any(test.parent == module.parent and belongs_to(test.name, module) for test in TESTS)
    }
    assert untested == set(WITHOUT_TESTS)


@pytest.mark.parametrize("queries", sorted(QUERIES), ids=str)
def test_every_file_of_queries_has_the_name_of_a_module_that_calls_it(queries: Path) -> None:
    callers = [
        module
        for module in MODULES
        if module.parts[0] == queries.parts[0]
        and belongs_to(queries.name, module)
        and f"sql.{queries.name}." in (ROOT / "service" / f"{module}.py").read_text()
    ]
    assert callers


@pytest.mark.parametrize("module", sorted(MODULES), ids=str)
def test_a_module_of_a_resource_calls_its_own_queries(module: Path) -> None:
    text = (ROOT / "service" / f"{module}.py").read_text()
    is_resource = "@routes." in text and "sql." in text
    own = {path for path in QUERIES if belongs_to(path.name, module)}
    assert own or not is_resource
