"""Measures the service against what it could at best be, on the machine it runs on."""
