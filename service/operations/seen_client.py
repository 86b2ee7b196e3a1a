"""``GET /health/client``: report which client the service sees, for ``run.py doctor``.

Proxies in front change what arrives. Only a program that has the ``JWT_SECRET`` of the service gets
a response: it contains the IP addresses of the proxies.
"""

import hashlib
import hmac
import time

from aiohttp import hdrs, web

from service.http.app_keys import SETTINGS
from service.http.auth import invalid_key, read_key
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import InvalidKey
from service.http.openapi.schemas import array_of, nullable, object_of, string
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

PATH = "/health/client"
LIFETIME = 60  # Seconds before and after its time that a proof is valid.
MAX_ENTRIES = 64  # Of ``X-Forwarded-For``, the last ones.
MAX_ENTRY = 64  # Characters.

clock = time.time

routes = RouteTableDef(tag="Operations")

_IP = string(example="192.0.2.10")


def make_proof(secret: str) -> str:
    """Return a proof that its sender has ``secret``. Only this route accepts it, and not for long.

    The signed text is none of an access token, which contains no colon.
    """
    now = str(int(clock()))
    return f"{now}.{_sign(secret, now)}"


def is_proof(text: str, secret: str) -> bool:
    """Return whether ``text`` is a proof of ``secret`` that is valid now."""
    time_text, _, signature = text.partition(".")
    is_time = time_text.isascii() and time_text.isdigit() and len(time_text) < 12
    return (
        hmac.compare_digest(signature.encode(), _sign(secret, time_text).encode())
        and is_time
        and abs(int(time_text) - clock()) <= LIFETIME
    )


def _sign(secret: str, time_text: str) -> str:
    text = f"doctor:{time_text}".encode()
    return hmac.new(secret.encode("utf-8", "surrogateescape"), text, hashlib.sha256).hexdigest()


@routes.get(
    PATH,
    operation_id="GetSeenClient",
    auth=Auth.NONE,
    responses={200: object_of(ip=nullable(_IP), peer=nullable(_IP), forwarded_for=array_of(_IP))},
    errors=[InvalidKey("is missing", code=ErrorCode.KEY_MISSING), invalid_key()],
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the client that the service sees.

    For `run.py doctor`, which proves by `Authorization: Bearer` that it has the `JWT_SECRET`.
    `ip` is the IP address that limits apply to, `peer` that of the socket, and `forwarded_for` has
    the entries of `X-Forwarded-For` as they arrived.
    """
    secret = request.app[SETTINGS].jwt_secret
    if secret is None or not is_proof(read_key(request), secret):
        raise invalid_key()
    entries = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
    return json_response(
        {
            "ip": client_of(request).ip,
            "peer": request.remote,
            "forwarded_for": [
                entry.strip().encode(errors="replace").decode()[:MAX_ENTRY]
                for entry in entries[-MAX_ENTRIES:]
                if entry.strip()
            ],
        }
    )
