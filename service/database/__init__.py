"""The connection pool, the migrations and the listener for changes."""
