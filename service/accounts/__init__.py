"""User accounts: registration, login, passwords and access tokens."""
