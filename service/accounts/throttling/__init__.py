"""Rate limits on attempts, counted in PostgreSQL."""
