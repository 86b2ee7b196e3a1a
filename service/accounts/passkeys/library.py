"""Load the WebAuthn library at the first use of a passkey.

It brings the parsers of every attestation format: 50 ms of the start and 6 MB of each process.
"""

import asyncio
import sys
from importlib import import_module


async def load_library() -> None:
    """Import the library in a thread, so that it does not block the event loop."""
    if "webauthn.helpers.structs" not in sys.modules:
        await asyncio.to_thread(import_module, "webauthn")
