import stat
from pathlib import Path

import pytest

from service.settings.parsers import WELL_KNOWN_SECRETS
from service.settings.settings import Settings, SettingsError

SECRET = "fdIbzyCcQKIdGhUkxEVrQnCoZ0hAYw7kNUAs"
URL = "postgresql://user:password@localhost:5432/conduit"
ON_A_SERVER = {"DATABASE_URL": URL, "JWT_SECRET": SECRET}
ADVICE = "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one"
MISSING = f"JWT_SECRET is missing: set it to at least 32 random bytes; {ADVICE}."
SHORT = f"JWT_SECRET must be at least 32 bytes long; {ADVICE}."
GUESSED = f"JWT_SECRET is well known or too easily guessed; {ADVICE}."


def load(**given: str) -> Settings:
    """Load ``given`` together with a URL and a secret. An empty value counts as not given."""
    return Settings.load({**ON_A_SERVER, **given}, env_file=None)


def faults(**given: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(**given)
    assert str(refused.value) == "\n".join(refused.value.sentences)
    return refused.value.sentences


def test_everything_but_the_secret_has_a_default() -> None:
    assert load() == Settings(database_url=URL, jwt_secret=SECRET)
    settings = load()
    assert (settings.host, settings.port, settings.web_concurrency) == ("0.0.0.0", 3000, 1)
    assert (settings.bcrypt_cost, settings.access_token_ttl) == (12, 86_400)
    assert (settings.realworld_strict, settings.embedded) == (False, False)


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]


def test_a_secret_must_be_given_with_a_database() -> None:
    assert faults(JWT_SECRET="") == [MISSING]
    assert faults(JWT_SECRET="  ") == [MISSING]


@pytest.mark.parametrize("secret", ["x", "a1" * 15, SECRET[:31]])
def test_a_short_secret_is_refused(secret: str) -> None:
    assert faults(JWT_SECRET=secret) == [SHORT]


def test_the_length_of_a_secret_is_in_bytes() -> None:
    secret = "äöüßéèêëñçøåœæþð"
    assert load(JWT_SECRET=secret).jwt_secret == secret


@pytest.mark.parametrize("secret", sorted(WELL_KNOWN_SECRETS))
def test_a_well_known_secret_is_refused(secret: str) -> None:
    assert faults(JWT_SECRET=secret) == [GUESSED]
    assert faults(JWT_SECRET=secret.upper()) == [GUESSED]


@pytest.mark.parametrize("secret", ["x" * 40, "abcdefgh" * 4, SECRET[:20] * 2, "abc" * 10 + "cba"])
def test_a_secret_that_repeats_itself_is_refused(secret: str) -> None:
    assert faults(JWT_SECRET=secret) == [GUESSED]


def test_previous_secrets_are_a_list_and_as_good_as_the_first() -> None:
    second = SECRET[::-1]
    settings = load(JWT_PREVIOUS_SECRETS=f" {SECRET}x , {second},")
    assert settings.jwt_previous_secrets == (f"{SECRET}x", second)
    assert faults(JWT_PREVIOUS_SECRETS=f"{second},short") == [
        f"JWT_PREVIOUS_SECRETS must be at least 32 bytes long; {ADVICE}."
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgres://localhost/conduit",
        "postgresql:///conduit?host=/run/postgresql",
        "postgresql://user:p%40ss@[::1]:5432/conduit",
        "postgresql://one:5432,two:5433/conduit?target_session_attrs=read-write",
    ],
)
def test_a_url_of_postgresql_is_taken(url: str) -> None:
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
def test_any_other_url_is_refused(url: str, sentence: str) -> None:
    assert faults(DATABASE_URL=url) == [sentence]


def test_a_refusal_tells_neither_the_password_nor_the_secret() -> None:
    told = "\n".join(
        faults(DATABASE_URL="postgresql://user:hunter2@localhost:x/a", JWT_SECRET="a-short-one")
    )
    assert "hunter2" not in told
    assert "a-short-one" not in told


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
def test_a_number_is_whole_and_in_its_range(name: str, lowest: int, highest: int) -> None:
    sentence = f"{name} must be a whole number from {lowest} to {highest}."
    wrong = [str(lowest - 1), str(highest + 1), "x", "1.5", "1e3", "0x10", "٣", "9" * 5000, "1 2"]
    for value in wrong:
        assert faults(**{name: value}) == [sentence]
    allowed = max(lowest, 10) if name == "BCRYPT_COST" else lowest
    for number in (allowed, highest):
        assert getattr(load(**{name: str(number)}), name.lower()) == number


@pytest.mark.parametrize(
    ("value", "means"),
    [("true", True), ("TRUE", True), ("1", True), ("yes", True), ("False", False), ("0", False)],
)
def test_a_flag_is_true_or_false(value: str, means: bool) -> None:
    assert load(REALWORLD_STRICT=value).realworld_strict is means


@pytest.mark.parametrize("value", ["on", "tru", "2", "-"])
def test_a_flag_is_nothing_else(value: str) -> None:
    assert faults(REALWORLD_STRICT=value) == ["REALWORLD_STRICT must be true or false."]


def test_all_faults_are_told_at_once() -> None:
    given = {"PORT": "0", "DATABASE_URL": "x", "JWT_SECRET": "", "BCRYPT_COST": "9"}
    given |= {"REALWORLD_STRICT": "maybe", "DATA_DIR_FILE": "/nowhere/at/all"}
    told = faults(**given)
    assert sorted(sentence.split()[0] for sentence in told) == [
        "BCRYPT_COST",
        "DATABASE_URL",
        "DATA_DIR_FILE",
        "JWT_SECRET",
        "PORT",
        "REALWORLD_STRICT",
    ]


def test_a_cheap_hash_is_for_the_embedded_database_only(tmp_path: Path) -> None:
    sentence = "BCRYPT_COST must be at least 10; less is only for the embedded database."
    assert faults(BCRYPT_COST="9") == [sentence]
    assert load(BCRYPT_COST="10").bcrypt_cost == 10
    embedded = {"BCRYPT_COST": "4", "DATA_DIR": str(tmp_path)}
    assert Settings.load(embedded, env_file=None).bcrypt_cost == 4


def test_an_empty_variable_counts_as_not_given() -> None:
    assert load(PORT="", HOST="  ", REALWORLD_STRICT="") == load()


def test_a_value_can_come_from_a_file(tmp_path: Path) -> None:
    secret, port = tmp_path / "secret", tmp_path / "port"
    secret.write_text(f"{SECRET}-mounted\n")
    port.write_text("8080")
    settings = load(JWT_SECRET="", JWT_SECRET_FILE=str(secret), PORT_FILE=str(port))
    assert (settings.jwt_secret, settings.port) == (f"{SECRET}-mounted", 8080)


def test_a_file_wins_over_the_variable(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("8080")
    assert load(PORT="9090", PORT_FILE=str(tmp_path / "port")).port == 8080


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "missing", "No such file or directory"),
        (binary, "it is not UTF-8"),
        (tmp_path, "Is a directory"),
    ):
        assert faults(PORT_FILE=str(path)) == [
            f"PORT_FILE names {path}, which cannot be read: {reason}."
        ]


def test_a_secrets_file_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert faults(JWT_SECRET="", JWT_SECRET_FILE=str(missing)) == [
        f"JWT_SECRET_FILE names {missing}, which cannot be read: No such file or directory."
    ]


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(
        f"# a comment\nDATABASE_URL={URL}\nJWT_SECRET='{SECRET}$HOME'\n"
        "export PORT=8080\nHOST=127.0.0.1\nUNKNOWN=1\nNOTHING\n"
    )
    settings = Settings.load({"HOST": "::1"}, env_file)
    assert (settings.host, settings.port, settings.database_url) == ("::1", 8080, URL)
    assert settings.jwt_secret == f"{SECRET}$HOME"


def test_the_env_file_need_not_exist(tmp_path: Path) -> None:
    assert Settings.load(ON_A_SERVER, tmp_path / ".env") == load()


def test_an_env_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"HOST=\xff\n")
    with pytest.raises(SettingsError) as refused:
        Settings.load(ON_A_SERVER, env_file)
    (sentence,) = refused.value.sentences
    assert sentence.startswith(f"{env_file} cannot be read: ")


def test_the_embedded_server_gets_a_secret_that_is_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    first = Settings.load({"DATA_DIR": str(data_dir)}, env_file=None)
    assert first.embedded
    assert len(first.jwt_secret) == 64
    assert Settings.load({"DATA_DIR": str(data_dir)}, env_file=None) == first
    assert [path.name for path in data_dir.iterdir()] == ["jwt_secret"]
    assert stat.S_IMODE((data_dir / "jwt_secret").stat().st_mode) == 0o600

    other = Settings.load({"DATA_DIR": str(tmp_path / "other")}, env_file=None)
    assert other.jwt_secret != first.jwt_secret


def test_a_secret_that_is_given_is_not_kept(tmp_path: Path) -> None:
    settings = Settings.load({"DATA_DIR": str(tmp_path), "JWT_SECRET": SECRET}, env_file=None)
    assert settings.jwt_secret == SECRET
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(SettingsError) as refused:
        Settings.load({"DATA_DIR": str(in_the_way)}, env_file=None)
    assert refused.value.sentences == [f"DATA_DIR {in_the_way} cannot be used: File exists."]


def test_a_kept_secret_that_was_spoilt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.write_text("")
    with pytest.raises(SettingsError) as refused:
        Settings.load({"DATA_DIR": str(tmp_path)}, env_file=None)
    assert refused.value.sentences == [
        f"The secret in {path} must be at least 32 bytes long; {ADVICE}."
    ]


@pytest.mark.parametrize(
    "value",
    [
        "smtp://localhost",
        "smtp://127.0.0.1:1025",
        "smtps://user%40example.org:p%2Fw@mail.example.org:465",
        "smtp://user:password@[::1]:587/",
    ],
)
def test_a_mail_server_has_a_url(value: str) -> None:
    assert load(SMTP_URL=value, MAIL_FROM="us@example.org").smtp_url == value


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "http://localhost",
        "smtp://",
        "smtp://:25",
        "smtp://x:99999",
        "smtp://x:0",
        "smtp://x:y",
        "smtp://x/path",
        "smtp://user@x",
        "smtp://[::1",
    ],
)
def test_what_is_no_url_of_a_mail_server_is_told(value: str) -> None:
    (sentence,) = faults(SMTP_URL=value, MAIL_FROM="us@example.org")
    assert sentence.startswith("SMTP_URL must look like smtp://user:password@host:587")


@pytest.mark.parametrize(
    "value",
    ["us@example.org", "Us <us@example.org>", '"Us, all" <us@example.org>', "Üns <us@x.org>"],
)
def test_mails_are_from_an_address(value: str) -> None:
    assert load(MAIL_FROM=value).mail_from == value


@pytest.mark.parametrize(
    "value",
    ["us", "us@", "@x", "Us", "a@b.c, d@e.f", "us@example.org\nBcc: x@y.z", "ü@x.org", "<>"],
)
def test_what_is_no_address_to_be_from_is_told(value: str) -> None:
    assert faults(MAIL_FROM=value) == ["MAIL_FROM must look like Accounts <accounts@example.org>."]


def test_a_mail_server_needs_an_address_to_be_from(tmp_path: Path) -> None:
    sentence = (
        "MAIL_FROM is missing: SMTP_URL needs an address that mails are from, "
        "such as Accounts <accounts@example.org>."
    )
    assert faults(SMTP_URL="smtp://localhost") == [sentence]
    missing = tmp_path / "missing"
    assert faults(SMTP_URL="smtp://localhost", MAIL_FROM_FILE=str(missing)) == [
        f"MAIL_FROM_FILE names {missing}, which cannot be read: No such file or directory."
    ]
