"""A private PostgreSQL server. This package imports no other package of the service."""
