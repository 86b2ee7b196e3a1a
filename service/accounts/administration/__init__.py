"""What administrators do to accounts: the functions of ``run.py`` and of the HTTP API."""
