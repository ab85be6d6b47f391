"""Archives that are being imported: on this machine, from their arrival until the import has ended."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from tenantry.capabilities.tenants.types import BootstrapKey, Operation
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.errors import Invalid, Unavailable
from tenantry.foundation.files import replace_file

_FOLDER: Final = "imports"


@dataclass(frozen=True, slots=True, repr=False)
class ImportRequest:
    """What was asked for with the archive; `owner_key` is shown to who asks, and opens nothing until the end."""

    slug: str
    export_key: bytes
    owner_key: BootstrapKey


class ImportFiles:
    """`<home>/<region>/imports/<operation>.tar`, and beside it what was asked for, its secrets wrapped."""

    def __init__(self, home: Path, *, wrapper: KeyWrapper, limit: int) -> None:
        self._home = home
        self._wrapper = wrapper
        self._limit = limit

    def archive(self, operation_id: UUID, *, region: str) -> Path:
        return self._home / region / _FOLDER / f"{operation_id.hex}.tar"

    def require_archive(self, operation: Operation) -> Path:
        """Tell where it is; raises Unavailable `archive_elsewhere` on a machine that has it not."""
        path = self.archive(operation.operation_id, region=operation.target.region)
        if not path.is_file():
            raise Unavailable(
                "archive_elsewhere", "the archive lies on the machine that took it: its server goes on", layer="tenants"
            )
        return path

    async def receive(self, content: AsyncIterator[bytes], operation_id: UUID, *, region: str) -> Path:
        """Write an archive as it comes; raises Invalid `body_too_large`, and then nothing is kept."""
        path, size = self.archive(operation_id, region=region), 0
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            with await asyncio.to_thread(path.open, "xb") as file:
                async for part in content:
                    size += len(part)
                    self._require_within(size)
                    await asyncio.to_thread(file.write, part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _require_within(self, size: int) -> None:
        if size > self._limit:
            raise Invalid("body_too_large", f"body: larger than {self._limit} bytes", layer="api", limit=self._limit)

    async def keep(self, operation: Operation, request: ImportRequest) -> None:
        """Put down what was asked for."""
        secret = {
            "export_key": base64.b64encode(request.export_key).decode(),
            "owner_key": {
                "id": request.owner_key.id,
                "secret": request.owner_key.secret,
                "expires_at": request.owner_key.expires_at.isoformat(),
            },
        }
        wrapped = await self._wrapper.wrap(json.dumps(secret).encode(), context=_context(operation))
        kept = {"slug": request.slug, "secret": base64.b64encode(wrapped).decode()}
        await asyncio.to_thread(replace_file, self._beside(operation), json.dumps(kept))

    async def request(self, operation: Operation) -> ImportRequest:
        """Read it again."""
        self.require_archive(operation)
        kept = json.loads(await asyncio.to_thread(self._beside(operation).read_text))
        opened = await self._wrapper.unwrap(base64.b64decode(kept["secret"]), context=_context(operation))
        secret = json.loads(opened)
        owner = secret["owner_key"]
        return ImportRequest(
            slug=kept["slug"],
            export_key=base64.b64decode(secret["export_key"]),
            owner_key=BootstrapKey(owner["id"], owner["secret"], datetime.fromisoformat(owner["expires_at"])),
        )

    async def remove(self, operation_id: UUID, *, region: str) -> None:
        """Remove both; idempotent."""
        path = self.archive(operation_id, region=region)
        for each in (path, path.with_suffix(".json")):
            await asyncio.to_thread(each.unlink, missing_ok=True)

    def list_operations(self, *, region: str, before: datetime) -> list[UUID]:
        """List the operations of which there are files that old; blocking."""
        return [
            UUID(hex=path.stem)
            for path in sorted((self._home / region / _FOLDER).glob("*.tar"))
            if path.stat().st_mtime < before.timestamp()
        ]

    def _beside(self, operation: Operation) -> Path:
        return self.archive(operation.operation_id, region=operation.target.region).with_suffix(".json")


def _context(operation: Operation) -> bytes:
    return b"tenantry/import/" + operation.tenant_id.bytes + operation.operation_id.bytes
