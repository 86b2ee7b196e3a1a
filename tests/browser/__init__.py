"""Tests of the pages in Chromium, against a real process of the service."""
