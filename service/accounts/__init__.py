"""User accounts: registration, login, passwords, sessions and throttling."""
