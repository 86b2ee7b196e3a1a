"""The connection pool, the migrations and the change listener."""
