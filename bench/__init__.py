"""Benchmarks of the service, relative to the limits of the machine that runs them."""
