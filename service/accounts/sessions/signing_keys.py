"""The keys that sign access tokens with ES256 or EdDSA (``TOKEN_ALGORITHM``).

They are in PostgreSQL, the private keys encrypted with ``ENCRYPTION_KEYS``. Every process keeps all
of them in a ``KeyRing``. A trigger notifies on a change, and every process then reads them again.
The newest key whose time has come signs. All of them verify. A new key is published before it
signs, so that other services know it when they meet the first of its tokens.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

import sql
from service.accounts.encryption import DecryptionError, Encryption
from service.accounts.sessions.access_tokens import ALGORITHM as HS256
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.http.error_codes import ErrorCode
from service.http.errors import Unavailable
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

PURPOSE = "signing key"
KEYS_CHANGED = "keys:"
"""The payload of the notification."""
PUBLISH_SECONDS = 600
"""The time between the publication of a key and its first token.

It is longer than the time for which other services may cache the published keys.
"""
POLL_INTERVAL = 60.0  # Seconds. In case a notification was lost.
MIN_RELOAD_INTERVAL = 1.0  # Seconds between two reads that tokens with unknown keys cause.

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, for one algorithm only."""

    id: str
    """The ``kid`` in the header of a token."""
    algorithm: str
    public: PublicKey
    private: PrivateKey | None
    """``None`` if no key of ``ENCRYPTION_KEYS`` decrypts it."""
    signs_from: float
    """A time on ``time.monotonic``."""

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key for other services (RFC 7517)."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        jwk: dict[str, Any] = algorithm.to_jwk(self.public, as_dict=True)
        return {**jwk, "use": "sig", "alg": self.algorithm, "kid": self.id}


class KeyRing:
    """The keys as this process has read them."""

    def __init__(self) -> None:
        self.keys: Mapping[str, SigningKey] = {}
        self._signing: tuple[SigningKey, ...] = ()

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Use only ``keys`` from now on. The one that signs last comes first."""
        self.keys = {key.id: key for key in keys}
        self._signing = tuple(key for key in self.keys.values() if key.private is not None)

    @property
    def can_sign(self) -> bool:
        """Whether there is a key that signs."""
        return bool(self._signing)

    def current(self) -> SigningKey:
        """Return the key that signs now. Raise ``Unavailable`` if this process has none."""
        now = time.monotonic()
        for key in self._signing:
            if key.signs_from <= now:
                return key
        if self._signing:
            return self._signing[-1]
        raise Unavailable(
            "token", "cannot be signed", code=ErrorCode.DATABASE_UNAVAILABLE, retry_after=2
        )


class SigningKeys:
    """Keep the ``KeyRing`` of this process current."""

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        ring: KeyRing,
        on_removal: Callable[[], None],
        settings: Settings,
    ) -> None:
        """Call ``on_removal`` when a key was removed: a token that it verified is invalid."""
        self._database = database
        self._encryption = encryption
        self.ring = ring
        self._on_removal = on_removal
        self._algorithm = settings.token_algorithm
        # Without the cache there is no listener, and no notification arrives.
        is_notified = settings.user_cache_size > 0
        self._poll_interval = POLL_INTERVAL if is_notified else settings.user_cache_staleness
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Add a key if this service needs one, and read the keys whenever they may have changed."""
        if self._algorithm != HS256:
            with contextlib.suppress(DatabaseUnavailable):
                await self._add_and_load()
        self._task = asyncio.create_task(self._keep_current())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Read the keys again soon: a notification arrived, or one may have been lost."""
        self._wake.set()

    async def load(self, min_interval: float = 0.0) -> None:
        """Read the keys, unless they were read less than ``min_interval`` seconds ago.

        Raise ``DatabaseUnavailable``.
        """
        # One at a time: an older result must not replace a newer one, and revive a removed key.
        async with self._lock:
            now = time.monotonic()
            if now - self._read_at < min_interval:
                return
            rows = await sql.signing_keys.list(self._database)
            self._read_at = now
            before = self.ring.keys
            self.ring.replace([before.get(str(row["id"])) or self._parse(row, now) for row in rows])
            if before.keys() - self.ring.keys.keys():
                self._on_removal()

    async def load_once(self) -> None:
        """Read the keys if this process has not read them yet. Raise ``DatabaseUnavailable``."""
        if self._read_at == float("-inf"):
            await self.load(MIN_RELOAD_INTERVAL)

    async def learn(self) -> None:
        """Read the keys for a token whose key is unknown, at most once a second.

        Another process may have added the key a moment ago. Raise ``DatabaseUnavailable``.
        """
        await self.load(MIN_RELOAD_INTERVAL)

    async def _keep_current(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.load()
                if self._algorithm != HS256 and not self.ring.can_sign:
                    await self._add_and_load()
            except DatabaseUnavailable:
                pass  # The pool has logged it, and the listener calls `wake` when it is back.
            except Exception:
                logger.exception("signing keys not read")

    async def _add_and_load(self) -> None:
        await ensure_key(self._database, self._encryption, self._algorithm)
        await self.load()

    def _parse(self, row: Any, now: float) -> SigningKey:
        public = load_der_public_key(row["public_key"])
        assert isinstance(public, PublicKey), "insert_key stores only these"
        private = None
        try:
            private = decrypt(self._encryption, row["private_key"], row["id"])
        except DecryptionError as error:
            logger.error("signing key cannot be read: kid=%s error=%s", row["id"], error)
        signs_from = now + row["signs_in"]
        return SigningKey(str(row["id"]), row["algorithm"], public, private, signs_from)


def decrypt(encryption: Encryption, ciphertext: bytes, key_id: UUID) -> PrivateKey:
    """Return a private key. Raise ``DecryptionError``."""
    plain = encryption.decrypt(ciphertext, purpose=PURPOSE, owner_id=key_id)
    private = load_der_private_key(plain, password=None)
    assert isinstance(private, PrivateKey), "insert_key stores only these"
    return private


async def ensure_key(database: Database, encryption: Encryption, algorithm: str) -> None:
    """Add a key unless the newest one is of this ``algorithm`` and this service can sign with it.

    Raise ``DatabaseUnavailable``.
    """

    async def add(connection: sql.Connection) -> None:
        # The processes of a service start together. Only the first one adds a key.
        await sql.signing_keys.lock(connection)
        if not await _is_ready(connection, encryption, algorithm):
            await insert_key(connection, encryption, algorithm)

    if not await _is_ready(database, encryption, algorithm):
        await database.transact(add)


async def _is_ready(db: Database | sql.Connection, encryption: Encryption, algorithm: str) -> bool:
    rows = await sql.signing_keys.list(db)
    if not rows or rows[0]["algorithm"] != algorithm:
        return False
    try:
        decrypt(encryption, rows[0]["private_key"], rows[0]["id"])
    except DecryptionError:
        return False
    return True


def make_private_key(algorithm: str) -> PrivateKey:
    """Return a new key for ``ES256`` or ``EdDSA``."""
    return (
        generate_private_key(SECP256R1()) if algorithm == "ES256" else Ed25519PrivateKey.generate()
    )


async def insert_key(
    connection: sql.Connection, encryption: Encryption, algorithm: str
) -> tuple[UUID, int]:
    """Add a key. Return its id, and the seconds until it signs: 0 if there is no other key.

    Call ``signing_keys.lock`` in an earlier statement. Raise ``NoEncryptionKey``.
    """
    key_id = uuid4()
    private = make_private_key(algorithm)
    delay = PUBLISH_SECONDS if await sql.signing_keys.list(connection) else 0
    plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    await sql.signing_keys.insert(
        connection,
        id=key_id,
        algorithm=algorithm,
        public_key=private.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        private_key=encryption.encrypt(plain, purpose=PURPOSE, owner_id=key_id),
        delay=delay,
    )
    return key_id, delay


SIGNING_KEYS = web.AppKey("signing_keys", SigningKeys)
