"""What administrators see of a user, as JSON Schemas for the OpenAPI document."""

from service.http.openapi.schemas import (
    TIME,
    Named,
    array_of,
    boolean,
    integer,
    nullable,
    object_of,
    string,
)

ID = string(example="5c7e1a34-2f0b-4c1e-8d7a-9b6f3e2d1c00", form="uuid")
SESSION_ID = string(example="0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11", form="uuid")
EMAIL = string(example="jake@jake.jake", form="email")
CURSOR = string(example="1456197600000000.5c7e1a34-2f0b-4c1e-8d7a-9b6f3e2d1c00")
ROLES = array_of(string(example="editor"))

_SUMMARY = {
    "id": ID,
    "username": string(example="jake"),
    "email": EMAIL,
    "email_verified_at": nullable(TIME),
    "created_at": TIME,
    "locked_at": nullable(TIME),
    "two_factor_since": nullable(TIME),
    "roles": ROLES,
}
USER_SUMMARY = Named("AdministratedUserSummary", object_of(**_SUMMARY))

SESSION = Named(
    "AdministratedSession",
    object_of(
        id=SESSION_ID,
        created_at=TIME,
        last_used_at=TIME,
        expires_at=TIME,
        ip=nullable(string(example="192.0.2.7")),
        user_agent=nullable(string(example="Mozilla/5.0")),
        device_name=nullable(string(example="Firefox on Linux")),
    ),
)
_PASSKEY = object_of(
    id=string(example="5c0d2c9e-91b5-4c0e-a6a1-0f5b5b0f7f0d", form="uuid"),
    name=string(example="Google Password Manager"),
    created_at=TIME,
    last_used_at=nullable(TIME),
)
_IDENTITY = object_of(
    id=string(example="8d2f1b3a-7c4e-4a5f-9e6d-1a2b3c4d5e6f", form="uuid"),
    issuer=string(example="https://accounts.google.com"),
    subject=string(example="110169484474386276334"),
    email=nullable(string(example="jake@example.org")),
    created_at=TIME,
    last_used_at=TIME,
)
USER = Named(
    "AdministratedUser",
    object_of(
        **_SUMMARY,
        updated_at=TIME,
        recovery_codes_left=integer(example=10, lowest=0),
        failed_logins_in_a_row=integer(example=0, lowest=0),
        is_login_locked=boolean(example=False),
        sign_in_methods=object_of(
            password=boolean(example=True),
            passkeys=array_of(_PASSKEY),
            identities=array_of(_IDENTITY),
        ),
        sessions=array_of(SESSION),
    ),
)
