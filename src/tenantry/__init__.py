"""Tenantry: a fenced place for every organisation, team and agent on one installation."""

__version__ = "0.1.0"
