"""All SQL of images."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import (
    Image,
)
from tenantry.foundation.database.session import TenantSession

_IMAGE: Final = "image_id, name, digest, size_bytes, source, created_at, created_by"


async def insert_image(session: TenantSession, image: Image, *, workspace_id: UUID) -> bool:
    """Insert, or tell False when the name is taken in the workspace."""
    row = await session.fetchrow(
        f"""insert into images (tenant_id, workspace_id, {_IMAGE}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (tenant_id, workspace_id, name) do nothing returning image_id""",
        session.scope.tenant_id,
        workspace_id,
        image.image_id,
        image.name,
        image.digest,
        image.size_bytes,
        image.source,
        image.created_at,
        image.created_by,
    )
    return row is not None


async def find_image(
    session: TenantSession, *, workspace_id: UUID, image_id: UUID | None = None, name: str | None = None
) -> Image | None:
    row = await session.fetchrow(
        f"""select {_IMAGE} from images
            where tenant_id = $1 and workspace_id = $2 and (image_id = $3 or name = $4)""",
        session.scope.tenant_id,
        workspace_id,
        image_id,
        name,
    )
    return Image(**row) if row else None


async def list_images(session: TenantSession, *, workspace_id: UUID, after: UUID | None, limit: int) -> list[Image]:
    rows = await session.fetch(
        f"""select {_IMAGE} from images
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or image_id > $3)
            order by image_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [Image(**row) for row in rows]


async def delete_image(session: TenantSession, image_id: UUID) -> None:
    await session.execute(
        "delete from images where tenant_id = $1 and image_id = $2", session.scope.tenant_id, image_id
    )


async def list_wanted_digests(session: TenantSession) -> set[str]:
    """List what the tenant's images and its open jobs start from."""
    rows = await session.fetch(
        """select digest from images where tenant_id = $1
           union select image_digest from jobs
           where tenant_id = $1 and status in ('queued', 'running') and image_digest is not null""",
        session.scope.tenant_id,
    )
    return {row["digest"] for row in rows}


async def list_image_sizes(session: TenantSession) -> list[tuple[UUID, str, int]]:
    """List all images of the tenant, each with the digest of its root and what it counts for."""
    rows = await session.fetch(
        "select image_id, digest, size_bytes from images where tenant_id = $1 order by image_id",
        session.scope.tenant_id,
    )
    return [(row["image_id"], row["digest"], row["size_bytes"]) for row in rows]


async def set_image_size(session: TenantSession, image_id: UUID, size: int) -> None:
    await session.execute(
        "update images set size_bytes = $3 where tenant_id = $1 and image_id = $2",
        session.scope.tenant_id,
        image_id,
        size,
    )


async def size_images(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, int]:
    rows = await session.fetch(
        "select image_id, size_bytes from images where tenant_id = $1 and image_id = any ($2::uuid[])",
        session.scope.tenant_id,
        list(ids),
    )
    return {row["image_id"]: row["size_bytes"] for row in rows}
