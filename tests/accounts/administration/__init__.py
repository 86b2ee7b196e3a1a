"""Tests of service/accounts/administration/."""
