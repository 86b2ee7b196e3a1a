"""Access tokens of each ``TOKEN_ALGORITHM``: signed, and verified for the first time."""

import time
from functools import partial
from uuid import UUID, uuid4

from bench.table import Report, Row
from bench.tokens import SECRET, in_turn
from service.accounts.sessions.access_tokens import AccessTokens
from service.accounts.sessions.asymmetric_tokens import create_tokens
from service.accounts.sessions.signing_keys import KeyRing, SigningKey, make_private_key
from service.settings.settings import Settings

COUNT = 2000  # Tokens for one slice.


def measure(report: Report) -> list[Row]:
    """Measure every algorithm and return the rows of the table. Takes ten seconds."""
    report(f"Signing and verifying {COUNT:,} tokens of three algorithms ...")
    signers = [_signer(algorithm) for algorithm in ("HS256", "ES256", "EdDSA")]
    user, session, end = UUID(int=1), UUID(int=2), time.time() + 1000
    tokens = [[signer.issue(user, session, end).token for _ in range(COUNT)] for signer in signers]

    def sign(signer: AccessTokens) -> None:
        for _ in range(COUNT):
            signer.issue(user, session, end)

    def verify(number: int) -> None:
        for token in tokens[number]:
            signers[number].verify(token)

    signed = in_turn([partial(sign, signer) for signer in signers], COUNT)
    verified = in_turn([partial(verify, number) for number in range(3)], COUNT)
    return [
        Row("sign one token", *(f"{figure:.1f} µs" for figure in signed)),
        Row("verify one token", *(f"{figure:.1f} µs" for figure in verified)),
    ]


def _signer(algorithm: str) -> AccessTokens:
    ring = KeyRing()
    if algorithm != "HS256":
        private = make_private_key(algorithm)
        public = private.public_key()
        ring.replace([SigningKey(str(uuid4()), algorithm, public, private, time.monotonic())])
    return create_tokens(Settings(token_algorithm=algorithm), SECRET, ring)
