"""The connection pool, the migrations and the embedded server."""
