"""Read the settings once from the environment and ``.env``, validate them together, freeze them.

Only this file reads the environment. Every setting may also be given as ``NAME_FILE``, the path of
a file that contains the value, because secret stores mount files.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from service.settings import parsers as kind
from service.settings.identity_providers import (
    OidcProvider,
    client_text,
    oidc_providers,
    redirect_url,
)
from service.settings.missing import missing_settings
from service.settings.origins import host_of, is_within
from service.settings.rate_limit import Limit, parse_limit, parse_login_limits

DATA_DIR = Path(".data")


class SettingsError(Exception):
    """One or more settings are invalid.

    ``errors`` contains one sentence for each invalid setting. It is complete, so that one start
    shows the operator everything that they have to fix.
    """

    exit_status = 2

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def _setting(parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of an operator. The variable has the attribute's name in upper case.

    ``Settings.load`` reads and validates them. Tests create the class directly.
    """

    host: str = _setting(kind.text, "0.0.0.0")  # noqa: S104
    """IP address to listen on."""

    port: int = _setting(kind.whole_number(1, 65535), 3000)
    """TCP port to listen on."""

    web_concurrency: int = _setting(kind.whole_number(1, 256), 1)
    """Number of processes that serve requests."""

    shutdown_timeout: int = _setting(kind.whole_number(0, 3600), 24)
    """Seconds that running requests get to finish after SIGTERM."""

    database_url: str | None = _setting(kind.database_url, None)
    """URL of PostgreSQL (15 or newer). ``None`` starts the embedded server."""

    database_listen_url: str | None = _setting(kind.database_url, None)
    """URL of PostgreSQL itself, where ``database_url`` leads through a pooler.

    LISTEN, the migrations and the commands need a connection for themselves.
    """

    database_prepared_statements: bool = _setting(kind.flag, True)
    """Whether statements are prepared once per connection. A pooler older than PgBouncer 1.21 does
    not support that."""

    database_pool_size: int = _setting(kind.whole_number(1, 1000), 16)
    """Maximum pooled connections per process. The change listener uses two more."""

    data_dir: Path = _setting(kind.path, DATA_DIR)
    """Directory of the embedded server and of the secrets that are generated for it."""

    jwt_secret: str | None = _setting(kind.secret, None)
    """Key that signs access tokens, at least 32 bytes.

    ``None`` is only valid with the embedded server: ``with_generated_secrets`` creates the key.
    """

    jwt_previous_secrets: tuple[str, ...] = _setting(kind.list_of(kind.secret), ())
    """Former secrets, which only verify tokens, so that a rotation logs out no user."""

    token_algorithm: str = _setting(kind.one_of("HS256", "ES256", "EdDSA"), "HS256")
    """Algorithm that signs access tokens. Other services can verify those of ES256 and EdDSA."""

    token_audience: str | None = _setting(kind.text, None)
    """The claim ``aud`` of tokens with ES256 and EdDSA. ``None`` is ``public_url``."""

    encryption_keys: tuple[str, ...] = _setting(kind.list_of(kind.secret), ())
    """Keys that encrypt the secrets of authenticator apps and the private keys of tokens.

    The first encrypts, all decrypt.

    Without a key, no account can turn on a second factor. With the embedded server,
    ``with_generated_secrets`` creates one.
    """

    access_token_ttl: int = _setting(kind.whole_number(1, 31_536_000), 86_400)
    """Lifetime of an access token in seconds."""

    refresh_token_ttl: int = _setting(kind.whole_number(1, 31_536_000), 604_800)
    """Lifetime of an unused refresh token in seconds."""

    refresh_grace: int = _setting(kind.whole_number(0, 3600), 30)
    """Seconds that a used refresh token is still accepted, for two tabs and lost responses."""

    session_ttl: int = _setting(kind.whole_number(1, 315_360_000), 2_592_000)
    """Lifetime of a session in seconds from its login. Use does not extend it."""

    session_limit: int = _setting(kind.whole_number(0, 100_000), 0)
    """Maximum active sessions per user. 0 means no limit."""

    session_limit_policy: str = _setting(kind.one_of("evict-oldest", "deny"), "evict-oldest")
    """Effect of a login over the limit: end the least recently used session, or fail with 403."""

    reauthentication_ttl: int = _setting(kind.whole_number(1, 31_536_000), 900)
    """Seconds that a proof of the person is fresh enough to change credentials."""

    event_ttl: int = _setting(kind.whole_number(1, 315_360_000), 7_776_000)
    """Seconds that the security log keeps an event."""

    password_algorithm: str = _setting(kind.one_of("bcrypt", "argon2id"), "bcrypt")
    """Algorithm of new password hashes. Both are verified. A login renews hashes of the other."""

    password_min_length: int = _setting(kind.whole_number(8, 64), 8)
    """Minimum characters of a new password."""

    password_blocklist: str = _setting(kind.text, "common")
    """Passwords that are refused: ``common``, ``off``, or the path of a file.

    ``off`` is the default with the embedded server and in the strict dialect.
    """

    bcrypt_cost: int = _setting(kind.whole_number(4, 16), 12)
    """Work factor of new password hashes. Each step doubles the time per hash."""

    password_queue_size: int = _setting(kind.whole_number(0, 100_000), 128)
    """Maximum logins that wait for a worker in one process, and as many other hashes; then 503."""

    max_body_size: int = _setting(kind.whole_number(1024, 1_073_741_824), 1_048_576)
    """Maximum request body in bytes. A larger one is rejected with 413."""

    trusted_proxies: int = _setting(kind.whole_number(0, 32), 0)
    """Number of proxies whose entry in ``X-Forwarded-For`` is trusted. 0 ignores the header."""

    login_limits: tuple[Limit, Limit, Limit] = _setting(
        parse_login_limits, (Limit(5, 900), Limit(50, 900), Limit(50, 3600))
    )
    """Failed logins per account and IP address, per IP address, and per account."""

    consecutive_failure_limit: int = _setting(kind.whole_number(0, 1_000_000), 100)
    """Failed logins in a row on one account that lock its login. 0 means no limit."""

    known_address_ttl: int = _setting(kind.whole_number(0, 315_360_000), 2_592_000)
    """Seconds that an IP address stays known. A known one is exempt from the account's limit."""

    lockout_mail_interval: int = _setting(kind.whole_number(0, 31_536_000), 3600)
    """Minimum seconds between two mails to a user about rejected logins. 0 sends none."""

    registration_limit: Limit = _setting(parse_limit, Limit(10_000, 3600))
    """Registrations, and changes of username or email, per IP address."""

    conflict_limit: Limit = _setting(parse_limit, Limit(500, 3600))
    """Responses that an email or username is taken, per IP address."""

    refresh_limit: Limit = _setting(parse_limit, Limit(100_000, 3600))
    """Session refreshes per IP address."""

    passkey_limit: Limit = _setting(parse_limit, Limit(5000, 3600))
    """Challenges for passkeys, and as many responses to them, per IP address."""

    password_change_limit: Limit = _setting(parse_limit, Limit(100, 3600))
    """Password changes per user."""

    resend_limit: Limit = _setting(parse_limit, Limit(1, 60))
    """Requests of a user for another verification mail."""

    verification_mail_limit: Limit = _setting(parse_limit, Limit(5, 3600))
    """Verification mails to one email, also those of registrations and changes."""

    forgot_password_limits: tuple[Limit, Limit, Limit] = _setting(
        parse_login_limits, (Limit(5, 900), Limit(50, 3600), Limit(10, 3600))
    )
    """Requests for a password reset: of an email at an IP address, of an IP address, of an email.

    The last one does not count requests from known IP addresses.
    """

    passkey_rp_id: str | None = _setting(kind.domain, None)
    """Domain of the passkeys. ``None`` is the host of ``FRONTEND_URL`` or of ``BASE_URL``."""

    google_client_id: str | None = _setting(client_text, None)
    """Client id at Google. Together with ``GOOGLE_CLIENT_SECRET`` it offers a login with Google."""

    google_client_secret: str | None = _setting(client_text, None)
    """Client secret at Google."""

    github_client_id: str | None = _setting(client_text, None)
    """Client id at GitHub. Together with ``GITHUB_CLIENT_SECRET`` it offers a login with GitHub."""

    github_client_secret: str | None = _setting(client_text, None)
    """Client secret at GitHub."""

    oidc_providers: tuple[OidcProvider, ...] = _setting(oidc_providers, ())
    """Other OpenID providers, as a JSON array of objects."""

    redirect_urls: tuple[str, ...] = _setting(kind.list_of(redirect_url), ())
    """URLs of front-ends that may get the result of a sign-in through a provider."""

    provider_limit: Limit = _setting(parse_limit, Limit(5000, 3600))
    """Sign-ins begun through a provider, and as many exchanges of their codes, per IP address."""

    require_verified_email: bool = _setting(kind.flag, False)
    """Reject logins while the email of the account is not verified."""

    smtp_url: str | None = _setting(kind.smtp_url, None)
    """URL of the mail server. ``None`` prints mails to the log."""

    mail_from: str = _setting(kind.mailbox, "")
    """Sender of all mails. Required with ``SMTP_URL``."""

    mail_templates: Path | None = _setting(kind.path, None)
    """Folder of templates that replace those of the package, and of other languages."""

    base_url: str | None = _setting(kind.base_url, None)
    """URL at which clients reach the service. Required with ``SMTP_URL``. See ``public_url``."""

    frontend_url: str | None = _setting(kind.frontend_url, None)
    """URL of a front-end that has the pages of mailed links. ``None``: this service has them."""

    require_two_factor: bool = _setting(kind.flag, False)
    """Reject requests of users who have no second factor, except those that set one up."""

    realworld_strict: bool = _setting(kind.flag, False)
    """Respond exactly as RealWorld 2.0.0: 422 for invalid input, 201 for a registration."""

    user_cache_size: int = _setting(kind.whole_number(0, 10_000_000), 100_000)
    """Maximum users and sessions in the cache of a process, which saves queries. 0 disables it."""

    user_cache_staleness: int = _setting(kind.whole_number(1, 60), 2)
    """Seconds within which the loss of the LISTEN connection is detected."""

    cors_origins: tuple[str, ...] = _setting(kind.list_of(kind.origin), ())
    """Origins whose web pages may call the service. ``*`` (all) is the embedded default."""

    metrics_port: int | None = _setting(kind.whole_number(1, 65535), None)
    """TCP port of the metrics for Prometheus. ``None``: the service measures nothing."""

    metrics_host: str = _setting(kind.text, "127.0.0.1")
    """IP address on which the metrics are served."""

    metrics_token: str | None = _setting(kind.secret, None)
    """Token that a request for the metrics must have. ``None``: it needs none."""

    sentry_dsn: str | None = _setting(kind.http_url, None)
    """URL to which errors are reported, with the key of the project. ``None``: no report."""

    otel_exporter_otlp_endpoint: str | None = _setting(kind.http_url, None)
    """URL of an OpenTelemetry collector, which receives the traces. ``None``: no traces."""

    @property
    def embedded(self) -> bool:
        """Return whether the service uses the embedded PostgreSQL server."""
        return self.database_url is None

    @property
    def session_database_url(self) -> str | None:
        """Return the URL for what needs a connection for itself. ``None`` is the embedded server.

        It is ``database_listen_url`` where a pooler is in front of the server.
        """
        return self.database_listen_url or self.database_url

    @property
    def callback_urls(self) -> dict[str, str]:
        """Return the callback URL of each identity provider by its name.

        The operator registers it at the provider.
        """
        names = [provider.name for provider in self.oidc_providers]
        if self.google_client_id is not None:
            names.append("google")
        if self.github_client_id is not None:
            names.append("github")
        return {name: f"{self.public_url}/api/auth/oauth/{name}/callback" for name in names}

    @property
    def site(self) -> str:
        """Return the name of the service for people: the host of its URL."""
        return urlsplit(self.public_url).netloc

    @property
    def local_url(self) -> str:
        """Return the URL of the service for programs on the same machine, without a final slash."""
        return _url_on_this_machine(self.host, self.port)

    @property
    def metrics_url(self) -> str:
        """Return the URL of the metrics for programs on the same machine."""
        assert self.metrics_port is not None, "METRICS_PORT is not set"
        return f"{_url_on_this_machine(self.metrics_host, self.metrics_port)}/metrics"

    @property
    def public_url(self) -> str:
        """Return the URL at which clients reach the service, without a final slash.

        Without ``BASE_URL`` that is the URL on this machine. No request header changes it.
        """
        return self.base_url or self.local_url

    @property
    def audience(self) -> str:
        """Return the claim ``aud`` of access tokens that other services verify."""
        return self.token_audience or self.public_url

    @property
    def relying_party_id(self) -> str:
        """Return the domain of the passkeys, the RP ID of WebAuthn."""
        return self.passkey_rp_id or host_of(self.frontend_url or self.public_url)

    @classmethod
    def load(
        cls, environment: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
    ) -> "Settings":
        """Read the settings from ``environment`` (default: the process's own) and ``env_file``.

        ``environment`` takes precedence. Create and change no file. Raise ``SettingsError`` with
        one sentence for each invalid setting.
        """
        errors: list[str] = []
        given = _read(environment if environment is not None else os.environ, env_file, errors)
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = setting.name.upper()
            if name not in given:
                continue
            try:
                values[setting.name] = setting.metadata["parse"](given[name])
            except ValueError as error:
                errors.append(f"{name} {error}.")
        faulty = {error.partition(" ")[0] for error in errors}
        on_a_server = "DATABASE_URL" in given

        def lacks(name: str) -> bool:
            return name not in given and not faulty & {name, f"{name}_FILE"}

        errors.extend(missing_settings(given, values, lacks))
        if not on_a_server and "CORS_ORIGINS" not in faulty:
            values.setdefault("cors_origins", ("*",))
        if not on_a_server or values.get("realworld_strict"):
            values.setdefault("password_blocklist", "off")
        settings = cls(**values)
        if settings.metrics_port == settings.port:
            errors.append("METRICS_PORT must be another port than PORT.")
        if not errors and not _has_page_of_passkeys(settings):
            errors.append(
                "PASSKEY_RP_ID must be the domain of FRONTEND_URL, BASE_URL or an origin in "
                "CORS_ORIGINS, or a domain above it."
            )
        if errors:
            raise SettingsError(errors)
        return settings


def _url_on_this_machine(given: str, port: int) -> str:
    host = "localhost" if given in ("0.0.0.0", "::", "") else given  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _has_page_of_passkeys(settings: Settings) -> bool:
    """Return whether the RP ID is the domain of a page that may use passkeys, or above it."""
    urls = (settings.frontend_url or "", settings.public_url, *settings.cors_origins)
    return "*" in urls or any(is_within(host_of(url), settings.relying_party_id) for url in urls)


def _read(
    environment: Mapping[str, str], env_file: Path | None, errors: list[str]
) -> dict[str, str]:
    """Return the given settings by variable name. An empty value counts as not given.

    Append a sentence to ``errors`` for each ``NAME_FILE`` that cannot be read. Raise
    ``SettingsError`` when ``env_file`` cannot be read.
    """
    merged: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        try:
            read = dotenv_values(env_file, interpolate=False, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError([f"{env_file} cannot be read: {error}."]) from error
        merged = {name: value for name, value in read.items() if value is not None}
    merged.update(environment)
    given = {}
    for setting in fields(Settings):
        name = setting.name.upper()
        if path := merged.get(f"{name}_FILE"):
            try:
                given[name] = read_text(Path(path))
            except ValueError as error:
                errors.append(f"{name}_FILE names {path}, which cannot be read: {error}.")
        elif value := merged.get(name, "").strip():
            given[name] = value
    return given


def files_of_settings(
    environment: Mapping[str, str] | None = None, env_file: Path = Path(".env")
) -> dict[str, Path]:
    """Return the files that settings come from, by variable name: ``env_file`` or ``NAME_FILE``.

    A setting of the environment itself comes from no file.
    """
    environment = environment if environment is not None else os.environ
    in_file = dotenv_values(env_file, interpolate=False) if env_file.is_file() else {}
    found: dict[str, Path] = {}
    for setting in fields(Settings):
        name = setting.name.upper()
        if path := environment.get(f"{name}_FILE") or in_file.get(f"{name}_FILE"):
            found[name] = Path(path)
        elif in_file.get(name) and not environment.get(name):
            found[name] = env_file
    return found


def read_text(path: Path) -> str:
    """Return the text of a file. Raise ``ValueError`` with the reason when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
