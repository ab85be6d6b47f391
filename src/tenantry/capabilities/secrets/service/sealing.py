"""What a value is sealed for."""

from uuid import UUID

_VERSION_BYTES = 8


def place_of(*, tenant_id: UUID, workspace_id: UUID, secret_id: UUID, version: int) -> bytes:
    """Name the one row whose value it is: in any other it does not open. All parts have fixed lengths."""
    row = tenant_id.bytes + workspace_id.bytes + secret_id.bytes
    return b"secret/" + row + version.to_bytes(_VERSION_BYTES, "big")
