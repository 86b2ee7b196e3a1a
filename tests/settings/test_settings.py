from pathlib import Path

import pytest

from service.settings.parsers import WELL_KNOWN_SECRETS
from service.settings.settings import Settings, SettingsError
from tests.settings.conftest import SECRET

URL = "postgresql://user:password@localhost:5432/conduit"
ON_A_SERVER = {"DATABASE_URL": URL, "JWT_SECRET": SECRET}
ADVICE = "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one"
MISSING = f"JWT_SECRET is missing: set it to at least 32 random bytes; {ADVICE}."
SHORT = f"JWT_SECRET must be at least 32 bytes long; {ADVICE}."
EASILY_GUESSED = f"JWT_SECRET is well known or too easily guessed; {ADVICE}."


def load(**given: str) -> Settings:
    """Load ``given`` together with a URL and a secret. An empty value counts as not given."""
    return Settings.load({**ON_A_SERVER, **given}, env_file=None)


def errors(**given: str) -> list[str]:
    """Load ``given`` as ``load`` does, and return the errors of the rejected settings."""
    with pytest.raises(SettingsError) as rejected:
        load(**given)
    assert str(rejected.value) == "\n".join(rejected.value.errors)
    return rejected.value.errors


def test_settings_have_defaults_for_everything_but_the_secret() -> None:
    assert load() == Settings(database_url=URL, jwt_secret=SECRET)
    settings = load()
    assert (settings.host, settings.port, settings.web_concurrency) == ("0.0.0.0", 3000, 1)
    assert (settings.bcrypt_cost, settings.access_token_ttl) == (12, 86_400)
    assert (settings.realworld_strict, settings.embedded) == (False, False)


def test_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]


def test_secret_is_required_when_a_database_is_given() -> None:
    assert errors(JWT_SECRET="") == [MISSING]
    assert errors(JWT_SECRET="  ") == [MISSING]


@pytest.mark.parametrize("secret", ["x", "a1" * 15, SECRET[:31]])
def test_secret_is_rejected_when_it_is_short(secret: str) -> None:
    assert errors(JWT_SECRET=secret) == [SHORT]


def test_secret_length_is_counted_in_bytes() -> None:
    secret = "äöüßéèêëñçøåœæþð"
    assert load(JWT_SECRET=secret).jwt_secret == secret


@pytest.mark.parametrize("secret", sorted(WELL_KNOWN_SECRETS))
def test_secret_is_rejected_when_it_is_well_known(secret: str) -> None:
    assert errors(JWT_SECRET=secret) == [EASILY_GUESSED]
    assert errors(JWT_SECRET=secret.upper()) == [EASILY_GUESSED]


@pytest.mark.parametrize("secret", ["x" * 40, "abcdefgh" * 4, SECRET[:20] * 2, "abc" * 10 + "cba"])
def test_secret_is_rejected_when_it_repeats_itself(secret: str) -> None:
    assert errors(JWT_SECRET=secret) == [EASILY_GUESSED]


def test_previous_secrets_are_a_list_with_the_rules_of_the_secret() -> None:
    second = SECRET[::-1]
    settings = load(JWT_PREVIOUS_SECRETS=f" {SECRET}x , {second},")
    assert settings.jwt_previous_secrets == (f"{SECRET}x", second)
    assert errors(JWT_PREVIOUS_SECRETS=f"{second},short") == [
        f"JWT_PREVIOUS_SECRETS must be at least 32 bytes long; {ADVICE}."
    ]


def test_encryption_keys_are_a_list_with_the_rules_of_the_secret() -> None:
    second = SECRET[::-1]
    assert load(ENCRYPTION_KEYS=f"{SECRET}, {second}").encryption_keys == (SECRET, second)
    assert load().encryption_keys == ()
    assert errors(ENCRYPTION_KEYS=f"{SECRET},short") == [
        f"ENCRYPTION_KEYS must be at least 32 bytes long; {ADVICE}."
    ]


def test_encryption_key_is_required_when_every_account_needs_a_second_factor() -> None:
    assert errors(REQUIRE_TWO_FACTOR="true") == [
        "ENCRYPTION_KEYS is missing: without a key no account could set up the second factor that "
        "REQUIRE_TWO_FACTOR demands."
    ]
    assert load(REQUIRE_TWO_FACTOR="true", ENCRYPTION_KEYS=SECRET).require_two_factor
    assert Settings.load({"REQUIRE_TWO_FACTOR": "true"}, env_file=None).require_two_factor


def test_listen_url_needs_a_database_url() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is missing: DATABASE_LISTEN_URL is only"):
        Settings.load({"DATABASE_LISTEN_URL": URL}, None)
    settings = load(DATABASE_LISTEN_URL="postgresql://host/direct")
    assert settings.session_database_url == "postgresql://host/direct"
    assert load().session_database_url == URL


@pytest.mark.parametrize(
    "url",
    [
        "postgres://localhost/conduit",
        "postgresql:///conduit?host=/run/postgresql",
        "postgresql://user:p%40ss@[::1]:5432/conduit",
        "postgresql://one:5432,two:5433/conduit?target_session_attrs=read-write",
    ],
)
def test_database_url_accepts_libpq_urls(url: str) -> None:
    assert load(DATABASE_URL=url).database_url == url


LIKE = "DATABASE_URL must look like postgresql://user:password@host:5432/database"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("conduit", f"{LIKE}."),
        ("mysql://localhost/conduit", f"{LIKE}."),
        ("localhost:5432/conduit", f"{LIKE}."),
        ("postgresql://[::1/conduit", f"{LIKE}."),
        ("postgresql://localhost:port/conduit", f"{LIKE}, with a port from 1 to 65535."),
        ("postgresql://localhost:0/conduit", f"{LIKE}, with a port from 1 to 65535."),
        ("postgresql://localhost:65536/conduit", f"{LIKE}, with a port from 1 to 65535."),
        ("postgresql://one:5432,two:x/conduit", f"{LIKE}, with a port from 1 to 65535."),
    ],
)
def test_database_url_rejects_other_urls(url: str, sentence: str) -> None:
    assert errors(DATABASE_URL=url) == [sentence]


def test_errors_contain_neither_password_nor_secret() -> None:
    text = "\n".join(
        errors(DATABASE_URL="postgresql://user:hunter2@localhost:x/a", JWT_SECRET="a-short-one")
    )
    assert "hunter2" not in text
    assert "a-short-one" not in text


RANGES = {
    "PORT": (1, 65535),
    "WEB_CONCURRENCY": (1, 256),
    "SHUTDOWN_TIMEOUT": (0, 3600),
    "DATABASE_POOL_SIZE": (1, 1000),
    "ACCESS_TOKEN_TTL": (1, 31_536_000),
    "BCRYPT_COST": (4, 16),
    "PASSWORD_QUEUE_SIZE": (0, 100_000),
    "MAX_BODY_SIZE": (1024, 1_073_741_824),
}


@pytest.mark.parametrize(("name", "lowest", "highest"), [(n, *r) for n, r in RANGES.items()])
def test_number_must_be_whole_and_in_its_range(name: str, lowest: int, highest: int) -> None:
    sentence = f"{name} must be a whole number from {lowest} to {highest}."
    wrong = [str(lowest - 1), str(highest + 1), "x", "1.5", "1e3", "0x10", "٣", "9" * 5000, "1 2"]
    for value in wrong:
        assert errors(**{name: value}) == [sentence]
    allowed = max(lowest, 10) if name == "BCRYPT_COST" else lowest
    for number in (allowed, highest):
        assert getattr(load(**{name: str(number)}), name.lower()) == number


@pytest.mark.parametrize(
    ("value", "means"),
    [("true", True), ("TRUE", True), ("1", True), ("yes", True), ("False", False), ("0", False)],
)
def test_flag_accepts_words_for_true_and_false(value: str, means: bool) -> None:
    assert load(REALWORLD_STRICT=value).realworld_strict is means


@pytest.mark.parametrize("value", ["on", "tru", "2", "-"])
def test_flag_rejects_other_words(value: str) -> None:
    assert errors(REALWORLD_STRICT=value) == ["REALWORLD_STRICT must be true or false."]


def test_errors_name_every_invalid_setting() -> None:
    given = {"PORT": "0", "DATABASE_URL": "x", "JWT_SECRET": "", "BCRYPT_COST": "9"}
    given |= {"REALWORLD_STRICT": "maybe", "DATA_DIR_FILE": "/nowhere/at/all"}
    assert sorted(error.split()[0] for error in errors(**given)) == [
        "BCRYPT_COST",
        "DATABASE_URL",
        "DATA_DIR_FILE",
        "JWT_SECRET",
        "PORT",
        "REALWORLD_STRICT",
    ]


def test_blocklist_is_off_by_default_with_the_embedded_server_and_in_strict() -> None:
    assert load().password_blocklist == "common"
    assert load(REALWORLD_STRICT="true").password_blocklist == "off"
    assert load(REALWORLD_STRICT="true", PASSWORD_BLOCKLIST="common").password_blocklist == "common"
    assert Settings.load({}, env_file=None).password_blocklist == "off"


def test_low_bcrypt_cost_is_rejected_when_a_database_is_given(tmp_path: Path) -> None:
    sentence = "BCRYPT_COST must be at least 10; less is only for the embedded database."
    assert errors(BCRYPT_COST="9") == [sentence]
    assert load(BCRYPT_COST="10").bcrypt_cost == 10
    embedded = {"BCRYPT_COST": "4", "DATA_DIR": str(tmp_path)}
    assert Settings.load(embedded, env_file=None).bcrypt_cost == 4


def test_empty_variable_counts_as_not_given() -> None:
    assert load(PORT="", HOST="  ", REALWORLD_STRICT="") == load()


def test_value_is_read_from_a_file(tmp_path: Path) -> None:
    secret, port = tmp_path / "secret", tmp_path / "port"
    secret.write_text(f"{SECRET}-mounted\n")
    port.write_text("8080")
    settings = load(JWT_SECRET="", JWT_SECRET_FILE=str(secret), PORT_FILE=str(port))
    assert (settings.jwt_secret, settings.port) == (f"{SECRET}-mounted", 8080)


def test_file_takes_precedence_over_the_variable(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("8080")
    assert load(PORT="9090", PORT_FILE=str(tmp_path / "port")).port == 8080


def test_file_that_cannot_be_read_is_an_error_with_its_reason(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "missing", "No such file or directory"),
        (binary, "it is not UTF-8"),
        (tmp_path, "Is a directory"),
    ):
        assert errors(PORT_FILE=str(path)) == [
            f"PORT_FILE names {path}, which cannot be read: {reason}."
        ]


def test_unreadable_secret_file_is_one_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert errors(JWT_SECRET="", JWT_SECRET_FILE=str(missing)) == [
        f"JWT_SECRET_FILE names {missing}, which cannot be read: No such file or directory."
    ]


def test_environment_takes_precedence_over_the_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(
        f"# a comment\nDATABASE_URL={URL}\nJWT_SECRET='{SECRET}$HOME'\n"
        "export PORT=8080\nHOST=127.0.0.1\nUNKNOWN=1\nNOTHING\n"
    )
    settings = Settings.load({"HOST": "::1"}, env_file)
    assert (settings.host, settings.port, settings.database_url) == ("::1", 8080, URL)
    assert settings.jwt_secret == f"{SECRET}$HOME"


def test_env_file_is_optional(tmp_path: Path) -> None:
    assert Settings.load(ON_A_SERVER, tmp_path / ".env") == load()


def test_env_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"HOST=\xff\n")
    with pytest.raises(SettingsError) as rejected:
        Settings.load(ON_A_SERVER, env_file)
    (sentence,) = rejected.value.errors
    assert sentence.startswith(f"{env_file} cannot be read: ")


def test_embedded_settings_have_no_secret_and_loading_creates_no_file(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    settings = Settings.load({"DATA_DIR": str(data_dir)}, env_file=None)
    assert settings.embedded
    assert settings.jwt_secret is None
    assert not data_dir.exists()


def test_embedded_settings_keep_a_given_secret(tmp_path: Path) -> None:
    settings = Settings.load({"DATA_DIR": str(tmp_path), "JWT_SECRET": SECRET}, env_file=None)
    assert settings.jwt_secret == SECRET


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://localhost:8080"),
        ("::", "http://localhost:8080"),
        ("192.0.2.1", "http://192.0.2.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("accounts.internal", "http://accounts.internal:8080"),
    ],
)
def test_local_url_names_localhost_when_all_addresses_are_bound(host: str, url: str) -> None:
    assert load(HOST=host, PORT="8080").local_url == url


def test_metrics_need_a_port_of_their_own() -> None:
    assert load().metrics_port is None
    assert load(METRICS_PORT="9100").metrics_url == "http://127.0.0.1:9100/metrics"
    assert load(METRICS_PORT="9100", METRICS_HOST="::").metrics_url == (
        "http://localhost:9100/metrics"
    )
    assert errors(METRICS_PORT="3000") == ["METRICS_PORT must be another port than PORT."]
    assert errors(METRICS_PORT="9100", METRICS_TOKEN="short") == [
        f"METRICS_TOKEN must be at least 32 bytes long; {ADVICE}."
    ]
