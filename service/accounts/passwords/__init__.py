"""Password hashing, and the bounded queue in front of it."""
