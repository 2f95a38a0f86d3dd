"""Credentials as Secrets."""
