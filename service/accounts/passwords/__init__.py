"""Passwords: hashing, and the queue in front of it."""
