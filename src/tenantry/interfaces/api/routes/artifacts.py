"""Artifacts that jobs left behind."""

from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.sandboxes.types import Artifact
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routes.jobs import read_job
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()


class ArtifactAnswer(Answer):
    id: str
    job: str
    path: str
    size_bytes: int
    sha256: str
    created_at: Moment


@routes.get("/workspaces/{ws}/jobs/{job}/artifacts", needs=Permission.ARTIFACT_READ)
async def list_artifacts(
    request: Request,
    ws: str,
    job: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ArtifactAnswer]:
    """What the job left behind, with sizes and digests; they remain when the content is gone."""
    unit = unit_of(request)
    owner = await read_job(unit, job)
    found = await unit.jobs.list_artifacts(
        owner.job_id, workspace_id=unit.workspace_id, after=after(unit, cursor), limit=limit + 1
    )
    items = [render(artifact) for artifact in found]
    return Page[ArtifactAnswer](**page(unit, items, ids=[a.artifact_id for a in found], limit=limit))


@routes.get(
    "/workspaces/{ws}/jobs/{job}/artifacts/{artifact}/content",
    needs=Permission.ARTIFACT_READ,
    media_type="application/octet-stream",
)
async def get_content(request: Request, ws: str, job: str, artifact: str) -> Response:
    """The content, streamed; opened as it goes, so a damaged one breaks off."""
    unit = unit_of(request)
    job_id = parse_id(Prefix.JOB, job)
    owner, found, key = await unit.jobs.get_artifact(
        job_id, parse_id(Prefix.ARTIFACT, artifact), workspace_id=unit.workspace_id
    )
    unit.judge(environment=owner.environment, labels=owner.labels)
    unit.show_tag(found.sha256.hex())
    content = unit.runtime.content[unit.scope.region].get_artifact(
        key, tenant_id=unit.scope.tenant_id, job=owner, artifact_id=found.artifact_id
    )
    name = quote(found.path.rpartition("/")[2], safe="")
    headers = {
        "Content-Length": str(found.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


def render(artifact: Artifact) -> ArtifactAnswer:
    return ArtifactAnswer(
        id=format_id(Prefix.ARTIFACT, artifact.artifact_id),
        job=format_id(Prefix.JOB, artifact.job_id),
        path=artifact.path,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256.hex(),
        created_at=artifact.created_at,
    )
