"""What a program proves itself by instead of an API key."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tenantry.client.errors import CredentialsError

_KEY_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """PEM files of the certificate and its key, and the workspace whose service account it is registered to."""

    certificate: Path
    key: Path
    workspace: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`keyid` as the server has shown it at the registration; the private half (32 bytes) never shows in `repr`."""

    keyid: str
    private_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.private_key) != _KEY_LENGTH:
            raise CredentialsError("signing_key_malformed", "the private half of an Ed25519 key is 32 bytes")


Proof = ClientCertificate | SigningKey
