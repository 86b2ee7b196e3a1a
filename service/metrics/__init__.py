"""Metrics for Prometheus: values in shared memory, and the port that serves them."""
