"""What an archive holds.

Its members, in this order:

    rows/<table>.<number>.jsonl   each line a row: its columns in the order of the manifest, as PostgreSQL writes them
    objects/<key>                 as stored: sealed
    images/<digest>.tar           the root of an image
    keys/keyset.json              the tenant's keys, under a key that only GET …/exports/{export} tells
    manifest.json                 the last one: every other member with size and digest, every table with its sum
"""

import base64
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tenantry.capabilities.tenants.errors import export_key_wrong
from tenantry.capabilities.tenants.types import SLUG_PATTERN

FORMAT: Final = "tenantry-export/1"
MANIFEST: Final = "manifest.json"
KEYS: Final = "keys/keyset.json"
PURGES: Final = "queue.purges"
"""The one table of the queue that goes along: what is to be forgotten, and when."""
LEFT_OUT: Final = {
    "api_keys": "their verifiers are this installation's; the owner gets a new key, and makes others",
    "certificates": "the platform's own",
    "idempotency_records": "they answer requests that were made here",
    "keysets": f"they are in {KEYS}, under the export's own key",
    "outbox": "news that are delivered here",
    "queue.entries": "what waits or runs goes on here; at its new place it is cancelled",
    "queue.shares": "its limits say them again at its new place",
    "exports": "former exports",
    "files of running sandboxes": "they are in it as they were kept last; at their next stop or snapshot they are kept",
    "caches": "they fill anew",
}
"""What of a tenant stays behind, and why."""
_SEGMENT: Final = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]{1,128}"
MEMBER: Final = re.compile(
    rf"rows/[a-z_.]{{1,63}}\.\d{{6}}\.jsonl|objects/{_SEGMENT}(?:/{_SEGMENT})*|images/[0-9a-f]{{64}}\.tar|"
    rf"{re.escape(KEYS)}"
)
"""What a member beside the manifest may be called."""
_KEY_BYTES: Final = 32
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=0)]
_Text = Annotated[str, Field(max_length=200)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ManifestMember(_Form):
    name: Annotated[str, Field(max_length=600)]
    size_bytes: _Size
    sha256: _Digest
    about: dict[str, Any] = {}


class ManifestTable(_Form):
    """`sum` is what `transfer.TenantRows.digest` makes of the rows by these columns."""

    name: _Text
    columns: Annotated[tuple[_Text, ...], Field(strict=False, min_length=1, max_length=500)]
    rows: _Size
    sum: _Text


class LeftOut(_Form):
    what: _Text
    why: Annotated[str, Field(max_length=500)]


class Manifest(_Form):
    format: Literal["tenantry-export/1"]
    operation: _Text
    tenant: _Text
    slug: Annotated[str, Field(pattern=SLUG_PATTERN)]
    region: _Text
    isolation: Literal["row_level", "schema_level", "database_level"]
    revision: _Text
    created_at: _Text
    tables: Annotated[tuple[ManifestTable, ...], Field(strict=False, max_length=500)]
    left_out: Annotated[tuple[LeftOut, ...], Field(strict=False, max_length=100)]
    members: Annotated[tuple[ManifestMember, ...], Field(strict=False)]


def write_key(key: bytes) -> str:
    """Write an export's key as people pass it on."""
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def read_key(text: str) -> bytes:
    """Read it again; raises Invalid `export_key_wrong` for anything else."""
    try:
        key = base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise export_key_wrong() from None
    if len(key) != _KEY_BYTES:
        raise export_key_wrong()
    return key
