"""The settings: read once from the environment and ``.env``, checked together, then frozen.

This is the one file that reads the environment. Every name may also be given as ``NAME_FILE``, the
path of a file that holds the value, as secret stores mount them.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from service.settings import parsers as kind
from service.settings.rate_limit import Limit, parse_limit, parse_login_limits

DATA_DIR = Path(".data")
LOWEST_PRODUCTION_COST = 10  # OWASP Password Storage Cheat Sheet: bcrypt with a cost of 10 or more.


class SettingsError(Exception):
    """What is wrong with the settings.

    ``sentences`` holds one sentence for each faulty setting: all of them, so that one start shows
    everything there is to mend.
    """

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def _setting(parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an operator can set; the attribute's name in capitals is the variable's.

    ``Settings.load`` reads and checks them. Tests build the class directly.
    """

    host: str = _setting(kind.text, "0.0.0.0")  # noqa: S104
    """Address to listen on."""

    port: int = _setting(kind.whole_number(1, 65535), 3000)
    """TCP port to listen on."""

    web_concurrency: int = _setting(kind.whole_number(1, 256), 1)
    """How many processes serve requests."""

    shutdown_timeout: int = _setting(kind.whole_number(0, 3600), 20)
    """Seconds that running requests may take to finish after SIGTERM."""

    database_url: str | None = _setting(kind.database_url, None)
    """The PostgreSQL (15 or newer) to use; ``None`` starts the embedded server."""

    database_pool_size: int = _setting(kind.whole_number(1, 1000), 16)
    """Most connections to PostgreSQL of one process, besides the two that hear of changes."""

    data_dir: Path = _setting(kind.path, DATA_DIR)
    """Folder of the embedded server and of the secrets made for it."""

    jwt_secret: str = _setting(kind.secret, "")
    """Signs access tokens; at least 32 bytes. Made by itself only for the embedded server."""

    jwt_previous_secrets: tuple[str, ...] = _setting(kind.list_of(kind.secret), ())
    """Secrets that no longer sign but are still believed, so that a change signs nobody out."""

    access_token_ttl: int = _setting(kind.whole_number(1, 31_536_000), 86_400)
    """Seconds that an access token is valid."""

    refresh_token_ttl: int = _setting(kind.whole_number(1, 31_536_000), 604_800)
    """Seconds that a refresh token is valid, unused."""

    refresh_grace: int = _setting(kind.whole_number(0, 3600), 30)
    """Seconds after its use that a refresh token is still accepted: two tabs, a lost response."""

    session_ttl: int = _setting(kind.whole_number(1, 315_360_000), 2_592_000)
    """Seconds after its login that a session ends, however much it is used."""

    session_limit: int = _setting(kind.whole_number(0, 100_000), 0)
    """Most open sessions of one user; 0 is no limit."""

    session_limit_policy: str = _setting(kind.one_of("evict-oldest", "deny"), "evict-oldest")
    """What a login over the limit does: end the one not used for longest, or fail with 403."""

    event_ttl: int = _setting(kind.whole_number(1, 315_360_000), 7_776_000)
    """Seconds that the security log goes back."""

    bcrypt_cost: int = _setting(kind.whole_number(4, 16), 12)
    """Work factor of new password hashes: each step doubles the time of a hash."""

    password_queue_size: int = _setting(kind.whole_number(0, 100_000), 128)
    """Logins that may wait for a worker in one process, and as many other hashes; past it, 503."""

    max_body_size: int = _setting(kind.whole_number(1024, 1_073_741_824), 1_048_576)
    """Largest request body in bytes; past it, 413."""

    trusted_proxies: int = _setting(kind.whole_number(0, 32), 0)
    """Proxies in front whose entry in ``X-Forwarded-For`` is believed; 0 believes none."""

    login_limits: tuple[Limit, Limit, Limit] = _setting(
        parse_login_limits, (Limit(5, 900), Limit(50, 900), Limit(50, 3600))
    )
    """Failed logins: of an account from one address, from an address, of an account."""

    known_address_ttl: int = _setting(kind.whole_number(0, 315_360_000), 2_592_000)
    """Seconds that an address stays known, from which the limit of an account does not hold."""

    lockout_mail_interval: int = _setting(kind.whole_number(0, 31_536_000), 3600)
    """Least seconds between two mails that tell an owner of refused logins; 0 sends none."""

    registration_limit: Limit = _setting(parse_limit, Limit(10_000, 3600))
    """Registrations, and changes of name or email, from one address."""

    conflict_limit: Limit = _setting(parse_limit, Limit(500, 3600))
    """Responses to one IP address that an email or username is taken."""

    refresh_limit: Limit = _setting(parse_limit, Limit(100_000, 3600))
    """Refreshed sessions from one address."""

    password_change_limit: Limit = _setting(parse_limit, Limit(100, 3600))
    """Password changes of one user."""

    smtp_url: str | None = _setting(kind.smtp_url, None)
    """The mail server; ``None`` prints mails to the log."""

    mail_from: str = _setting(kind.mailbox, "")
    """Whom mails are from; must be set with ``SMTP_URL``."""

    realworld_strict: bool = _setting(kind.flag, False)
    """Answer exactly as RealWorld 2.0.0: 422 for invalid input, 201 for a registration."""

    user_cache_size: int = _setting(kind.whole_number(0, 10_000_000), 100_000)
    """Users and sessions that a process remembers, so as not to ask for them; 0 is off."""

    user_cache_staleness: int = _setting(kind.whole_number(1, 60), 2)
    """Seconds within which the loss of the connection that hears of changes is noticed."""

    cors_origins: tuple[str, ...] = _setting(kind.list_of(kind.origin), ())
    """Origins whose web pages may call the service; ``*`` is all, and the embedded default."""

    @property
    def embedded(self) -> bool:
        """Whether the service runs on a PostgreSQL of its own."""
        return self.database_url is None

    @classmethod
    def load(
        cls, environment: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
    ) -> "Settings":
        """Read the settings from ``environment`` (default: the process's own) over ``env_file``.

        Raises ``SettingsError`` with one sentence for every faulty setting.
        """
        sentences: list[str] = []
        given = _read(environment if environment is not None else os.environ, env_file, sentences)
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = setting.name.upper()
            if name not in given:
                continue
            try:
                values[setting.name] = setting.metadata["parse"](given[name])
            except ValueError as error:
                sentences.append(f"{name} {error}.")
        faulty = {sentence.partition(" ")[0] for sentence in sentences}
        on_a_server = "DATABASE_URL" in given

        def lacks(name: str) -> bool:
            return name not in given and not faulty & {name, f"{name}_FILE"}

        if on_a_server and lacks("JWT_SECRET"):
            sentences.append(
                "JWT_SECRET is missing: set it to at least 32 random bytes; "
                "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one."
            )
        if on_a_server and values.get("bcrypt_cost", 12) < LOWEST_PRODUCTION_COST:
            sentences.append(
                f"BCRYPT_COST must be at least {LOWEST_PRODUCTION_COST}; "
                "less is only for the embedded database."
            )
        if "SMTP_URL" in given and lacks("MAIL_FROM"):
            sentences.append(
                "MAIL_FROM is missing: SMTP_URL needs an address that mails are from, "
                "such as Accounts <accounts@example.org>."
            )
        if sentences:
            raise SettingsError(sentences)
        if not on_a_server:
            values.setdefault("cors_origins", ("*",))
        if "jwt_secret" not in values:
            values["jwt_secret"] = _kept_secret(values.get("data_dir", DATA_DIR))
        return cls(**values)


def _read(
    environment: Mapping[str, str], env_file: Path | None, sentences: list[str]
) -> dict[str, str]:
    """The settings given, by variable name. An empty value counts as not given."""
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
                given[name] = _text_of(Path(path))
            except ValueError as error:
                sentences.append(f"{name}_FILE names {path}, which cannot be read: {error}.")
        elif value := merged.get(name, "").strip():
            given[name] = value
    return given


def _text_of(path: Path) -> str:
    """Read a file. Raises ``ValueError`` with the reason when that is impossible."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error


def _kept_secret(data_dir: Path) -> str:
    """The secret kept beside the embedded data, made at the first start, readable by its owner."""
    path = data_dir / "jwt_secret"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Written whole under another name and linked: a crash leaves no half secret, and of two
        # processes that start together both read the one that was first.
        draft = data_dir / f".jwt_secret.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        sentence = f"DATA_DIR {data_dir} cannot be used: {error.strerror}."
        raise SettingsError([sentence]) from error
    try:
        secret = _text_of(path)
    except ValueError as error:
        raise SettingsError([f"{path} cannot be read: {error}."]) from error
    try:
        return kind.secret(secret)
    except ValueError as error:
        raise SettingsError([f"The secret in {path} {error}."]) from error
