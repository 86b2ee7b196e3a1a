"""Provide routes, errors, authentication, validation and request logs for all resources."""
