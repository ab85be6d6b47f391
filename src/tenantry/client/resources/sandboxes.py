from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tenantry.client.calls import Call, delete, get, given, patch, post
from tenantry.client.operations import Listing, Operation
from tenantry.client.pages import Plan
from tenantry.client.resources.sandbox_access import SandboxAccess
from tenantry.client.sandbox_types import Sandbox, Snapshot
from tenantry.client.secret_types import SecretUse
from tenantry.client.types import Connection

T = TypeVar("T")


class Sandboxes(SandboxAccess[T]):
    """Places to run commands in that live until they are stopped."""

    @Operation
    def create(
        self,
        workspace: str,
        /,
        *,
        name: str,
        image: str = "host",
        env: Mapping[str, str] | None = None,
        limits: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        network: Sequence[Connection] | None = None,
        secrets: Sequence[SecretUse] | None = None,
        ttl_seconds: int | None = None,
        idle_seconds: int | None = None,
        start: bool = True,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Call[Sandbox]:
        """Make one and start it; with `wait_seconds` the answer comes when it runs, or the time is over.

        `limits` are cpus, memory_mib and pids; `more`: environment. Raises ApiError 403 when a policy denies it.
        """
        body = given(
            name=name,
            image=image,
            env=env,
            limits=limits,
            labels=labels,
            network=network,
            secrets=secrets,
            ttl_seconds=ttl_seconds,
            idle_seconds=idle_seconds,
            start=start,
            **more,
        )
        return post(
            "workspaces",
            workspace,
            "sandboxes",
            json=body,
            query={"wait": wait_seconds},
            wait_seconds=wait_seconds or 0,
            idempotency_key=idempotency_key,
        )

    @Operation
    def get(self, workspace: str, sandbox: str) -> Call[Sandbox]:
        return get("workspaces", workspace, "sandboxes", sandbox)

    @Listing
    def list(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Sandbox]:
        """List them, the latest first."""
        return Plan(call=get("workspaces", workspace, "sandboxes"), limit=limit, cursor=cursor)

    @Operation
    def update(
        self,
        workspace: str,
        sandbox: str,
        *,
        labels: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        idle_seconds: int | None = None,
        if_match: str | None = None,
    ) -> Call[Sandbox]:
        """Change labels, how long it lives from a start on, and how long it may be idle: at once."""
        body = given(labels=labels, ttl_seconds=ttl_seconds, idle_seconds=idle_seconds)
        return patch("workspaces", workspace, "sandboxes", sandbox, json=body, if_match=if_match)

    @Operation
    def delete(self, workspace: str, sandbox: str, *, if_match: str | None = None) -> Call[None]:
        """End it, with its kept files and its snapshots."""
        return delete("workspaces", workspace, "sandboxes", sandbox, if_match=if_match)

    @Operation
    def start(
        self,
        workspace: str,
        sandbox: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Sandbox]:
        """Start a stopped one, with the files that its stop has kept; one that runs stays as it is."""
        return _did(workspace, sandbox, "start", wait_seconds=wait_seconds, idempotency_key=idempotency_key)

    @Operation
    def stop(
        self,
        workspace: str,
        sandbox: str,
        *,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Sandbox]:
        """Kill what runs in it; `files_kept` says whether its files are kept, else they go."""
        return _did(workspace, sandbox, "stop", wait_seconds=wait_seconds, idempotency_key=idempotency_key)

    @Operation
    def extend(
        self, workspace: str, sandbox: str, *, seconds: int | None = None, idempotency_key: str | None = None
    ) -> Call[Sandbox]:
        """Let a running one live for so many seconds from now on, its ttl_seconds unless told."""
        return _did(workspace, sandbox, "extend", body=given(seconds=seconds), idempotency_key=idempotency_key)

    @Operation
    def snapshot(
        self, workspace: str, sandbox: str, *, name: str, idempotency_key: str | None = None
    ) -> Call[Snapshot]:
        """Keep its files as they are now, while it runs or not."""
        body = {"name": name}
        return _did(workspace, sandbox, "snapshot", body=body, saves=True, idempotency_key=idempotency_key)

    @Listing
    def snapshots(
        self, workspace: str, sandbox: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Plan[Snapshot]:
        """List its snapshots, the oldest first."""
        return Plan(call=get("workspaces", workspace, "sandboxes", sandbox, "snapshots"), limit=limit, cursor=cursor)

    @Operation
    def delete_snapshot(self, workspace: str, sandbox: str, snapshot: str) -> Call[None]:
        """Delete it; what was forked from it stays."""
        return delete("workspaces", workspace, "sandboxes", sandbox, "snapshots", snapshot)

    @Operation
    def fork(
        self,
        workspace: str,
        sandbox: str,
        *,
        name: str,
        snapshot: str | None = None,
        start: bool = True,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Sandbox]:
        """Make another like it, whose files begin as a snapshot's, or as its own are now."""
        return _did(
            workspace,
            sandbox,
            "fork",
            body=given(name=name, snapshot=snapshot, start=start),
            wait_seconds=wait_seconds,
            saves=True,
            idempotency_key=idempotency_key,
        )


_SAVE_SECONDS = 300.0
"""How long files may take to be kept."""


def _did(
    workspace: str,
    sandbox: str,
    verb: str,
    *,
    body: Mapping[str, object] | None = None,
    wait_seconds: float | None = None,
    saves: bool = False,
    idempotency_key: str | None,
) -> Call[Any]:
    """Ask for what a verb names; where it `saves` the answer takes its time."""
    return post(
        "workspaces",
        workspace,
        "sandboxes",
        sandbox,
        verb,
        json=body,
        query={"wait": wait_seconds},
        wait_seconds=(wait_seconds or 0) + (_SAVE_SECONDS if saves else 0),
        idempotency_key=idempotency_key,
    )
