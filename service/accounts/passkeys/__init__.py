"""Passkeys (WebAuthn): register them, and log in with them."""
