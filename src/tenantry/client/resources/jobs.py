import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tenantry.client.calls import Call, get, given, post
from tenantry.client.logs import LogLine, log_line
from tenantry.client.operations import Download, Following, Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.phase_types import JobPhases
from tenantry.client.saving import Saving
from tenantry.client.secret_types import SecretUse
from tenantry.client.types import Artifact, Connection, GivenInput, Job, JobInput, JobLimits

T = TypeVar("T")


def job_input(*, path: str, content: bytes) -> JobInput:
    """Make a file for `create`; `path` is relative to /inputs, where the job finds it, read-only."""
    return JobInput(path=path, content_base64=base64.b64encode(content).decode("ascii"))


class Jobs(Resource[T]):
    """Commands in fresh sandboxes."""

    @Operation
    def create(
        self,
        workspace: str,
        /,
        *,
        command: Sequence[str] | None = None,
        phases: JobPhases | None = None,
        image: str = "host",
        env: Mapping[str, str] | None = None,
        inputs: Sequence[JobInput] | None = None,
        artifacts: Sequence[str] | None = None,
        limits: JobLimits | None = None,
        labels: Mapping[str, str] | None = None,
        network: Sequence[Connection] | None = None,
        secrets: Sequence[SecretUse] | None = None,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Call[Job]:
        """Answer at once, or with `wait_seconds` when the job ended or the time is over, whichever is first.

        Give one of `command` and `phases`. `artifacts` are globs of what to keep, `network` is what it may connect to.
        Raises ApiError 403 when a policy denies it; `members["job"]` is the recorded denial.
        """
        body = given(
            command=None if command is None else list(command),
            phases=phases,
            image=image,
            env=env,
            inputs=inputs,
            artifacts=artifacts,
            limits=limits,
            labels=labels,
            network=network,
            secrets=secrets,
            **more,
        )
        return post(
            "workspaces",
            workspace,
            "jobs",
            json=body,
            query={"wait": wait_seconds},
            wait_seconds=wait_seconds or 0,
            idempotency_key=idempotency_key,
        )

    @Operation
    def get(self, workspace: str, job: str) -> Call[Job]:
        return get("workspaces", workspace, "jobs", job)

    @Listing
    def list(
        self, workspace: str, *, status: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Plan[Job]:
        return Plan(call=get("workspaces", workspace, "jobs", query={"status": status}), limit=limit, cursor=cursor)

    @Operation
    def cancel(self, workspace: str, job: str) -> Call[Job]:
        return post("workspaces", workspace, "jobs", job, "cancel")

    @Listing
    def logs(self, workspace: str, job: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[LogLine]:
        """Read what there is now. Raises ApiError 410 when it is no longer kept."""
        call = get("workspaces", workspace, "jobs", job, "logs", query={"follow": False})
        return Plan(call=call, limit=limit, cursor=cursor, item=log_line)

    @Following
    def follow(self, workspace: str, job: str, *, after_seq: int | None = None) -> tuple[Call[Any], int | None]:
        """Lines as they come, a JobEnd at last; broken connections are taken up where they ended."""
        return get("workspaces", workspace, "jobs", job, "logs"), after_seq

    @Listing
    def artifacts(
        self, workspace: str, job: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Plan[Artifact]:
        return Plan(call=get("workspaces", workspace, "jobs", job, "artifacts"), limit=limit, cursor=cursor)

    @Download
    def download(self, workspace: str, job: str, artifact: str, *, to: Path, sha256: str | None = None) -> Saving:
        """Write one artifact to the file `to`, whole or not at all; give `sha256` to have it checked."""
        call = get("workspaces", workspace, "jobs", job, "artifacts", artifact, "content")
        return Saving(call=call, to=to, sha256=sha256)

    @Listing
    def inputs(self, workspace: str, job: str) -> Plan[GivenInput]:
        """List what the job was given; sizes and digests remain when the content is gone."""
        return Plan(call=get("workspaces", workspace, "jobs", job, "inputs"))

    @Download
    def download_input(self, workspace: str, job: str, sha256: str, *, to: Path) -> Saving:
        """Write the input with this digest to the file `to`, checked, whole or not at all."""
        call = get("workspaces", workspace, "jobs", job, "inputs", sha256, "content")
        return Saving(call=call, to=to, sha256=sha256)

    @Operation
    def explain(self, workspace: str, job: str) -> Call[dict[str, Any]]:
        """Tell why a job waits, what goes before it, when it may start, and what would help."""
        return get("workspaces", workspace, "jobs", job, "explain")

    @Operation
    def receipt(self, workspace: str, job: str) -> Call[dict[str, Any]]:
        """Tell the isolation it really had, read back from the kernel."""
        return get("workspaces", workspace, "jobs", job, "receipt")
