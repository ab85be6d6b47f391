"""Settings of notices to channels and persons."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tenantry.foundation.limit_settings import Frozen


def _smtp_url(url: SecretStr | None) -> SecretStr | None:
    """Refuse what no mail could be handed to; the address is not repeated, as it may hold a password."""
    if url is None:
        return None
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.fragment or parts.query not in ("", "tls=none"):
        raise ValueError("must be smtp://[user:password@]host[:port] or smtps://…, with ?tls=none at most")
    return url


class NotificationSettings(Frozen):
    """Notices to channels and persons."""

    smtp_url: Annotated[SecretStr | None, AfterValidator(_smtp_url)] = None
    """`smtps://user:password@host`, or `smtp://` with STARTTLS; `?tls=none` goes without. None: no e-mail is sent."""
    sender: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")] = None
    """Address that e-mail comes from; required with `smtp_url`."""
    allow_private_addresses: bool = False
    """Let tenants' channels lead to private and local addresses: where all tenants may reach the server's networks."""
    keep_days: int = Field(default=30, ge=1, le=3650)
    """How long ended deliveries can be listed."""

    @model_validator(mode="after")
    def _email_has_a_sender(self) -> Self:
        if self.smtp_url is not None and self.sender is None:
            raise ValueError("sender is required with smtp_url")
        return self
