"""The face of secrets: written and listed by their owners, given to work."""

from tenantry.capabilities.secrets.service.giving import find_reference, open_secrets
from tenantry.capabilities.secrets.service.secrets import SecretService

__all__ = ["SecretService", "find_reference", "open_secrets"]
