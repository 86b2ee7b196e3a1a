"""The settings: read and checked once, then frozen."""
