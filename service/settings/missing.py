"""Find the settings that other settings need."""

from collections.abc import Callable, Mapping
from typing import Any

LOWEST_PRODUCTION_COST = 10  # OWASP Password Storage Cheat Sheet: bcrypt with a cost of 10 or more.


def missing_settings(
    given: Mapping[str, str], values: Mapping[str, Any], lacks: Callable[[str], bool]
) -> list[str]:
    """Return one sentence for each setting that is missing, or too low, beside the others.

    ``given`` has the texts by variable name, and ``values`` the parsed values by attribute name.
    ``lacks`` returns whether a setting was not given and has no other error.
    """
    errors: list[str] = []
    on_a_server = "DATABASE_URL" in given
    if on_a_server and lacks("JWT_SECRET"):
        errors.append(
            "JWT_SECRET is missing: set it to at least 32 random bytes; "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one."
        )
    if "DATABASE_LISTEN_URL" in given and lacks("DATABASE_URL"):
        errors.append(
            "DATABASE_URL is missing: DATABASE_LISTEN_URL is only for a pooler, and DATABASE_URL "
            "leads through it."
        )
    if on_a_server and values.get("require_two_factor") and lacks("ENCRYPTION_KEYS"):
        errors.append(
            "ENCRYPTION_KEYS is missing: without a key no account could set up the second "
            "factor that REQUIRE_TWO_FACTOR demands."
        )
    if on_a_server and values.get("token_algorithm", "HS256") != "HS256":
        if lacks("ENCRYPTION_KEYS"):
            errors.append(
                "ENCRYPTION_KEYS is missing: TOKEN_ALGORITHM needs it to encrypt the private keys."
            )
        if lacks("BASE_URL"):
            errors.append(
                "BASE_URL is missing: tokens with TOKEN_ALGORITHM name the URL of this service, "
                "such as https://accounts.example.org."
            )
    if on_a_server and values.get("bcrypt_cost", 12) < LOWEST_PRODUCTION_COST:
        errors.append(
            f"BCRYPT_COST must be at least {LOWEST_PRODUCTION_COST}; "
            "less is only for the embedded database."
        )
    if "SMTP_URL" in given and lacks("MAIL_FROM"):
        errors.append(
            "MAIL_FROM is missing: SMTP_URL needs a sender, "
            "such as Accounts <accounts@example.org>."
        )
    if "SMTP_URL" in given and lacks("BASE_URL"):
        errors.append(
            "BASE_URL is missing: the links in mails need the URL of this service, "
            "such as https://accounts.example.org."
        )
    for name in ("GOOGLE", "GITHUB"):
        pair = (f"{name}_CLIENT_ID", f"{name}_CLIENT_SECRET")
        errors.extend(
            f"{missing} is missing: {pair[0]} and {pair[1]} go together."
            for missing, present in (pair, pair[::-1])
            if present in given and lacks(missing)
        )
    providers = {"GOOGLE_CLIENT_ID", "GITHUB_CLIENT_ID", "OIDC_PROVIDERS"} & given.keys()
    if on_a_server and providers and lacks("BASE_URL"):
        errors.append(
            "BASE_URL is missing: identity providers redirect to the URL of this service, "
            "such as https://accounts.example.org."
        )
    return errors
