"""Translations of a transport to a capability call."""
