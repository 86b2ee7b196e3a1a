"""The settings of identity providers: a faulty one stops the start with one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.settings.identity_providers import OidcProvider, oidc_providers, redirect_url
from service.settings.settings import Settings, SettingsError
from tests.processes import RUN, Process

SECRET = "the secret of the client"
KEYCLOAK: dict[str, Any] = {
    "name": "keycloak",
    "issuer": "https://id.example.test/realms/main",
    "client_id": "conduit",
    "client_secret": SECRET,
}
SERVER = {"DATABASE_URL": "postgresql://x/x", "JWT_SECRET": "0123456789abcdefghijklmnopqrstuvwx"}


def errors_of(**environment: str) -> list[str]:
    """Return the errors of a start with these variables."""
    with pytest.raises(SettingsError) as raised:
        Settings.load(environment, None)
    assert SECRET not in str(raised.value)
    return raised.value.errors


def test_providers_are_read_from_json() -> None:
    other = {
        **KEYCLOAK,
        "name": "authentik",
        "issuer": "https://auth.example.test/application/o/conduit/",
        "label": "Example Inc.",
        "algorithms": ["ES256", "RS256"],
    }
    settings = Settings.load({"OIDC_PROVIDERS": json.dumps([KEYCLOAK, other])}, None)
    first, second = settings.oidc_providers
    assert first == OidcProvider(
        "keycloak", KEYCLOAK["issuer"], "conduit", SECRET, "keycloak", ("RS256",)
    )
    assert (second.label, second.algorithms) == ("Example Inc.", ("ES256", "RS256"))


def test_providers_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps([KEYCLOAK]))
    settings = Settings.load({"OIDC_PROVIDERS_FILE": str(file)}, None)
    assert [provider.name for provider in settings.oidc_providers] == ["keycloak"]


def test_no_provider_is_the_default() -> None:
    settings = Settings.load({}, None)
    assert (settings.oidc_providers, settings.redirect_urls) == ((), ())


@pytest.mark.parametrize(
    "value", ["keycloak", "{}", "[", "[1]", '["x"]', "null", "[" * 100_000, json.dumps(KEYCLOAK)]
)
def test_value_that_is_no_array_of_objects_stops_the_start(value: str) -> None:
    (error,) = errors_of(OIDC_PROVIDERS=value)
    assert error.startswith('OIDC_PROVIDERS must be a JSON array such as [{"name": "keycloak", ')


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"algorithm": "RS256"}, "has an unknown key: algorithm."),
    "a line break in a key": ({"a\nPORT is b": "x"}, "has an unknown key: aPORT is b."),
    "no issuer": ({"issuer": None}, "must have a text as the issuer of each provider."),
    "a number as the id": ({"client_id": 7}, "must have a text as the client_id of each provider."),
    "no secret": (
        {"client_secret": " "},
        "must have a text as the client_secret of each provider.",
    ),
    "a name with a slash": (
        {"name": "a/b"},
        "must have names of lower-case letters, digits and hyphens.",
    ),
    "a long name": (
        {"name": "a" * 31},
        "must have names of lower-case letters, digits and hyphens.",
    ),
    "a reserved name": ({"name": "google"}, "must not have a provider with the name google."),
    "the name of a path": (
        {"name": "exchange"},
        "must not have a provider with the name exchange.",
    ),
    "http": (
        {"issuer": "http://id.example.test"},
        "must have an https URL as the issuer of keycloak.",
    ),
    "a query": (
        {"issuer": "https://id.example.test?x"},
        "must have an https URL as the issuer of keycloak.",
    ),
    "a user": (
        {"issuer": "https://a:b@id.example.test"},
        "must have an https URL as the issuer of keycloak.",
    ),
    "Google": (
        {"issuer": "https://accounts.google.com"},
        "must not have the issuer of keycloak, which has settings of its own.",
    ),
    "GitHub": (
        {"issuer": "https://github.com"},
        "must not have the issuer of keycloak, which has settings of its own.",
    ),
    "a surrogate in the id": (
        {"client_id": "\ud800"},
        "must have a text as the client_id of each provider.",
    ),
    "a line break in the secret": (
        {"client_secret": "a\n"},
        "must have a text as the client_secret of each provider.",
    ),
    "a long label": (
        {"label": "x" * 51},
        "must have a label of at most 50 characters for keycloak.",
    ),
    "a line break": ({"label": "a\nb"}, "must have a label of at most 50 characters for keycloak."),
}
ALGORITHMS = (
    "must list algorithms from ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, "
    "RS512."
)


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_faulty_provider_stops_the_start(changes: dict[str, Any], message: str) -> None:
    given = json.dumps([{**KEYCLOAK, **changes}])
    assert errors_of(OIDC_PROVIDERS=given) == [f"OIDC_PROVIDERS {message}"]


@pytest.mark.parametrize("given", ["RS256", [], ["HS256"], ["none"], ["RS256", "HS256"], [7], None])
def test_algorithm_that_is_not_asymmetric_stops_the_start(given: object) -> None:
    value = json.dumps([{**KEYCLOAK, "algorithms": given}])
    assert errors_of(OIDC_PROVIDERS=value) == [f"OIDC_PROVIDERS {ALGORITHMS}"]


@pytest.mark.parametrize("key", ["name", "issuer"])
def test_two_providers_with_one_name_or_issuer_stop_the_start(key: str) -> None:
    other = {**KEYCLOAK, "name": "other", "issuer": "https://other.example.test"}
    value = json.dumps([KEYCLOAK, {**other, key: KEYCLOAK[key]}])
    message = f"OIDC_PROVIDERS must not have two providers with the same {key}."
    assert errors_of(OIDC_PROVIDERS=value) == [message]


def test_issuer_may_be_http_on_this_machine() -> None:
    given = json.dumps([{**KEYCLOAK, "issuer": "http://localhost:9000"}])
    assert oidc_providers(given)[0].issuer == "http://localhost:9000"


@pytest.mark.parametrize("name", ["GOOGLE", "GITHUB"])
@pytest.mark.parametrize("empty", ["CLIENT_ID", "CLIENT_SECRET"])
def test_empty_file_of_a_client_stops_the_start(tmp_path: Path, name: str, empty: str) -> None:
    file = tmp_path / "empty"
    file.write_text("\n")
    given = {f"{name}_CLIENT_ID": "id", f"{name}_CLIENT_SECRET": SECRET}
    del given[f"{name}_{empty}"]
    message = f"{name}_{empty} must be a text of printable characters."
    assert errors_of(**given, **{f"{name}_{empty}_FILE": str(file)}) == [message]


@pytest.mark.parametrize("name", ["GOOGLE", "GITHUB"])
@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET"])
def test_half_a_client_stops_the_start(name: str, missing: str) -> None:
    given = {f"{name}_CLIENT_ID": "id", f"{name}_CLIENT_SECRET": SECRET}
    del given[f"{name}_{missing}"]
    message = f"{name}_{missing} is missing: {name}_CLIENT_ID and {name}_CLIENT_SECRET go together."
    assert errors_of(**given) == [message]


@pytest.mark.parametrize("name", ["GOOGLE_CLIENT_ID", "GITHUB_CLIENT_SECRET"])
@pytest.mark.parametrize("value", ["a\nb", "a\0", "\udcff"])
def test_client_that_no_request_can_have_stops_the_start(name: str, value: str) -> None:
    client = name.partition("_")[0]
    given = {f"{client}_CLIENT_ID": "id", f"{client}_CLIENT_SECRET": SECRET, name: value}
    assert errors_of(**given) == [f"{name} must be a text of printable characters."]


@pytest.mark.parametrize(
    "given",
    [
        {"GOOGLE_CLIENT_ID": "id", "GOOGLE_CLIENT_SECRET": SECRET},
        {"GITHUB_CLIENT_ID": "id", "GITHUB_CLIENT_SECRET": SECRET},
        {"OIDC_PROVIDERS": json.dumps([KEYCLOAK])},
    ],
)
def test_server_with_a_provider_needs_base_url(given: dict[str, str]) -> None:
    (error,) = errors_of(**SERVER, **given)
    assert error.startswith("BASE_URL is missing: identity providers redirect to")
    settings = Settings.load({**SERVER, **given, "BASE_URL": "https://a.example.test"}, None)
    assert settings.callback_urls


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("https://app.example.test/signed-in", "https://app.example.test/signed-in"),
        ("HTTPS://App.Example.TEST/Signed-In", "https://app.example.test/Signed-In"),
        ("https://app.example.test:443/", "https://app.example.test/"),
        ("https://app.example.test", "https://app.example.test/"),
        ("https://app.example.test:8443/a/b/", "https://app.example.test:8443/a/b/"),
        ("http://localhost:5173/signed-in", "http://localhost:5173/signed-in"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://[::1]:5173/", "http://[::1]:5173/"),
    ],
)
def test_redirect_url_has_one_normal_form(value: str, normal: str) -> None:
    assert redirect_url(value) == normal
    assert redirect_url(normal) == normal


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "app.example.test",
        "http://app.example.test/",
        "https://*.example.test/",
        "https://a b/",
        "//app.example.test/",
        "javascript:alert(1)",
        "https://a@app.example.test/",
        "https:\\\\app.example.test/",
        "https://app.example.test:0/",
        "https://app.example.test:65536/",
        "https://app.example.test/a/../b",
        "https://app.example.test//b",
        "https://app.example.test/%2e%2e",
        "https://app.example.test/?a=b",
        "https://app.example.test/#a",
        "https://\u0430pp.example.test/",
        "http://localhost.example.test/",
    ],
)
def test_faulty_redirect_url_stops_the_start(value: str) -> None:
    (error,) = errors_of(REDIRECT_URLS=f"https://app.example.test/, {value}")
    assert error == (
        "REDIRECT_URLS must list URLs such as https://app.example.org/signed-in, without a query; "
        "http is only for localhost."
    )


def test_faulty_provider_ends_the_start_with_exit_status_2(tmp_path: Path) -> None:
    given = json.dumps([{**KEYCLOAK, "issuer": "http://id.example.test"}])
    with Process(RUN, tmp_path, {"OIDC_PROVIDERS": given}) as process:
        assert process.wait_for_exit() == 2
        assert process.err == ("OIDC_PROVIDERS must have an https URL as the issuer of keycloak.\n")
