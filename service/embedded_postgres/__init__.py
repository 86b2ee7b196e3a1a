"""A PostgreSQL server of the service's own. Imports nothing of ours."""
